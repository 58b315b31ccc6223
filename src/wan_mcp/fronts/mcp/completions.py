"""Completion of the arguments of prompts and of resource addresses; the protocol has none for tools."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from mcp.server.mcpserver import MCPServer
from mcp.types import Completion, CompletionArgument, CompletionContext, PromptReference, ResourceTemplateReference

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.presets import PresetName
from wan_mcp.schema.enums import Kind
from wan_mcp.service.service import JobService

__all__ = ["add_completions"]

MAX_VALUES = 100  # the protocol's limit
JOBS_LOOKED_AT = 50
FROM_AN_IMAGE = ("animate_image",)
"""Prompts whose video begins with an image."""


def add_completions(server: MCPServer[Any], service: JobService) -> None:
    """Add the completions to `server`."""

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(
        reference: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        if isinstance(reference, PromptReference):
            given = (context.arguments or {}) if context else {}
            values = await _prompt_values(service, reference.name, argument.name, given)
        else:
            values = await _ids(service, reference.uri, argument.name)
        begun = argument.value.casefold()
        matching = [value for value in dict.fromkeys(values) if value.casefold().startswith(begun)]
        return Completion(values=matching[:MAX_VALUES], total=len(matching), has_more=len(matching) > MAX_VALUES)


async def _prompt_values(service: JobService, prompt: str, argument: str, given: Mapping[str, str]) -> Iterable[str]:
    catalog = service.catalog
    match argument:
        case "style":
            return sorted(catalog.styles)
        case "model":
            return [model.name for model in _models(catalog, prompt)]
        case "preset":
            return get_args(PresetName)
        case "resolution":
            chosen = [model for model in _models(catalog, prompt) if given.get("model") in (None, "", model.name)]
            return sorted({size.name for model in chosen if model.sizes for size in model.sizes.named})
        case "job_id":
            return [job.id for job in await service.newest(limit=JOBS_LOOKED_AT)]
        case "image":
            jobs = await service.newest(limit=JOBS_LOOKED_AT)
            return [artifact.uri for job in jobs if job.plan.kind is Kind.IMAGE for artifact in job.artifacts]
        case _:
            return ()


def _models(catalog: Catalog, prompt: str) -> list[Manifest]:
    """Return the models that make what a prompt is about, in the order of their names."""
    videos = [model for _, model in sorted(catalog.manifests.items()) if model.frames]
    if prompt in FROM_AN_IMAGE:
        return [model for model in videos if "image-to-video" in model.tasks]
    return videos


async def _ids(service: JobService, template: str, argument: str) -> list[str]:
    if argument != "id":
        return []
    jobs = await service.newest(limit=JOBS_LOOKED_AT)
    if template.startswith("wan://jobs/"):
        return [job.id for job in jobs]
    kind = Kind.VIDEO if template.startswith("wan://videos/") else Kind.IMAGE
    uris = [artifact.uri for job in jobs if job.plan.kind is kind for artifact in job.artifacts]
    return [uri.rpartition("/")[2].partition(".")[0] for uri in uris]
