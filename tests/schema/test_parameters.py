"""One line in a request is a parameter of its tool and an option of its command."""

import json
from typing import Annotated, Any

import anyio
import pytest
import typer
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.types import CallToolResult, TextContent, Tool, ToolAnnotations
from pydantic import Field
from typer.testing import CliRunner

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.main import app
from wan_mcp.fronts.cli.request_options import with_request_options
from wan_mcp.fronts.mcp.tool_builder import build_tool
from wan_mcp.fronts.mcp.tools import WaitS
from wan_mcp.schema.parameters import CliOption, unfold
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, LoraRequest, VideoRequest

OPTIONS = {
    "generate video": "prompt --negative --model --preset --image --frame --last-image --last-image-frame --extend "
    "--resolution --duration --frames --steps --guidance --guidance-2 --turbo --seed --style --lora --count "
    "--check --pick --shot "
    "--output --force --json --detach --open --download --dry-run",
    "generate image": "prompt --negative --model --preset --image --frame --strength --resolution --steps --guidance "
    "--seed --style --lora --count --check --pick --output --force --json --detach --open --download --dry-run",
    "caption": "image --frame --model --type --length --prompt --option --seed more --output --force --json --detach "
    "--download --dry-run",
}


class AudibleRequest(VideoRequest):
    """A request with one parameter more."""

    loudness: Annotated[float | None, Field(ge=0, le=1, description="How loud it is."), CliOption("--volume")] = None


async def hear(request: AudibleRequest, wait_s: WaitS = None) -> Annotated[CallToolResult, AudibleRequest]:
    """Say what was asked for."""
    return CallToolResult(content=[], structured_content=request.model_dump(mode="json"))


def ask(*calls: dict[str, Any]) -> tuple[Tool, list[CallToolResult]]:
    """The tool over such a request as clients see it, and its answers to `calls`."""

    async def asking() -> tuple[Tool, list[CallToolResult]]:
        server: MCPServer[Any] = MCPServer("x", tools=[build_tool(unfold(hear), "Hear", ToolAnnotations())])
        async with Client(server) as client:
            [tool] = (await client.list_tools()).tools
            return tool, [await client.call_tool("hear", arguments) for arguments in calls]

    return anyio.run(asking)


def refusal(answer: CallToolResult) -> str:
    """The words of an answer that is an error."""
    [block] = answer.content
    assert answer.is_error
    assert isinstance(block, TextContent)
    return block.text


def test_one_line_in_a_request_is_a_parameter_of_its_tool() -> None:
    tool, [heard, too_loud, misspelt] = ask(
        {"prompt": "rain", "loudness": "0.5", "seed": None, "wait_s": 3},
        {"prompt": "rain", "loudness": 2},
        {"prompt": "rain", "loudnes": 0.5},
    )
    properties = tool.input_schema["properties"]
    assert list(properties) == [*VideoRequest.parameters(), "loudness", "wait_s"]
    assert properties["loudness"] == {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "description": "How loud it is.",
    }
    assert AudibleRequest.model_validate(heard.structured_content) == AudibleRequest(prompt="rain", loudness=0.5)
    assert refusal(too_loud) == "hear: loudness: must be less than or equal to 1, not 2"
    assert refusal(misspelt) == "hear: no parameter 'loudnes'; did you mean loudness?"


def test_one_line_in_a_request_is_an_option_of_its_command() -> None:
    command = typer.Typer()
    heard: list[AudibleRequest] = []

    @command.command()
    @with_request_options
    def listen(ctx: typer.Context, request: AudibleRequest, again: bool = False) -> None:
        heard.append(request)

    run = CliRunner().invoke(command, ["rain", "--volume", "0.5", "--frames", "9", "--again"])
    assert (run.exit_code, heard) == (0, [AudibleRequest(prompt="rain", loudness=0.5, num_frames=9)])
    assert "How loud it is." in CliRunner().invoke(command, ["--help"]).output
    refused = CliRunner().invoke(command, ["rain", "--volume", "2"])
    assert isinstance(refused.exception, BadRequest)
    assert str(refused.exception) == "loudness: must be less than or equal to 1, not 2"


def test_the_options_of_the_commands_are_a_contract() -> None:
    root: Any = typer.main.get_command(app)

    def written(command: Any) -> str:
        return " ".join(
            next(option for option in parameter.opts if option.startswith("--"))
            if parameter.param_type_name == "option"
            else parameter.name
            for parameter in command.params
        )

    generate = root.commands["generate"].commands
    commands = {f"generate {name}": generate[name] for name in ("video", "image")} | {
        "caption": root.commands["caption"]
    }
    assert {name: written(command) for name, command in commands.items()} == OPTIONS


def test_a_name_that_is_no_parameter_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(BadRequest, match="no parameter 'negativ_prompt'; did you mean negative_prompt"):
        VideoRequest.of({"prompt": "rain", "negativ_prompt": "blur"})
    with pytest.raises(BadRequest, match="no parameter 'wait_s'; available: image, frame, model, caption_type, "):
        CaptionRequest.of({"image": "x.png", "wait_s": 3})


def test_what_was_not_given_has_the_default_of_the_field() -> None:
    assert VideoRequest.of({"prompt": "rain", "lora": None, "count": None, "seed": None}) == VideoRequest(prompt="rain")


def test_requests_are_written_as_in_the_homes_of_0_1_0() -> None:
    """A `request_id` is compared with what the job table holds of its job."""
    video = VideoRequest(prompt="x", lora=(LoraRequest(name="n"),))
    assert json.loads(video.model_dump_json()) == {
        **{"kind": "video", "prompt": "x", "negative_prompt": None, "model": None, "preset": None, "image": None},
        **{"last_image": None, "resolution": None, "duration_s": None, "num_frames": None, "steps": None},
        **{"guidance_scale": None, "guidance_scale_2": None, "turbo": None, "seed": None, "style": None},
        **{"lora": [{"name": "n", "path": None, "scale": 1.0, "expert": None}], "count": 1},
    }
    assert json.loads(ImageRequest(prompt="x").model_dump_json()) == {
        **{"kind": "image", "prompt": "x", "negative_prompt": None, "model": None, "preset": None, "image": None},
        **{"strength": None, "resolution": None, "steps": None, "guidance_scale": None, "seed": None, "style": None},
        **{"lora": [], "count": 1},
    }
    assert json.loads(CaptionRequest(image="x").model_dump_json()) == {
        **{"kind": "caption", "image": "x", "model": None, "caption_type": None, "length": None, "prompt": None},
        **{"extra_options": [], "seed": None},
    }
