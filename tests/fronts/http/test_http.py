"""The server over HTTP, with real sockets: both eras, media with ranges, who is let in, how it stops."""

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.to_thread import run_sync
from mcp import Client
from mcp.types import CallToolResult

from tests.fixtures.mcp_server import ERAS, Pace, png
from tests.support.http_fronts import Site, running, site
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import UserError
from wan_mcp.fronts.http.app import build_app, listen, run_http
from wan_mcp.fronts.http.guard import is_loopback, refuse_open_door
from wan_mcp.schema.enums import JobState
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
EVERYWHERE = "0.0.0.0"
TOKEN = "a long secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("mode", ERAS)
async def test_results_and_progress_reach_a_client_of_either_era(shared_settings: Settings, mode: str) -> None:
    values: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        values.append(progress)

    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings) as http, http.client(mode) as client:
            answer = await client.call_tool("generate_video", {"prompt": "a star"}, progress_callback=on_progress)
    assert answer.structured_content is not None
    assert answer.structured_content["status"] == "succeeded"
    assert (values[0], values[-1]) == (0, 100)
    assert values == sorted(set(values))


async def test_a_client_that_hangs_up_does_not_stop_its_job(settings: Settings, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(settings) as http, serving(settings) as service:
            with anyio.CancelScope() as call:

                async def hang_up(progress: float, total: float | None, message: str | None) -> None:
                    if progress > 0:
                        call.cancel()

                async with http.client() as client:
                    await client.call_tool("generate_video", {"prompt": "a star"}, progress_callback=hang_up)
            [job] = await service.newest()
            pace.allow(100)
            async with http.client() as client:
                answer = await client.call_tool("get_job", {"job_id": job.id})
    assert answer.structured_content is not None
    assert answer.structured_content["status"] == "succeeded"


async def test_many_fronts_share_one_table_and_one_engine(settings: Settings, pace: Pace) -> None:
    pace.allow(100)
    answers: list[CallToolResult] = []
    with anyio.fail_after(PATIENCE_S):
        async with site(settings) as one, site(settings) as two, anyio.create_task_group() as tasks:

            async def generate(http: Site, seed: int) -> None:
                async with http.client() as client:
                    answers.append(await client.call_tool("generate_image", {"prompt": "a star", "seed": seed}))

            for seed in range(4):
                tasks.start_soon(generate, (one, two)[seed % 2], seed)
    states = [answer.structured_content["status"] for answer in answers if answer.structured_content]
    assert states == ["succeeded"] * 4


async def test_media_are_served_in_other_formats(shared_settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings) as http, http.client() as client:
            addresses = []
            for tool in ("generate_image", "generate_video"):
                answer = await client.call_tool(tool, {"prompt": "a star", "steps": 2})
                assert answer.structured_content is not None
                [artifact] = answer.structured_content["artifacts"]
                addresses.append(artifact["uri"].replace("wan://", "/media/").rpartition(".")[0])
            image, video = addresses
            served = {ending: await http.web.get(f"{image}.{ending}") for ending in ("webp", "jpg", "gif")}
            part = await http.web.get(f"{image}.webp", headers={"Range": "bytes=8-11"})
            broken = await http.web.get(f"{video}.gif")
    assert [(each.status_code, each.headers["Content-Type"]) for each in served.values()][:2] == [
        (200, "image/webp"),
        (200, "image/jpeg"),
    ]
    assert served["gif"].status_code == 404  # of videos only
    assert (part.status_code, part.content) == (206, b"WEBP")
    assert broken.status_code == 500  # what the fake engine calls a video is not one
    assert "cannot be converted to gif" in broken.text


async def test_media_are_served_whole_and_in_ranges(shared_settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings) as http, http.client() as client:
            answer = await client.call_tool("generate_video", {"prompt": "a star", "steps": 2})
            assert answer.structured_content is not None
            [artifact] = answer.structured_content["artifacts"]
            address = artifact["uri"].replace("wan://", "/media/")
            whole = await http.web.get(address)
            part = await http.web.get(address, headers={"Range": "bytes=4-11"})
            beyond = await http.web.get(address, headers={"Range": "bytes=999999999-"})
            head = await http.web.head(address)
            saved = await http.web.head(address, params={"download": "1"})
            known = await http.web.get(address, headers={"If-None-Match": whole.headers["etag"]})
            missing = await http.web.get("/media/videos/nothing.mp4")
            outside = await http.web.get("/media/videos/..%2f..%2fjobs.db")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert whole.content == await anyio.Path(artifact["path"]).read_bytes()
    assert (part.status_code, part.content) == (206, b"ftypmp42")
    assert beyond.status_code == 416
    assert (head.status_code, int(head.headers["content-length"])) == (200, artifact["bytes"])
    assert (missing.status_code, outside.status_code) == (404, 404)
    assert re.fullmatch(r'inline; filename="[\d-]{10}_a-star_s\d+\.mp4"; .*', whole.headers["content-disposition"])
    assert saved.headers["content-disposition"].startswith('attachment; filename="')
    assert known.status_code == 304


@pytest.mark.parametrize("host", ["127.0.0.1", "studio.example"])
async def test_results_carry_urls_that_can_be_fetched(settings: Settings, host: str) -> None:
    settings = settings.model_copy(update={"http_hosts": "studio.example"})
    names: dict[str, str] = {} if host == "127.0.0.1" else {"Host": f"{host}:8000"}
    with anyio.fail_after(PATIENCE_S):
        async with site(settings, **names) as http, http.client() as client:
            answer = await client.call_tool("generate_video", {"prompt": "a star", "steps": 2})
            job = answer.structured_content
            assert job is not None
            [artifact] = job["artifacts"]
            resource = await client.read_resource(f"wan://jobs/{job['job_id']}")
            gallery = await client.read_resource("wan://gallery")
            url, sheet = artifact["url"], artifact["sheet"]
            fetched = await http.web.get(url[url.index("/media/") :])
    assert (fetched.status_code, len(fetched.content)) == (200, artifact["bytes"])
    assert url.startswith(f"{http.url}/media/" if host == "127.0.0.1" else f"http://{host}:8000/media/")
    text = answer.content[0].text  # type: ignore[union-attr]
    assert url in text
    everything = answer.model_dump_json() + resource.model_dump_json() + gallery.model_dump_json()
    if host == "127.0.0.1":  # the client is on this machine
        assert await anyio.Path(artifact["path"]).is_file()
        assert await anyio.Path(sheet).is_file()
        assert "Give the user the file's path" in text
    else:
        assert sheet.startswith(f"http://{host}:8000/media/")
        assert str(settings.home) not in everything
        assert "Give the user the file's URL" in text


async def test_sheets_and_posters_are_served(settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(settings) as http, http.client() as client:
            answer = await client.call_tool("generate_video", {"prompt": "a star", "steps": 2})
            assert answer.structured_content is not None
            [artifact] = answer.structured_content["artifacts"]
            sheet = await http.web.get(artifact["sheet_uri"].replace("wan://", "/media/"))
            poster = await http.web.get(artifact["uri"].replace("wan://", "/media/").replace(".mp4", ".poster.jpg"))
            other = await http.web.get(artifact["uri"].replace("wan://", "/media/").replace(".mp4", ".other.jpg"))
    assert (sheet.status_code, sheet.headers["content-type"], sheet.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert sheet.headers["content-disposition"].endswith(".sheet.jpg")
    assert sheet.headers["etag"]
    assert artifact["poster_uri"] is None  # the fake engine makes none
    assert (poster.status_code, other.status_code) == (404, 404)


async def test_health_says_whether_the_job_table_can_be_used(settings: Settings, tmp_path: Path) -> None:
    async with site(settings) as http:
        well = await http.web.get("/healthz")
    broken = settings.model_copy(update={"home": tmp_path / "broken"})
    broken.home.mkdir()
    broken.database.write_bytes(b"no database at all, but long enough to be read as one " * 100)
    async with site(broken) as http:
        unwell = await http.web.get("/healthz")
    assert (well.status_code, well.json()["status"]) == (200, "ok")
    assert well.json()["engines"] == {"cpu": "off"}
    assert unwell.status_code == 503
    assert "doctor --repair" in unwell.json()["reason"]


@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/media/videos/x.mp4", "/nothing"])
async def test_a_token_guards_every_route(settings: Settings, path: str) -> None:
    guarded = settings.model_copy(update={"http_token": TOKEN})
    async with site(guarded) as http:
        without = await http.web.post(path)
        wrong = await http.web.post(path, headers={"Authorization": "Bearer wrong"})
        basic = await http.web.post(path, headers={"Authorization": f"Basic {TOKEN}"})
        right = await http.web.post(path, headers=BEARER)
    assert [without.status_code, wrong.status_code, basic.status_code] == [401] * 3
    assert without.headers["www-authenticate"].startswith("Bearer")
    assert right.status_code != 401


async def test_a_client_with_the_token_works(shared_settings: Settings) -> None:
    guarded = shared_settings.model_copy(update={"http_token": TOKEN})
    async with site(guarded, **BEARER) as http, http.client() as client:
        assert len((await client.list_tools()).tools) == 10


@pytest.mark.parametrize(
    ("listens_on", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.0.0.1", {"Host": "localhost:8000"}, 200),
        ("127.0.0.1", {"Host": "[::1]:8000"}, 200),
        ("127.0.0.1", {"Host": "evil.example"}, 421),
        ("127.0.0.1", {"Host": "localhost.evil.example"}, 421),
        ("127.0.0.1", {"Host": "192.168.1.5"}, 421),
        ("127.0.0.1", {"Host": ""}, 421),
        ("127.0.0.1", {"Host": "runner.example:443"}, 200),
        ("127.0.0.1", {"Origin": "http://localhost:3000"}, 200),
        ("127.0.0.1", {"Origin": "https://runner.example"}, 200),
        ("127.0.0.1", {"Origin": "https://evil.example"}, 403),
        ("127.0.0.1", {"Origin": "null"}, 403),
        ("127.0.0.1", {"Origin": "http://[broken"}, 403),
        (EVERYWHERE, {"Host": "192.168.1.5:8000"}, 200),
        (EVERYWHERE, {"Host": "evil.example"}, 421),
        (EVERYWHERE, {"Host": "192.168.1.5", "Origin": "http://192.168.1.5"}, 200),
        (EVERYWHERE, {"Host": "192.168.1.5", "Origin": "http://192.168.1.6"}, 403),
    ],
)
async def test_strange_hosts_and_origins_are_turned_away(
    settings: Settings, listens_on: str, headers: dict[str, str], status: int
) -> None:
    named = settings.model_copy(update={"http_hosts": "runner.example, other.example", "http_token": TOKEN})
    async with serving(named) as service:
        transport = httpx2.ASGITransport(app=build_app(service, listens_on))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=BEARER) as web:
            answer = await web.get("/healthz", headers=headers)
    assert answer.status_code == status


async def test_a_refusal_gives_the_first_reason_and_is_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    guarded = settings.model_copy(update={"http_token": TOKEN})
    headers = {"Host": "evil.example", "Origin": "https://evil.example", "Authorization": "Bearer wrong"}
    answers = []
    async with serving(guarded) as service:
        transport = httpx2.ASGITransport(app=build_app(service, "127.0.0.1"))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as web:
            for right in ({}, {"Host": "localhost"}, {"Origin": "http://localhost"}, BEARER):
                headers |= right
                answers.append(await web.post("/healthz", headers=headers))
    assert [answer.status_code for answer in answers] == [421, 403, 401, 405]
    assert [answer.text.partition(" ")[0] for answer in answers] == ["Unknown", "Pages", "A", "Method"]
    refused = [record.getMessage() for record in caplog.records if record.name.endswith("http.guard")]
    assert refused == [f"refused POST '/healthz' with {status}" for status in (421, 403, 401)]


async def test_from_elsewhere_only_results_can_be_pictures(settings: Settings) -> None:
    [pictures] = settings.image_dirs
    (pictures / "mine.png").write_bytes(png(64, 64))
    arguments: dict[str, Any] = {"image": str(pictures / "mine.png")}
    guarded = settings.model_copy(update={"http_token": TOKEN})
    with anyio.fail_after(PATIENCE_S):
        async with site(guarded, "127.0.0.1", **BEARER) as http, http.client() as client:
            near = await client.call_tool("caption_image", arguments)
        async with site(guarded, EVERYWHERE, **BEARER) as http, http.client() as client:
            far = await client.call_tool("caption_image", arguments)
            made = await client.call_tool("generate_image", {"prompt": "a star", "steps": 2})
            assert made.structured_content is not None
            uri = made.structured_content["artifacts"][0]["uri"]
            result = await client.call_tool("caption_image", {"image": uri})
    assert not near.is_error
    assert far.is_error
    assert not result.is_error


async def test_too_large_a_request_is_refused(settings: Settings) -> None:
    small = settings.model_copy(update={"image_max_mb": 0.1})
    async with site(small) as http:
        answer = await http.web.post("/mcp", content=b"x" * 3_000_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_nobody_listens_beyond_this_machine_without_a_token(settings: Settings) -> None:
    for host in (EVERYWHERE, "192.168.1.5", "::", "runner.example"):
        with pytest.raises(UserError, match="WAN_MCP_HTTP_TOKEN"):
            run_http(settings, host, 0)
        refuse_open_door(host, TOKEN)
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        refuse_open_door(host, "")
        assert is_loopback(host)


def test_a_taken_port_is_named(settings: Settings) -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="choose another --port"):
        run_http(settings, "127.0.0.1", taken.getsockname()[1])


def test_a_signal_stops_the_server_while_a_client_waits_and_the_job_goes_on(settings: Settings, pace: Pace) -> None:
    async def stop_while_a_client_waits(process: subprocess.Popen[str], url: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:

                async def hang_up(progress: float, total: float | None, message: str | None) -> None:
                    if message == "Checking the request":
                        return
                    process.send_signal(signal.SIGTERM)
                    tasks.cancel_scope.cancel()

                async with Client(url) as client:
                    await client.call_tool("generate_video", {"prompt": "a star"}, progress_callback=hang_up)
            assert await run_sync(process.wait) == 0
            pace.allow(100)
            async with serving(settings) as service:
                [job] = await service.newest()
                view = await service.wait(job.id, PATIENCE_S)
        assert view.job.state is JobState.SUCCEEDED

    with running(settings) as front:
        anyio.run(stop_while_a_client_waits, front.process, f"{front.url}/mcp")
