"""Which models are the defaults, in words for the calling model: the embedded ones make shapes of every prompt."""

from mcp.server.mcpserver.tools import Tool

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.schema.enums import Kind
from wan_mcp.service.service import JobService

__all__ = ["default_models_in_words", "naming_its_default"]

TOY = "a toy that knows only flat shapes"
MAKERS = {"generate_video": Kind.VIDEO, "generate_image": Kind.IMAGE, "caption_image": Kind.CAPTION}


def default_models_in_words(service: JobService) -> str:
    """Return which models serve calls that name none, and that toys know little."""
    defaults, catalog = service.settings.default_models, service.catalog
    words = "; ".join(f"{kind}: {_named(name, catalog)}" for kind, name in defaults.items())
    toys = any(_is_toy(name, catalog) for name in defaults.values())
    more = " For anything but shapes, pass a model of list_resolutions that fits this machine." if toys else ""
    return f"Default models: {words}.{more}"


def naming_its_default(tool: Tool, service: JobService) -> Tool:
    """Return a tool whose description names its default model."""
    if tool.name not in MAKERS:
        return tool
    name = service.settings.default_models[MAKERS[tool.name]]
    toy = " (toy: flat shapes)" if _is_toy(name, service.catalog) else ""
    return tool.model_copy(update={"description": f"{tool.description} Default model: {name}{toy}."})


def _named(name: str, catalog: Catalog) -> str:
    return f"{name}, {TOY}" if _is_toy(name, catalog) else name


def _is_toy(name: str, catalog: Catalog) -> bool:
    manifest = catalog.manifests.get(name)
    return manifest is not None and manifest.world is not None
