"""Before anything starts: what a call would do and take, and downloads that a caller has to agree to."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fixtures.mcp_server import ERAS, Connect, png
from tests.support.far_models import add_far_model
from tests.support.patience import PATIENCE_S
from tests.support.videos import encode, greys
from wan_mcp.hardware.machine import Machine
from wan_mcp.planning import memory_check
from wan_mcp.settings import Settings
from wan_mcp.weights.download_rate import remember_rate

pytestmark = pytest.mark.anyio

GB = 10**9
PICTURE = f"data:image/png;base64,{base64.b64encode(png(64, 48)).decode()}"
MAKERS: dict[str, dict[str, Any]] = {
    "generate_video": {"prompt": "a red star"},
    "generate_image": {"prompt": "a red star"},
    "caption_image": {"image": PICTURE},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's files."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    """`machine(it)`: the machine that this one shall be."""
    return lambda it: monkeypatch.setattr(memory_check, "this_machine", lambda settings: it)


def everything_in(home: Path) -> dict[str, int]:
    return {str(file.relative_to(home)): file.stat().st_mtime_ns for file in home.rglob("*")}


@pytest.mark.parametrize("mode", ERAS)
async def test_a_dry_run_of_any_tool_queues_and_writes_nothing(settings: Settings, connect: Connect, mode: str) -> None:
    add_far_model(settings.home, 34.2)
    clip = encode(settings.image_dirs[0] / "clip.mp4", greys())
    video = f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"
    before = everything_in(settings.home)
    async with connect(settings, mode) as runner:
        for tool, request in MAKERS.items():
            answer = await runner.call(tool, **request, dry_run=True)
            assert not answer.result.is_error, answer.text
            assert (answer.job["job_id"], answer.job["status"]) == ("", "dry_run")
            assert answer.job["message"] == answer.text
            assert answer.text.splitlines()[-1] == "To run it, call again without dry_run."
            assert answer.job["estimate"]["download"] is None
        for image in (PICTURE, video, str(clip)):
            answer = await runner.call("generate_video", prompt="a star", model="far", image=image, dry_run=True)
            assert not answer.result.is_error, answer.text
    assert everything_in(settings.home) == before


async def test_a_dry_run_names_the_request_as_it_would_run_and_that_request_runs(
    shared_settings: Settings, connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            for tool in ("generate_video", "generate_image"):
                dry = await runner.call(tool, prompt="a red star", preset="draft", dry_run=True)
                assert {"model", "resolution", "steps", "seed"} <= set(dry.job["request"])
                made = await runner.call(tool, **dry.job["request"])
                assert made.job["request"] == dry.job["request"]
            first = await runner.call("generate_image", prompt="a star", steps=2)
            known = await runner.call("generate_image", prompt="another star", steps=2, dry_run=True)
            assert known.job["estimate"]["seconds"] is not None
            assert "Time: about" in known.text
            jobs = await runner.call("list_jobs", limit=1)
            again = await runner.call("remix", job_id=first.job["job_id"], seed="new", steps=3, dry_run=True)
            assert again.job["request"]["steps"] == 3
            assert (await runner.call("list_jobs", limit=1)).job["jobs"] == jobs.job["jobs"]


async def test_a_picture_that_came_in_the_call_is_not_named_as_if_it_were_kept(
    settings: Settings, connect: Connect
) -> None:
    async with connect(settings) as runner:
        answer = await runner.call("generate_video", prompt="a star", image=PICTURE, dry_run=True)
    assert "image" not in answer.job["request"]


@pytest.mark.parametrize(
    ("memory", "fit", "words"),
    [
        (96 * GB, "resident", "resident"),
        (24 * GB, "offloaded", "one expert at a time"),
        (14 * GB, "streamed", "streamed from main memory"),
        (6 * GB, "no", "does not fit, the call would be refused"),
    ],
)
async def test_a_dry_run_says_how_the_job_fits_as_the_check_that_refuses_does(
    settings: Settings, connect: Connect, machine: Callable[[Machine], None], memory: int, fit: str, words: str
) -> None:
    machine(Machine("GPU", "bf16", memory, has_fp8=True))
    request: dict[str, Any] = {"prompt": "rain", "model": "wan2.2-t2v-a14b", "resolution": "480p-landscape"}
    async with connect(settings) as runner:
        dry = await runner.call("generate_video", **request, dry_run=True)
        listed = await runner.call("list_resolutions", model="wan2.2-t2v-a14b")
        tried = await runner.call("generate_video", **request)
    assert dry.job["estimate"]["fit"] == fit
    assert words in dry.text
    assert tried.result.is_error
    assert ("of memory" in tried.text) == (fit == "no")
    assert ("nothing was started" in tried.text) == (fit != "no")
    assert (dry.job["error"] is not None) == (fit == "no")
    assert listed.job["models"][0]["fit"] in ("resident", "offloaded", "streamed", "no")


@pytest.mark.parametrize("wrong", [{"num_frames": 6}, {"model": "no-such"}, {"image": "/no/such.png"}])
async def test_a_dry_run_refuses_what_the_call_would_refuse(
    settings: Settings, connect: Connect, wrong: dict[str, Any]
) -> None:
    async with connect(settings) as runner:
        dry = await runner.call("generate_video", prompt="a star", **wrong, dry_run=True)
        real = await runner.call("generate_video", prompt="a star", **wrong)
    assert dry.result.is_error
    assert dry.text == real.text


async def test_a_large_download_never_starts_unasked_and_the_answer_says_how_to_agree(
    settings: Settings, connect: Connect, cache: Path
) -> None:
    add_far_model(settings.home, 34.2)
    add_far_model(settings.home, 34.2, "far-caption", "wan-mini-caption")
    remember_rate(settings.home, 200_000_000, 10.0)
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            for tool, request in MAKERS.items():
                call = request | {"model": "far-caption" if tool == "caption_image" else "far"}
                refused = await runner.call(tool, **call)
                assert refused.result.is_error
                assert "nothing was started" in refused.text
                for said in ("34.2 GB", str(cache), "free on its disk", "28 min", "download=true", "wan-mcp pull far"):
                    assert said in refused.text, said
                dry = await runner.call(tool, **call, dry_run=True)
                assert dry.job["estimate"]["download"]["needs_consent"]
                assert dry.job["estimate"]["download"]["bytes"] == 34_200_000_000
                assert "call again with download=true" in dry.text
            assert (await runner.call("list_jobs")).job["jobs"] == []
            agreed = await runner.call("generate_video", prompt="a star", model="far", download=True)
            assert agreed.job["status"] == "succeeded"
            changed = await runner.call("remix", job_id=agreed.job["job_id"], seed="new")
            assert "download=true" in changed.text
            again = await runner.call("remix", job_id=agreed.job["job_id"], seed="new", download=True)
            assert again.job["status"] == "succeeded"


@pytest.mark.parametrize(
    ("gigabytes", "limit", "asked"), [(4.9, 5, False), (5.1, 5, True), (0.1, 0, True), (500, float("inf"), False)]
)
async def test_the_owner_sets_how_large_a_download_may_start_unasked(
    settings: Settings, connect: Connect, gigabytes: float, limit: float, asked: bool
) -> None:
    add_far_model(settings.home, gigabytes)
    async with connect(settings.model_copy(update={"max_download_gb": limit})) as runner:
        answer = await runner.call("generate_image", prompt="a star", model="far", wait_s=0)
    assert answer.result.is_error == asked


async def test_agreement_is_about_one_call_and_is_kept_with_its_job(settings: Settings, connect: Connect) -> None:
    add_far_model(settings.home, 34.2)
    add_far_model(settings.home, 1, "near")
    async with connect(settings) as runner:
        agreed = await runner.start(model="far", download=True, request_id="once")
        repeated = await runner.call("generate_video", prompt="a red circle", model="far", request_id="once", wait_s=0)
        assert repeated.job["job_id"] == agreed
        small = await runner.start(model="near")
        own = await runner.start()
        limits = [(await runner.service.view(job_id)).job.download_limit for job_id in (agreed, small, own)]
    assert limits == [None, 5 * GB, None]


async def test_where_jobs_download_nothing_nobody_is_asked_to_agree(settings: Settings, connect: Connect) -> None:
    add_far_model(settings.home, 34.2)
    async with connect(settings.model_copy(update={"auto_download": False})) as runner:
        dry = await runner.call("generate_video", prompt="a star", model="far", dry_run=True)
    assert not dry.job["estimate"]["download"]["needs_consent"]
    assert "download=true" not in dry.text
    assert "wan-mcp pull far" in dry.text


async def test_a_toy_says_in_its_result_what_it_did_not_understand(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            for tool in ("generate_video", "generate_image"):
                answer = await runner.call(tool, prompt="a cat in the snow", steps=2)
                [note] = answer.job["notes"]
                assert "not understood: cat, snow. " in note
                assert f"Note: {note}" in answer.text
                plain = await runner.call(tool, prompt="a red star", steps=2)
                assert plain.job["notes"] == []
            caption = await runner.call("caption_image", image=PICTURE)
            assert "knows only pictures of flat coloured shapes" in caption.job["notes"][0]


async def test_instructions_and_tools_say_what_the_default_models_are(settings: Settings, connect: Connect) -> None:
    chosen = settings.model_copy(update={"video_model": "wan2.2-ti2v-5b"})
    for each, toy, real in ((settings, "wan-mini", ""), (chosen, "wan-mini", "wan2.2-ti2v-5b")):
        async with connect(each, ERAS[0]) as runner:
            instructions = runner.client.instructions or ""
            tools = {tool.name: tool.description or "" for tool in (await runner.client.list_tools()).tools}
        assert f"image: {toy}, a toy that knows only flat shapes" in instructions
        assert f"Default model: {toy} (toy: flat shapes)." in tools["generate_image"]
        assert "wan-mini-caption" in tools["caption_image"]
        assert tools["generate_video"].endswith(f"Default model: {real or f'{toy} (toy: flat shapes)'}.")
        assert real in instructions
