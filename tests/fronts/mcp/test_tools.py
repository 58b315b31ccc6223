"""Results of the tools as a client gets them: data, words, links and small pictures."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import Implementation
from PIL import Image

from tests.fixtures.mcp_server import ERAS, Connect, Runner, png
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.media import contact_sheet
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.jobs import JobError
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
DATA_URI = "data:image/png;base64,"


def noise(width: int, height: int) -> bytes:
    """A JPEG that compresses badly, of more than 60 kB."""
    out = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(out, "JPEG", quality=60)
    assert out.tell() > 60_000
    return out.getvalue()


@pytest.mark.parametrize("mode", ERAS)
async def test_a_finished_video_comes_as_link_path_and_contact_sheet(
    shared_settings: Settings, connect: Connect, mode: str
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings, mode) as runner:
            answer = await runner.call("generate_video", prompt="a red circle", seed=7, steps=4)
    job = answer.job
    [artifact] = job["artifacts"]
    assert not answer.result.is_error
    assert (job["status"], job["progress"], job["seed"], job["kind"]) == ("succeeded", 1.0, 7, "video")
    assert job["request"]["prompt"] == "a red circle"
    assert (artifact["width"], artifact["height"], artifact["frames"], artifact["fps"]) == (128, 128, 17, 8)
    assert (await anyio.Path(artifact["path"]).stat()).st_size == artifact["bytes"]
    assert job["finished_at"] > job["started_at"] > job["created_at"]
    assert job["created_at"].endswith("Z")
    [link] = answer.links
    assert (link.uri, link.mime_type, link.size) == (artifact["uri"], "video/mp4", artifact["bytes"])
    [sheet] = answer.pictures
    assert Image.open(io.BytesIO(base64.b64decode(sheet.data))).format == "JPEG"
    assert artifact["path"] in answer.text
    assert job["job_id"] in answer.text


async def test_an_image_comes_with_a_small_preview(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await runner.call("generate_image", prompt="a red circle", resolution="landscape", steps=2)
    [artifact] = answer.job["artifacts"]
    assert (artifact["mime_type"], artifact["width"], artifact["height"]) == ("image/png", 160, 96)
    assert (artifact["frames"], artifact["duration_s"]) == (None, None)
    [preview] = answer.pictures
    assert Image.open(io.BytesIO(base64.b64decode(preview.data))).size == (160, 96)


async def test_a_caption_is_in_the_data_and_in_the_words(shared_settings: Settings, connect: Connect) -> None:
    picture = DATA_URI + base64.b64encode(png(40, 30)).decode()
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await runner.call("caption_image", image=picture)
    assert answer.job["caption"] == "a picture of 40x30"
    assert "a picture of 40x30" in answer.text
    assert answer.job["seed"] is None
    assert "base64" not in str(answer.result)


async def test_a_count_gives_results_with_successive_seeds(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await runner.call("generate_image", prompt="a star", seed=40, count=3, steps=2)
    assert [artifact["seed"] for artifact in answer.job["artifacts"]] == [40, 41, 42]
    assert len(answer.links) == len(answer.pictures) == 3


@pytest.mark.parametrize("kind", [Kind.VIDEO, Kind.IMAGE])
async def test_a_result_never_outgrows_what_clients_take(
    shared_settings: Settings, connect: Connect, kind: Kind
) -> None:
    prompt = "x" * 2000
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await runner.call(f"generate_{kind}", prompt=prompt, count=8, steps=2, style="anime")
            artifacts = answer.job["artifacts"]
            if kind is Kind.VIDEO:  # the largest sheets that may be
                for artifact in artifacts:
                    sheet = anyio.Path(artifact["path"]).with_suffix(".sheet.jpg")
                    await sheet.write_bytes(noise(780, 828))
                answer = await runner.call("get_job", job_id=answer.job["job_id"])
    assert len(artifacts) == 8
    assert answer.pictures
    assert len(answer.result.model_dump_json(by_alias=True)) < 150_000


async def test_a_lost_contact_sheet_does_not_cost_the_result(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            first = await runner.call("generate_video", prompt="a red circle", steps=2)
            await anyio.Path(first.job["artifacts"][0]["path"]).with_suffix(".sheet.jpg").unlink()
            again = await runner.call("get_job", job_id=first.job["job_id"])
    assert again.job["status"] == "succeeded"
    assert (len(again.links), again.pictures) == (1, [])


async def test_what_was_fitted_and_what_a_style_did_is_said(shared_settings: Settings, connect: Connect) -> None:
    picture = DATA_URI + base64.b64encode(png(300, 100)).decode()
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await runner.call(
                "generate_video", prompt="a red circle", image=picture, duration_s=2.0, style="noir", steps=2
            )
    assert "2 s became 2.125 s" in answer.text
    assert "scaled to" in answer.text
    assert "cropped" in answer.text
    assert "'noir' made the prompt: a red circle, black and white film noir" in answer.text
    request = answer.job["request"]
    assert (request["prompt"], request["style"], request["num_frames"]) == ("a red circle", "noir", 17)


async def test_an_earlier_result_can_start_the_next(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            image = await runner.call("generate_image", prompt="a star", steps=2)
            uri = image.job["artifacts"][0]["uri"]
            video = await runner.call("generate_video", prompt="it spins", image=uri, steps=2)
    assert uri in image.text
    assert video.job["request"]["image"] == uri


async def test_jobs_are_listed_newest_first_and_short(settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            empty = await runner.call("list_jobs")
            first = await runner.call("generate_image", prompt="a star " + "very " * 100 + "big", steps=2)
            second = await runner.call("generate_video", prompt="a ring", steps=2)
            both = await runner.call("list_jobs")
            none = await runner.call("list_jobs", status="failed")
            one = await runner.call("list_jobs", limit=1)
    assert empty.text == empty.job["message"] == "No matching jobs."
    assert f"get_job(job_id='{second.job['job_id']}')" in both.text
    assert [entry["job_id"] for entry in both.job["jobs"]] == [second.job["job_id"], first.job["job_id"]]
    assert len(both.job["jobs"][1]["prompt"]) == 100
    assert both.job["jobs"][0]["uris"] == [second.links[0].uri]
    assert none.job["jobs"] == []
    assert len(one.job["jobs"]) == 1


async def refused(runner: Runner, tool: str, **arguments: Any) -> str:
    answer = await runner.call(tool, **arguments)
    assert answer.result.is_error
    return answer.text


async def test_refusals_say_what_is_wrong_and_what_to_do(shared_settings: Settings, connect: Connect) -> None:
    async with connect(shared_settings) as runner:

        async def video(**arguments: Any) -> str:
            return await refused(runner, "generate_video", **{"prompt": "a star", **arguments})

        assert "the limit is 2000" in await video(prompt="x" * 100_000)
        assert "prompt is empty" in await video(prompt="  ")
        assert "available: square (128x128)" in await video(resolution="4k")
        assert "the nearest is 17" in await video(num_frames=18)
        assert "exclude each other" in await video(num_frames=17, duration_s=2)
        assert "no model 'sora'; available: " in await video(model="sora")
        assert "available: anime" in await video(style="vogon")
        assert "'wan-mini' does not do first-last-frame" in await video(image="x.png", last_image="y.png")
        assert "steps 99" in await video(steps=99)
        assert "no parameter 'frames'; did you mean num_frames?" in await video(frames=17)
        assert "steps: must be a whole number, not 'many'" in await video(steps="many")
        assert "count: must be greater than or equal to 1, not 0" in await video(count=0)
        assert "wait_s 4000 is too long; the limit is 3600 s" in await video(wait_s=4000)
        assert "prompt: is required" in await refused(runner, "generate_video")
        assert "list_jobs shows" in await refused(runner, "get_job", job_id="nothing")
        assert "list_jobs shows" in await refused(runner, "cancel_job", job_id="nothing")


async def test_odd_values_are_refused_in_a_few_words_and_never_are_a_defect(
    shared_settings: Settings, connect: Connect
) -> None:
    huge, long = 10**400, "x" * 1_000_000
    image: list[dict[str, Any]] = [
        *({name: huge} for name in ("steps", "count", "seed", "guidance_scale", "wait_s", "strength")),
        *({name: long} for name in ("model", "style", "preset", "resolution", "steps", "image", long)),
        {"seed": -1},
        {"seed": 2**31 - 1, "count": 2},
        {"lora": [{"name": 1}] * 1000},
        {f"no_parameter_{i}": 1 for i in range(1000)},
    ]
    calls = [("generate_image", {"prompt": "a star"} | asked) for asked in image]
    calls += [("generate_video", {"prompt": "a star", "num_frames": huge})]
    calls += [
        ("caption_image", {"image": "x.png", name: value}) for name in ("seed", "length") for value in (huge, long)
    ]
    calls += [(tool, {"job_id": long}) for tool in ("get_job", "cancel_job")]
    async with connect(shared_settings) as runner:
        for tool, arguments in calls:
            text = await refused(runner, tool, **arguments)
            assert "defect" not in text
            assert len(text) < 1200
        assert "omit seed for a random one" in await refused(runner, "generate_image", prompt="a star", seed=-1)
        last = await runner.call("generate_image", prompt="a star", steps=1, seed=2**31 - 2, count=2)
    seeds = [artifact["seed"] for artifact in last.job["artifacts"]]
    assert seeds == [2**31 - 2, 2**31 - 1]


async def test_numbers_sent_as_text_and_nulls_are_understood(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            nothing = {"seed": None, "style": None, "count": None, "lora": None, "wait_s": None}
            answer = await runner.call("generate_image", prompt="a star", steps="3", **nothing)
            listed = await runner.call("generate_image", prompt="a star", steps=2, lora='[{"name": "mine"}]')
            needed = await refused(runner, "generate_image", prompt=None)
    assert answer.job["request"]["steps"] == 3
    assert "supports no LoRAs; omit lora" in listed.text
    assert "prompt: must be a text, not None" in needed


async def test_pictures_are_refused_with_the_reason(
    shared_settings: Settings, connect: Connect, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(64, 64))
    inside = shared_settings.image_dirs[0]
    (inside / "cut.png").write_bytes(png(64, 64)[:60])
    (inside / "text.png").write_text("no picture", encoding="utf-8")
    async with connect(shared_settings) as runner:

        async def caption(image: str) -> str:
            return await refused(runner, "caption_image", image=image)

        assert "outside the allowed folders" in await caption(str(outside))
        assert "not a readable image" in await caption(str(inside / "cut.png"))
        assert "not a readable image" in await caption(str(inside / "text.png"))
        assert "no file '/" in await caption(str(inside / "none.png"))
        assert "image URLs are not supported" in await caption("https://example.org/a.png")
        assert "not valid base64" in await caption(DATA_URI + "???")
        assert "is not the wan:// address" in await caption("wan://images/../../etc/passwd")
        assert "no result wan://images" in await caption(f"wan://images/{'0' * 20}-0.png")


@pytest.mark.parametrize("defect", [{}.__getitem__, JobError.model_validate], ids=["a lookup", "a model"])
async def test_a_defect_is_logged_and_not_shown(
    settings: Settings,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    defect: Callable[[str], object],
) -> None:
    async with connect(settings) as runner:

        async def find(*_: object, **__: object) -> None:
            defect("an inner secret")

        monkeypatch.setattr(runner.service, "find", find)
        text = await refused(runner, "list_jobs")
    assert "defect of the server" in text
    assert "log" in text
    assert "secret" not in text
    assert "an inner secret" in caplog.text


@pytest.mark.parametrize(("trouble", "remedy"), [("damaged", "doctor --repair"), ("no folder", "WAN_MCP_HOME")])
async def test_a_home_that_cannot_be_used_stops_only_what_needs_it(
    settings: Settings, connect: Connect, trouble: str, remedy: str
) -> None:
    if trouble == "damaged":
        settings.home.mkdir()
        settings.database.write_bytes(b"no database at all, but long enough to be read as one " * 100)
    else:
        settings.home.touch()
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, "legacy") as runner:
            tools = await runner.client.list_tools()
            listed = await runner.call("list_resolutions")
            text = await refused(runner, "generate_video", prompt="a star")
    assert len(tools.tools) == 10
    assert listed.job["models"]
    assert remedy in text


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize(
    ("about", "known_as"),
    [
        (Implementation(name="claude-ai", version="1"), "claude-ai"),
        (Implementation(name="claude-ai", title="Claude", version="1"), "Claude"),
        (Implementation(name="a\x1b[31m\nlong " + "name " * 50, version="1"), "a\\x1b[31m long name"),
    ],
)
async def test_a_job_knows_which_client_asked_for_it(
    shared_settings: Settings, connect: Connect, mode: str, about: Implementation, known_as: str
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            async with Client(build_server(runner.service), mode=mode, client_info=about) as client:
                result = await client.call_tool("generate_image", {"prompt": "a star", "steps": 2, "wait_s": 0})
            assert result.structured_content is not None
            job = (await runner.service.view(result.structured_content["job_id"])).job
    assert job.client.startswith(known_as)
    assert len(job.client) <= 60


@pytest.mark.parametrize("tool", ["generate_video", "generate_image"])
async def test_each_of_several_results_has_one_picture_under_its_number_and_seed(
    shared_settings: Settings, connect: Connect, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    titles: list[str] = []
    usual = contact_sheet.titled

    def titled(picture: Image.Image, title: str, most: int) -> bytes:
        titles.append(title)
        return usual(picture, title, most)

    monkeypatch.setattr("wan_mcp.fronts.mcp.results.titled", titled)
    monkeypatch.setattr(contact_sheet, "titled", titled)
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            several = await runner.call(tool, prompt="a star", steps=2, seed=42, count=3)
            one = await runner.call(tool, prompt="a star", steps=2, seed=42)
    assert titles == ["1 of 3, seed 42", "2 of 3, seed 43", "3 of 3, seed 44"]
    assert (len(several.pictures), len(one.pictures)) == (3, 1)
    shown = [Image.open(io.BytesIO(base64.b64decode(each.data))) for each in (*several.pictures, *one.pictures)]
    assert {each.height - shown[3].height for each in shown[:3]} == {22}  # the line of the title
    assert ("with its number and seed above" in several.text) is (tool == "generate_video")
    assert "with its number and seed above" not in one.text
