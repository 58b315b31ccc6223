"""Prompts for people, and completion of the arguments of prompts and resource addresses."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    Prompt,
    PromptReference,
    ResourceTemplateReference,
)
from pydantic import Field

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.schema.enums import Kind
from wan_mcp.service.service import JobService
from wan_mcp.text import suggestion

__all__ = ["add_prompts", "wrong_prompt"]

MAX_VALUES = 100  # the protocol's limit
JOBS_LOOKED_AT = 50
SHOWN = 60  # characters of a name that was refused


def add_prompts(server: MCPServer[Any], service: JobService) -> None:
    """Add the prompts and completions to `server`."""

    @server.prompt(title="Make a video")
    def make_video(
        idea: Annotated[str, Field(description="What the video should show.")],
        style: Annotated[str, Field(description="A style preset.")] = "",
        model: Annotated[str, Field(description="The model to use.")] = "",
        resolution: Annotated[str, Field(description="A named size of the model.")] = "",
    ) -> str:
        """Turn an idea into a finished video: check the result, and improve it once if needed."""
        wishes = {"style": style, "model": model, "resolution": resolution}
        given = "".join(f" Use {name} '{value}'." for name, value in wishes.items() if value)
        return (
            f"Make a video: {idea}.{given}\n"
            "First call list_resolutions to see what the models can do. Write a prompt in their words: subject, "
            "motion, setting, camera, light. Call generate_video, and get_job until it is done. Look at the sheet of "
            "frames; if it misses the idea, try once more with a better prompt. End with the path of the file and "
            "its seed."
        )

    @server.prompt(title="Animate an image")
    def animate_image(
        image: Annotated[str, Field(description="Path or wan:// address of the image.")],
        motion: Annotated[str, Field(description="What should happen in it.")] = "",
    ) -> str:
        """Turn an image into a video that starts with it."""
        wish = f"What should happen: {motion}." if motion else "Choose a motion that suits the image."
        return (
            f"Animate the image {image}. {wish}\n"
            "Call caption_image to see what it shows, then generate_video with image and a prompt that names the "
            "subject and its motion. End with the path of the file."
        )

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(
        reference: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        if isinstance(reference, PromptReference):
            model = (context.arguments or {}).get("model") if context else None
            values = _prompt_values(service.catalog, argument.name, model)
        else:
            values = await _ids(service, reference.uri)
        matching = [value for value in values if value.startswith(argument.value)]
        return Completion(values=matching[:MAX_VALUES], total=len(matching), has_more=len(matching) > MAX_VALUES)


def wrong_prompt(prompts: Iterable[Prompt], name: str, given: Mapping[str, str]) -> str | None:
    """Return what is wrong with a request for a prompt, and what is allowed; None if nothing is."""
    by_name = {prompt.name: prompt for prompt in prompts}
    if name not in by_name:
        return f"no prompt '{name[:SHOWN]}'; {suggestion(name, by_name)}"
    arguments = {argument.name: argument for argument in by_name[name].arguments or []}
    unknown = [f"no argument '{each[:SHOWN]}'; {suggestion(each, arguments)}" for each in given.keys() - arguments]
    missing = [
        f"argument '{each}' is missing: {argument.description}"
        for each, argument in arguments.items()
        if argument.required and not given.get(each)
    ]
    return f"{name}: {'; '.join([*sorted(unknown), *missing])}" if unknown or missing else None


def _prompt_values(catalog: Catalog, name: str, model: str | None) -> Iterable[str]:
    match name:
        case "style":
            return sorted(catalog.styles)
        case "model":
            return sorted(m.name for m in catalog.manifests.values() if m.frames)
        case "resolution":
            chosen = [m for m in catalog.manifests.values() if m.sizes and m.frames and model in (None, "", m.name)]
            return sorted({size.name for m in chosen if m.sizes for size in m.sizes.named})
        case _:
            return ()


async def _ids(service: JobService, template: str) -> list[str]:
    jobs = await service.newest(limit=JOBS_LOOKED_AT)
    if template.startswith("wan://jobs/"):
        return [job.id for job in jobs]
    kind = Kind.VIDEO if template.startswith("wan://videos/") else Kind.IMAGE
    uris = [artifact.uri for job in jobs if job.plan.kind is kind for artifact in job.artifacts]
    return [uri.rpartition("/")[2].partition(".")[0] for uri in uris]
