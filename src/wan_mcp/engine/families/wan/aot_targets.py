"""Which packages the blocks of a Wan model run in here."""

import json
from pathlib import Path

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.aot.builder import BuildRequest
from wan_mcp.engine.aot.cache_key import cache_key_of, kind_to_dict
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.families.wan.denoiser import blank_denoiser
from wan_mcp.engine.families.wan.denoiser_sources import PARTS
from wan_mcp.engine.families.wan.precision import block_kinds, scheme_for
from wan_mcp.errors import BadRequest
from wan_mcp.schema.enums import RequestedPrecision
from wan_mcp.settings import Settings
from wan_mcp.weights.installed import installed_weights

__all__ = ["aot_targets"]

INDEX = "model_index.json"


def aot_targets(
    manifest: Manifest, settings: Settings, device: Device, precision: RequestedPrecision
) -> list[BuildRequest]:
    """Return one for each kind of block that the model has on this device; none where diffusers runs them.

    Raises:
        BadRequest: files of the model are not here; names them and what brings them.
        JobFailed: the manifest or the weights' configuration is at fault.
        WeightsUnavailable: a file was changed since it came.
    """
    scheme = scheme_for(manifest, device, precision)
    if scheme is None:
        return []
    folder = _folder(manifest, settings)
    kinds = set()
    with translate_load_errors(manifest, folder):
        per_token = bool(json.loads((folder / INDEX).read_text()).get("expand_timesteps"))
        for file in sorted(folder / part / "config.json" for part in PARTS):
            if file.is_file():
                config = blank_denoiser(json.loads(file.read_text())).config
                kinds |= set(block_kinds(manifest, config, scheme, device.dtype, temb_per_token=per_token) or ())
    return [
        BuildRequest(kind_to_dict(kind), str(device.torch), cache_key_of(kind, device.torch).hash) for kind in kinds
    ]


def _folder(manifest: Manifest, settings: Settings) -> Path:
    """Return the folder with all of the model's configuration.

    Raises:
        BadRequest: it does not; names what is missing and what brings it.
        WeightsUnavailable: a file was changed since it came.
    """
    name, pull = manifest.name, f"wan-mcp pull {manifest.name}"
    if manifest.weights.embedded is not None:
        folder, cure = EMBEDDED / manifest.weights.embedded, "reinstall wan-mcp"
    else:
        weights = installed_weights(manifest, settings.home)
        if weights is None:
            raise BadRequest(f"files of '{name}' are not on this machine, or not all; bring them with: {pull}")
        # All that was locked is here: what is missing was not in the repository, or not asked for, at that time.
        folder, cure = weights.folder, f"bring the newest with: {pull} --update"
    parts = [expert.subfolder for expert in manifest.pipeline.experts] or PARTS[:1]
    needed = [INDEX, *(f"{part}/config.json" for part in parts)]
    missing = [path for path in needed if not (folder / path).is_file()]
    if missing:
        raise BadRequest(f"files of '{name}' are missing in {folder}: {', '.join(missing)}; {cure}")
    return folder
