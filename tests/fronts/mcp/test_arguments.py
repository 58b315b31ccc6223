"""The arguments of a call: blanks, texts as they were sent, and what hosts add."""

from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator
from mcp.types import Tool

from tests.fixtures.mcp_server import Connect, Runner, png
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

KEYWORDS = {"type", "description", "items", "properties", "required", "minimum", "maximum", "default"}
"""What the converters of OpenAI, Anthropic and Google all read."""
LEAST: dict[str, dict[str, Any]] = {
    "generate_video": {"prompt": "a red circle"},
    "generate_image": {"prompt": "a red circle"},
    "caption_image": {"image": "{image}"},
    "list_resolutions": {},
    "get_job": {"job_id": "{job_id}"},
    "cancel_job": {"job_id": "{job_id}"},
    "list_jobs": {},
    "remix": {"job_id": "{job_id}", "seed": "new"},
    "keep_job": {"job_id": "{job_id}", "kept": False},
    "delete_job": {"job_id": "{job_id}"},
}


def parts(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema and all schemas in it."""
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return [schema, *(part for each in inner for part in parts(each))]


def blank(schema: dict[str, Any], value: str | None) -> Any:
    """A value of `schema` in which everything is left blank."""
    if value == "" and "properties" in schema.get("items", {}):
        return [dict.fromkeys(schema["items"]["properties"], "")]
    return value


async def tools_of(runner: Runner) -> dict[str, Tool]:
    return {tool.name: tool for tool in (await runner.client.list_tools()).tools}


async def test_published_parameters_use_only_keywords_that_every_host_reads(
    settings: Settings, connect: Connect
) -> None:
    async with connect(settings) as runner:
        for tool in (await tools_of(runner)).values():
            for part in parts(tool.input_schema):
                assert part.keys() <= KEYWORDS, tool.name
                optional = part.get("properties", {}).keys() - set(part.get("required", []))
                assert all("null" in part["properties"][name]["type"] for name in optional), tool.name


@pytest.mark.parametrize("value", [None, ""], ids=["null", "empty"])
async def test_a_call_may_fill_in_every_parameter_with_a_blank(
    shared_settings: Settings, connect: Connect, value: str | None
) -> None:
    picture = shared_settings.image_dirs[0] / "blank.png"
    picture.write_bytes(png(64, 64))
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            known = {"{image}": str(picture), "{job_id}": await runner.start()}
            for name, tool in (await tools_of(runner)).items():
                properties = tool.input_schema["properties"]
                least = {key: known.get(text, text) for key, text in LEAST[name].items()}
                filled = {key: blank(schema, value) for key, schema in properties.items()} | least
                if value is None:
                    Draft202012Validator(tool.input_schema).validate(filled)
                answer = await runner.call(name, **filled)
                assert not answer.result.is_error, answer.text
                assert name != "list_jobs" or answer.job["jobs"]


@pytest.mark.parametrize("prompt", ["null", "123", "[1]", '{"a": 1}', '"quoted"', "true", " x ", "1e3", "x\n\n"])
async def test_a_prompt_arrives_as_it_was_sent(shared_settings: Settings, connect: Connect, prompt: str) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            job_id = await runner.start(prompt=prompt, steps=1)
            view = await runner.service.view(job_id)
    assert view.job.plan.prompt_asked == prompt


@pytest.mark.parametrize("text", ["null", "[]", "{}"])
@pytest.mark.parametrize("parameter", ["image", "model", "style", "preset", "resolution", "last_image"])
async def test_a_text_that_looks_like_json_is_a_text(
    shared_settings: Settings, connect: Connect, parameter: str, text: str
) -> None:
    async with connect(shared_settings) as runner:
        given: dict[str, Any] = {"prompt": "a star", parameter: text}
        answer = await runner.call("generate_video", **given)
    assert answer.result.is_error  # there is no such image, model, style …
    assert "must be a text" not in answer.text


async def test_a_list_may_be_sent_as_a_text_of_json(shared_settings: Settings, connect: Connect) -> None:
    async with connect(shared_settings) as runner:
        read = await runner.call("generate_image", prompt="a star", lora='[{"name": "mine"}]')
        unread = await runner.call("generate_image", prompt="a star", lora="mine")
    assert "supports no LoRAs" in read.text
    assert "lora: must be a list" in unread.text


async def test_what_n8n_adds_to_a_call_is_ignored_with_a_note(shared_settings: Settings, connect: Connect) -> None:
    added: dict[str, Any] = {"toolCallId": "call_1", "sessionId": None, "action": "sendMessage", "chatInput": ""}
    note = "ignored what the host added to the call: action, chatInput, sessionId, toolCallId"
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            made = await runner.call("generate_image", prompt="a star", steps=1, **added)
            refused = await runner.call("generate_image", prompt="a star", steps=99, **added)
            misspelt = await runner.call("generate_image", prompt="a star", toolCallID="call_1")
    assert made.job["status"] == "succeeded"
    assert note in made.text
    assert note in made.job["notes"]
    assert "steps 99" in refused.text
    assert note in refused.text
    assert "no parameter 'toolCallID'" in misspelt.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lora": [{"name": "x", "strength": 0.5}]}, "lora.0: no parameter 'strength'; did you mean scale?"),
        ({"lora": [{"name": "x", "nam": "y"}]}, "lora.0: no parameter 'nam'; did you mean name?"),
        ({"num_inference_steps": 4}, "no parameter 'num_inference_steps'; did you mean steps?"),
        ({"cfg": 4}, "no parameter 'cfg'; did you mean guidance_scale?"),
        ({"strenth": 0.4}, "no parameter 'strenth'; did you mean strength?"),
    ],
)
async def test_a_wrong_name_is_answered_with_the_right_one(
    shared_settings: Settings, connect: Connect, given: dict[str, Any], words: str
) -> None:
    async with connect(shared_settings) as runner:
        answer = await runner.call("generate_image", prompt="a star", **given)
    assert answer.result.is_error
    assert words in answer.text


async def test_a_task_and_a_status_mean_the_same_in_capitals(shared_settings: Settings, connect: Connect) -> None:
    async with connect(shared_settings) as runner:
        models = await runner.call("list_resolutions", task="Image-To-Text")
        jobs = await runner.call("list_jobs", status="FAILED")
        wrong = await runner.call("list_jobs", status="done")
    assert "wan-mini-caption" in models.text
    assert not jobs.result.is_error
    assert "'queued', 'running', 'succeeded', 'failed' or 'cancelled'" in wrong.text
