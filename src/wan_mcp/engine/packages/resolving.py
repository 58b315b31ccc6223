"""Which packages a model's blocks run in here: `python -m wan_mcp.engine.packages.resolving MODEL`, as JSON."""

import json
import sys
from dataclasses import asdict

from wan_mcp.engine.denoisers import blank_denoiser
from wan_mcp.engine.devices import Device, resolve_device
from wan_mcp.engine.packages.building import Wanted
from wan_mcp.engine.packages.identity import facts_of_kind, identity_of
from wan_mcp.engine.packages.lifeline import end_with_parent
from wan_mcp.engine.precision import block_kinds, recipe_for
from wan_mcp.engine.sources import PARTS
from wan_mcp.engine.weights import EMBEDDED
from wan_mcp.errors import BadRequest, JobFailed, UserError, WeightsUnavailable
from wan_mcp.manifests import Catalogue, Manifest
from wan_mcp.presets import Precision
from wan_mcp.settings import Settings
from wan_mcp.weights.local import local_weights

__all__ = ["wanted_packages"]


def wanted_packages(manifest: Manifest, settings: Settings, device: Device, precision: Precision) -> list[Wanted]:
    """One for each kind of block that the model has on this device; none where diffusers runs them.

    Raises:
        BadRequest: the model's weights are not here.
        JobFailed: the manifest or the weights' configuration is at fault.
        WeightsUnavailable: a file was changed since it came.
    """
    if manifest.pipeline.family != "wan" or (recipe := recipe_for(manifest, device, precision)) is None:
        return []
    if manifest.weights.embedded is not None:
        folder = EMBEDDED / manifest.weights.embedded
    else:
        weights = local_weights(manifest, settings.home)
        if weights is None:
            raise BadRequest(f"'{manifest.name}' is not on this machine; bring it with: wan-mcp pull {manifest.name}")
        folder = weights.folder
    per_token = bool(json.loads((folder / "model_index.json").read_text()).get("expand_timesteps"))
    kinds = set()
    for file in sorted(folder / part / "config.json" for part in PARTS):
        if file.is_file():
            config = blank_denoiser(json.loads(file.read_text())).config
            kinds |= set(block_kinds(manifest, config, recipe, device.dtype, times_per_token=per_token) or ())
    foreign = manifest.aot.package_sha256 if manifest.aot else None
    return [
        Wanted(facts_of_kind(kind), str(device.torch), identity_of(kind, device.torch).hash, foreign) for kind in kinds
    ]


def main(model: str) -> str:
    """The wanted packages, or one sentence about why there are none."""
    settings = Settings()
    try:
        found = wanted_packages(
            Catalogue.of(settings.home).get(model), settings, resolve_device(settings.device), settings.precision
        )
    except (UserError, JobFailed, WeightsUnavailable) as error:
        return json.dumps({"error": str(error)})
    return json.dumps({"wanted": [asdict(each) for each in found]})


if __name__ == "__main__":
    end_with_parent()
    sys.stdout.write(main(sys.argv[1]) + "\n")
