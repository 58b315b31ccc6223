"""What a client and its model see before anything is called: names, schemas, and what they cost."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator
from mcp.types import Implementation, PromptReference, ResourceTemplateReference, TextResourceContents, Tool

from tests.fixtures.mcp_server import ERAS, Connect
from wan_mcp.fronts.mcp.guides import GUIDES, guide
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

PARAMETERS = {
    "generate_video": "prompt negative_prompt model preset image frame last_image last_image_frame extend "
    "resolution duration_s num_frames steps guidance_scale guidance_scale_2 turbo seed style lora count check pick "
    "shots wait_s request_id download dry_run",
    "generate_image": "prompt negative_prompt model preset image frame strength resolution steps guidance_scale seed "
    "style lora count check pick wait_s request_id download dry_run",
    "caption_image": "image frame model caption_type length prompt extra_options seed wait_s request_id download "
    "dry_run",
    "list_resolutions": "model task",
    "get_job": "job_id wait_s preview",
    "cancel_job": "job_id",
    "list_jobs": "query kind model status before limit",
    "remix": "job_id prompt seed negative_prompt model preset image frame last_image last_image_frame "
    "extend strength resolution duration_s num_frames steps guidance_scale guidance_scale_2 turbo style lora shots "
    "count check pick caption_type length extra_options wait_s request_id download dry_run",
    "keep_job": "job_id kept",
    "delete_job": "job_id",
}
JOB_FIELDS = "job_id status progress message error artifacts caption notes"
FILE_FIELDS = "uri path url sheet"
PUBLISHED_SCHEMAS = Path(__file__).with_name("published_schemas.json")
MODEL_TOKENS = 3000
LIST_TOKENS = 4500


async def tools_of(settings: Settings, connect: Connect, mode: str = ERAS[1]) -> list[Tool]:
    async with connect(settings, mode) as runner:
        return (await runner.client.list_tools()).tools


def tokens(value: Any) -> int:
    """How many tokens of o200k a value costs as compact JSON. The package has wheels for Linux only."""
    encoding = pytest.importorskip("quicktok").get_encoding("o200k_base")
    return len(encoding.encode(compact(value)))


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def as_sent(tool: Tool) -> dict[str, Any]:
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True)


async def test_the_tools_and_their_parameters_are_a_contract(settings: Settings, connect: Connect) -> None:
    tools = await tools_of(settings, connect)
    assert {tool.name: list(tool.input_schema["properties"]) for tool in tools} == {
        name: parameters.split() for name, parameters in PARAMETERS.items()
    }
    required = {tool.name: tool.input_schema.get("required", []) for tool in tools}
    assert {name: parameters for name, parameters in required.items() if parameters} == {
        "generate_video": ["prompt"],
        "generate_image": ["prompt"],
        "caption_image": ["image"],
        "get_job": ["job_id"],
        "cancel_job": ["job_id"],
        "remix": ["job_id"],
        "keep_job": ["job_id"],
        "delete_job": ["job_id"],
    }


async def test_every_field_of_a_request_can_be_asked_for(settings: Settings, connect: Connect) -> None:
    parameters = {tool.name: set(tool.input_schema["properties"]) for tool in await tools_of(settings, connect)}
    for name, request in (
        ("generate_video", VideoRequest),
        ("generate_image", ImageRequest),
        ("caption_image", CaptionRequest),
    ):
        assert set(request.model_fields) - {"kind"} <= parameters[name]
        assert set(request.model_fields) - {"kind"} <= parameters["remix"]


def without_descriptions(schema: Any) -> Any:
    """The schema with names, types, bounds, defaults and what is required, but not the words."""
    if isinstance(schema, list):
        return [without_descriptions(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    properties = {name: without_descriptions(value) for name, value in schema.get("properties", {}).items()}
    rest = {
        key: without_descriptions(value) for key, value in schema.items() if key not in ("description", "properties")
    }
    return rest | ({"properties": properties} if properties else {})


async def test_published_schemas_change_only_on_purpose(settings: Settings, connect: Connect) -> None:
    """Clients are written against these; a change is an edit of published_schemas.json."""
    published: dict[str, Any] = {}
    for tool in await tools_of(settings, connect):
        result = without_descriptions(tool.output_schema)
        what = tool.name if tool.name.startswith("list_") else "job"
        assert published.setdefault(f"{what} result", result) == result
        published[f"{tool.name} parameters"] = without_descriptions(tool.input_schema)
    assert published == json.loads(PUBLISHED_SCHEMAS.read_text(encoding="utf-8"))


async def test_results_of_jobs_have_a_published_schema(settings: Settings, connect: Connect) -> None:
    tools = {tool.name: tool for tool in await tools_of(settings, connect)}
    for name in PARAMETERS.keys() - {"list_resolutions", "list_jobs"}:
        schema = tools[name].output_schema
        assert schema is not None
        assert list(schema["properties"]) == schema["required"] == JOB_FIELDS.split()
        assert list(schema["properties"]["artifacts"]["items"]["properties"]) == FILE_FIELDS.split()
        assert schema["properties"]["caption"] == {"type": ["string", "null"]}
    assert tools["list_resolutions"].output_schema is not None
    assert tools["list_jobs"].output_schema is not None


async def test_every_schema_is_valid_and_needs_no_references(settings: Settings, connect: Connect) -> None:
    for tool in await tools_of(settings, connect):
        for schema in (tool.input_schema, tool.output_schema):
            assert schema is not None
            Draft202012Validator.check_schema(schema)
            assert "$ref" not in compact(schema)


async def test_every_tool_has_a_title_a_description_and_honest_hints(settings: Settings, connect: Connect) -> None:
    tools = await tools_of(settings, connect)
    for tool in tools:
        assert tool.title
        assert tool.description
        assert tool.annotations is not None
        assert tool.annotations.open_world_hint is False
        for name, parameter in tool.input_schema["properties"].items():
            assert parameter.get("description"), f"{tool.name}.{name}"
    hints = {tool.name: tool.annotations for tool in tools if tool.annotations}
    assert {name for name, hint in hints.items() if hint.read_only_hint} == {"list_resolutions", "get_job", "list_jobs"}
    assert {name for name, hint in hints.items() if hint.destructive_hint} == {"cancel_job", "delete_job"}


async def test_the_tools_cost_a_model_at_most_3000_tokens(settings: Settings, connect: Connect) -> None:
    """Most hosts give a model names, descriptions and parameters; some add the schemas of results."""
    tools = [as_sent(tool) for tool in await tools_of(settings, connect)]
    given = ("name", "description", "inputSchema")
    assert tokens([{key: tool[key] for key in given} for tool in tools]) <= MODEL_TOKENS
    assert tokens([{key: tool[key] for key in (*given, "outputSchema")} for tool in tools]) <= LIST_TOKENS


@pytest.mark.parametrize(
    ("wish", "tool"),
    [
        ("make a picture of a cat", "generate_image"),
        ("animate a picture", "generate_video"),
        ("list models", "list_resolutions"),
        ("describe a photo", "caption_image"),
        ("stop a running job", "cancel_job"),
        ("history of my videos", "list_jobs"),
        ("progress of a job", "get_job"),
        ("search old videos", "list_jobs"),
        ("same prompt with another seed", "remix"),
        ("throw away a job", "delete_job"),
        ("protect a job", "keep_job"),
    ],
)
async def test_a_host_that_loads_tools_on_demand_finds_the_right_one(
    settings: Settings, connect: Connect, wish: str, tool: str
) -> None:
    """Claude Code looks at names, descriptions and these hints, and ranks by the words they share."""
    hints = {each.name: (each.meta or {})["anthropic/searchHint"] for each in await tools_of(settings, connect)}
    wanted = {word for word in wish.split() if len(word) > 2}
    found = {name: len(wanted & set(re.findall(r"\w+", hint))) for name, hint in hints.items()}
    assert found[tool] == max(found.values()) > 0


async def test_both_eras_see_the_same_tools_again_and_again(settings: Settings, connect: Connect) -> None:
    legacy, modern, again = [
        [as_sent(tool) for tool in await tools_of(settings, connect, mode)] for mode in (*ERAS, ERAS[1])
    ]
    assert legacy == modern
    assert compact(modern) == compact(again)  # to the letter: prompt caches depend on it


async def test_resources_and_prompts_are_listed(settings: Settings, connect: Connect) -> None:
    async with connect(settings) as runner:
        resources = (await runner.client.list_resources()).resources
        templates = (await runner.client.list_resource_templates()).resource_templates
        prompts = (await runner.client.list_prompts()).prompts
    skills = [f"skill://wan-mcp/wan-{name}/SKILL.md" for name in GUIDES]
    guides = [f"wan://guides/{name}" for name in GUIDES]
    addresses = ["ui://wan/player.html", *skills, "wan://gallery", *guides]
    assert [resource.uri for resource in resources] == addresses
    assert {template.uri_template for template in templates} == {
        "wan://videos/{id}.mp4{?offset,length}",
        "wan://videos/{id}.sheet.jpg",
        "wan://videos/{id}.poster.jpg",
        *(f"wan://videos/{{id}}.{ending}{{?offset,length}}" for ending in ("gif", "webm", "webp")),
        "wan://images/{id}.png{?offset,length}",
        *(f"wan://images/{{id}}.{ending}{{?offset,length}}" for ending in ("jpg", "webp")),
        "wan://jobs/{id}",
    }
    assert [prompt.name for prompt in prompts] == ["make_video", "animate_image", "storyboard", "vary_result"]


async def test_a_prompt_carries_the_wishes(settings: Settings, connect: Connect) -> None:
    async with connect(settings) as runner:
        video = await runner.client.get_prompt("make_video", {"idea": "a ring that grows", "style": "noir"})
        still = await runner.client.get_prompt("animate_image", {"image": "wan://images/x.png"})
    assert "a ring that grows. Use style 'noir'." in compact(video.model_dump(mode="json"))
    assert "wan://images/x.png" in compact(still.model_dump(mode="json"))


async def test_guides_are_resources_and_parts_of_the_prompts(settings: Settings, connect: Connect) -> None:
    given = {
        "make_video": {"idea": "x"},
        "animate_image": {"image": "wan://images/x.png"},
        "storyboard": {"story": "y"},
    }
    async with connect(settings) as runner:
        said = [compact((await runner.client.get_prompt(*each)).model_dump(mode="json")) for each in given.items()]
        for name in GUIDES:
            [content] = (await runner.client.read_resource(f"wan://guides/{name}")).contents
            assert isinstance(content, TextResourceContents)
            assert (content.mime_type, content.text.startswith("# ")) == ("text/markdown", True)
            assert any(compact(content.text)[1:-1] in text for text in said)


async def test_parameters_and_calls_of_the_guides_are_those_of_the_tools(settings: Settings, connect: Connect) -> None:
    tools = {tool.name: tool.input_schema["properties"] for tool in await tools_of(settings, connect, ERAS[1])}
    words = set(tools) | {name for properties in tools.values() for name in properties}
    for name in GUIDES:
        quoted = re.findall(r"`([a-z_]+)(?:=[^`]*)?`", guide(name))
        assert quoted and set(quoted) <= words, set(quoted) - words


@pytest.mark.parametrize("mode", ERAS)
async def test_everything_has_a_small_icon(settings: Settings, connect: Connect, mode: str) -> None:
    async with connect(settings, mode) as runner:
        listed: list[Any] = [
            *(await runner.client.list_tools()).tools,
            *(await runner.client.list_prompts()).prompts,
            *(resources := await runner.client.list_resources()).resources,
        ]
        server = runner.client.server_info
    if server is None:  # of the newer protocol it comes with each result
        server = Implementation.model_validate((resources.meta or {})["io.modelcontextprotocol/serverInfo"])
    for each in (server, *listed):
        assert each.icons is not None, each.name
        [icon] = each.icons
        kind, _, drawing = icon.src.partition(",")
        assert (kind, icon.mime_type) == ("data:image/svg+xml", "image/svg+xml")
        assert re.fullmatch(r"([\w\-.~!*'()/:=,;]|%[0-9A-F]{2})+", drawing, re.ASCII), "only what a URI may contain"
        assert len(icon.src) < 600
        ElementTree.fromstring(unquote(drawing))


async def test_styles_models_sizes_and_ids_are_completed(settings: Settings, connect: Connect) -> None:
    prompt = PromptReference(type="ref/prompt", name="make_video")
    job = ResourceTemplateReference(type="ref/resource", uri="wan://jobs/{id}")
    ranged = "wan://videos/{id}.mp4{?offset,length}"
    async with connect(settings) as runner:

        async def complete(reference: PromptReference | ResourceTemplateReference, name: str, value: str) -> list[str]:
            argument = {"name": name, "value": value}
            return (await runner.client.complete(reference, argument)).completion.values

        job_id = await runner.start()
        assert await complete(prompt, "style", "c") == ["cinematic", "claymation"]
        assert await complete(prompt, "model", "wan-mi") == ["wan-mini"]
        assert await complete(prompt, "resolution", "lan") == ["landscape"]
        assert await complete(prompt, "resolution", "LAN") == ["landscape"]
        assert await complete(prompt, "preset", "b") == ["best"]
        assert await complete(prompt, "idea", "") == []
        animated = PromptReference(type="ref/prompt", name="animate_image")
        assert "wan2.2-t2v-a14b" in await complete(prompt, "model", "")
        assert "wan2.2-t2v-a14b" not in await complete(animated, "model", "")
        assert "wan2.2-i2v-a14b" in await complete(animated, "model", "")
        assert await complete(PromptReference(type="ref/prompt", name="vary_result"), "job_id", "") == [job_id]
        assert await complete(ResourceTemplateReference(type="ref/resource", uri=ranged), "offset", "") == []
        picture = await runner.call("generate_image", prompt="a star", steps=1)
        uri = picture.job["artifacts"][0]["uri"]
        assert await complete(animated, "image", "wan://") == [uri]
        for address in ("wan://images/{id}.png{?offset,length}", "wan://images/{id}.jpg{?offset,length}"):
            template = ResourceTemplateReference(type="ref/resource", uri=address)
            assert await complete(template, "id", "") == [uri.rpartition("/")[2].removesuffix(".png")]
        assert await complete(job, "id", job_id[:3]) == [job_id]
