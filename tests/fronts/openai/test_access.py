"""Who may use the video API, and how the guards speak to its clients."""

from typing import Any

import openai
import pytest

from tests.fixtures.video_api import SORA_ENDS, Serve
from tests.support.http_fronts import site
from wan_mcp.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(SORA_ENDS)]
TOKEN = "a long secret"


async def test_the_token_is_the_api_key(settings: Settings) -> None:
    with_token = settings.model_copy(update={"http_token": TOKEN})
    async with site(with_token, "0.0.0.0") as http:
        async with openai.AsyncOpenAI(api_key=TOKEN, base_url=f"{http.url}/v1") as client:
            assert "wan-mini" in [model.id async for model in client.models.list()]
        for key in ("wrong", TOKEN + "x"):
            async with openai.AsyncOpenAI(api_key=key, base_url=f"{http.url}/v1", max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError, match="WAN_MCP_HTTP_TOKEN") as refused:
                    await client.videos.create(prompt="x")
            assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")
        for path in ("/openapi.json", "/v1/openapi.json", "/v1/models"):
            assert (await http.web.get(path)).status_code == 401


async def test_the_guards_speak_the_language_of_the_api(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api:
        origin = await api.web.get("/v1/models", headers={"Origin": "https://evil.example"})
        host = await api.web.get("/v1/models", headers={"Host": "evil.example"})
        elsewhere = await api.web.get("/nothing", headers={"Host": "evil.example"})
        unknown = await api.refusal("GET", "/nothing")
        method = await api.web.patch("/v1/videos")
        body = await api.web.post("/v1/videos", content=b"<xml/>", headers={"Content-Type": "text/xml"})
    assert (origin.status_code, origin.json()["error"]["type"]) == (403, "permission_error")
    assert (host.status_code, host.json()["error"]["code"]) == (421, "unknown_host")
    assert elsewhere.headers["content-type"].startswith("text/plain")
    assert (unknown["status"], unknown["code"]) == (404, "unknown_url")
    assert (method.status_code, set(method.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})
    assert method.json()["error"]["code"] == "method_not_allowed"
    assert (body.status_code, body.json()["error"]["type"]) == (415, "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b'{"prompt": "\\ud800"}', 400, "invalid_json"),
        (b'{"prompt": "x", "seed": NaN}', 400, "invalid_json"),
        (b"[" * 200_000, 413, "too_large"),
        (b'{"prompt": "x", "seed": 1e999}', 400, "invalid_type"),
    ],
)
async def test_a_body_that_is_not_json_is_refused(
    settings: Settings, serve: Serve, body: bytes, status: int, code: str
) -> None:
    async with serve(settings) as api:
        answer = await api.web.post("/v1/videos", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_form_that_is_not_one_is_refused(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api:
        answers = [
            await api.web.post("/v1/videos", content=b"x", headers={"Content-Type": "multipart/form-data"}),
            await api.web.post("/v1/videos", files={"prompt": ("a.txt", b"x")}),
            await api.web.post("/v1/videos", files={"a[b": (None, "x")}),
            await api.web.post("/v1/videos", files=[("prompt", (None, "x")), ("prompt", (None, "y"))]),
            await api.web.post("/v1/videos", files=[(f"f{number}", (None, "x")) for number in range(200)]),
            await api.web.post("/v1/videos", files={"prompt": (None, "")}),
        ]
    assert [answer.status_code for answer in answers] == [400] * 6
    errors: list[Any] = [answer.json()["error"]["code"] for answer in answers]
    assert errors == [
        "invalid_form", "invalid_type", "unknown_parameter", "invalid_value", "invalid_form",
        "missing_required_parameter",
    ]  # fmt: skip


async def test_a_body_beyond_the_largest_is_refused_before_it_is_read(settings: Settings, serve: Serve) -> None:
    small = settings.model_copy(update={"image_max_mb": 0.01})
    async with serve(small) as api:
        large = {"prompt": "x", "input_reference": "data:image/png;base64," + "A" * 2_000_000}
        declared = await api.web.post("/v1/videos", json=large)
        chunked = await api.web.post("/v1/videos", files={"prompt": (None, "x"), "input_reference": b"A" * 2_000_000})
    assert (declared.status_code, declared.json()["error"]["code"]) == (413, "too_large")
    assert (chunked.status_code, chunked.json()["error"]["code"]) == (413, "too_large")


async def test_a_client_elsewhere_reads_no_paths(settings: Settings, engine: Any) -> None:
    async with site(engine("dies_at_start"), "0.0.0.0") as http:
        home = str(settings.home)
        made = (
            await http.web.post("/v1/videos", json={"prompt": "x", "lora": [{"path": f"{home}/no.safetensors"}]})
        ).text
    assert home not in made
