"""Prompts for people: each turns a few words into instructions for the model, with the guide that it needs."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.types import Prompt
from pydantic import Field

from wan_mcp.fronts.mcp import icons
from wan_mcp.fronts.mcp.guides import guide
from wan_mcp.text import suggestion

__all__ = ["add_prompts", "wrong_prompt"]

SHOWN = 60  # characters of a name that was refused

Style = Annotated[str, Field(description="A style preset.")]
Model = Annotated[str, Field(description="The model to use.")]
Resolution = Annotated[str, Field(description="A named size of the model.")]
Preset = Annotated[str, Field(description="draft, standard or best.")]


def add_prompts(server: MCPServer[Any]) -> None:
    """Add the prompts to `server`."""

    @server.prompt(title="Make a video", icons=[icons.VIDEO])
    def make_video(
        idea: Annotated[str, Field(description="What the video should show.")],
        style: Style = "",
        model: Model = "",
        resolution: Resolution = "",
        preset: Preset = "",
    ) -> str:
        """Turn an idea into a finished video: check the result, and improve it once if needed."""
        return (
            f"Make a video: {idea}.{_wishes(style=style, model=model, resolution=resolution, preset=preset)}\n"
            "First call list_resolutions to see what the models can do. Write a prompt in their words: subject, "
            "motion, setting, camera, light. Call generate_video, and get_job until it is done. Look at the sheet of "
            "frames; if it misses the idea, try once more with a better prompt. End with the path of the file and "
            f"its seed.\n\n{guide('prompting')}"
        )

    @server.prompt(title="Animate an image", icons=[icons.IMAGE])
    def animate_image(
        image: Annotated[str, Field(description="Path or wan:// address of the image.")],
        motion: Annotated[str, Field(description="What should happen in it.")] = "",
        model: Model = "",
        preset: Preset = "",
    ) -> str:
        """Turn an image into a video that starts with it."""
        wish = f"What should happen: {motion}." if motion else "Choose a motion that suits the image."
        return (
            f"Animate the image {image}. {wish}{_wishes(model=model, preset=preset)}\n"
            "Call caption_image to see what it shows, then generate_video with image and a prompt that names the "
            f"subject and its motion. End with the path of the file.\n\n{guide('image-to-video')}"
        )

    @server.prompt(title="Storyboard", icons=[icons.LIST])
    def storyboard(
        story: Annotated[str, Field(description="What happens, in a few sentences.")],
        shots: Annotated[str, Field(description="How many shots. Default: as many as the story needs.")] = "",
        style: Style = "",
        model: Model = "",
        resolution: Resolution = "",
    ) -> str:
        """Turn a story into shots: drawings first, then a clip of each."""
        number = f" Make {shots} shots." if shots else ""
        return (
            f"Make a storyboard: {story}.{number}{_wishes(style=style, model=model, resolution=resolution)}\n"
            "First call list_resolutions to see what the models can do. Write the shots, draw each, and ask the user "
            f"before you animate them.\n\n{guide('storyboard')}\n\n{guide('prompting')}"
        )

    @server.prompt(title="Vary a result", icons=[icons.JOB])
    def vary_result(
        job_id: Annotated[str, Field(description="The job whose result to vary.")],
        change: Annotated[str, Field(description="What should be different. Default: another seed only.")] = "",
        preset: Preset = "",
    ) -> str:
        """Make an earlier result again, differently."""
        how = f"What should be different: {change}." if change else "Only the seed changes."
        return (
            f"Make the result of job {job_id} again.{_wishes(preset=preset)} {how}\n"
            "Call get_job to see what it was, then remix with the parameters that change and nothing else. Compare "
            f"both results for the user, and name their paths.\n\n{guide('prompting')}"
        )


def _wishes(**wishes: str) -> str:
    return "".join(f" Use {name} '{value}'." for name, value in wishes.items() if value)


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
