"""Which captioner compares a result with its prompt."""

from collections.abc import Iterable

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest, UserError, about
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.settings import ENV_PREFIX, Settings
from wan_mcp.weights.installed import is_installed

__all__ = ["checking_captioner", "resolve_check"]


def resolve_check(
    request: VideoRequest | ImageRequest, manifest: Manifest, catalog: Catalog, settings: Settings
) -> str | None:
    """Return the captioner that checks the results of a request; None if none was asked for.

    It is the default captioner if that one can, else the first that can and is on this machine.

    Raises:
        BadRequest: No captioner here can, or `pick` has nothing to pick from; the message says what to do.
    """
    if request.pick is not None and request.count < 2:
        with about("pick"):
            raise BadRequest("pick needs a count above 1, several results to pick from")
    if request.pick is not None and request.check is False:
        with about("check"):
            raise BadRequest("pick compares the results with the prompt; omit check, or omit pick")
    if not request.check and request.pick is None:
        return None
    if (captioner := checking_captioner(manifest, catalog, settings)) is not None:
        return captioner
    able = _able(manifest, catalog, settings)
    with about("pick" if request.pick else "check"):
        raise BadRequest(
            f"no captioner on this machine can compare results of '{manifest.name}' with a prompt; "
            f"run 'wan-mcp pull {able[0].name}' first, or omit {'pick' if request.pick else 'check'}"
            if able
            else f"no captioner can compare results of '{manifest.name}' with a prompt; {ENV_PREFIX}CAPTION_MODEL may "
            "name one with [caption.check] in its manifest"
        )


def checking_captioner(manifest: Manifest, catalog: Catalog, settings: Settings) -> str | None:
    """Return the captioner on this machine that checks the results of a model; None if there is none."""
    able = _able(manifest, catalog, settings)
    return next((each.name for each in able if is_installed(each, settings.home)), None)


def _able(manifest: Manifest, catalog: Catalog, settings: Settings) -> list[Manifest]:
    return [each for each in _captioners(catalog, settings) if _can_check(each, manifest)]


def _captioners(catalog: Catalog, settings: Settings) -> Iterable[Manifest]:
    """Yield the default captioner, then the others, those of fewer bytes first."""
    every = [each for each in catalog.manifests.values() if each.caption is not None]
    try:
        default = catalog.get(settings.default_models[Kind.CAPTION], Kind.CAPTION).name
    except UserError:
        default = ""
    return sorted(every, key=lambda each: (each.name != default, each.weights.disk_bytes, each.name))


def _can_check(captioner: Manifest, manifest: Manifest) -> bool:
    """Check whether a captioner compares at all, and knows as much of the world as what made the result."""
    spec = captioner.caption
    if spec is None or spec.check is None:
        return False
    return captioner.world is None or manifest.world is not None
