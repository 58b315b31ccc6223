"""`list_resolutions`: one line a model, everything about one with `model`, and no staler than what it depends on."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fixtures.mcp_server import Connect
from tests.support.patience import PATIENCE_S
from wan_mcp.catalog.catalog import shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.timings import Timings, Work
from wan_mcp.planning import memory_check
from wan_mcp.schema.enums import Stage
from wan_mcp.service.model_status import ModelStatus
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

GB = 1_000_000_000
TEXT_CHARACTERS = 2000
STRUCTURE_TOKENS = 2500
MAKERS = {"text-to-video": "generate_video", "text-to-image": "generate_image"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    """`machine(it)`: the machine that this one shall be."""
    return lambda it: monkeypatch.setattr(memory_check, "this_machine", lambda settings: it)


def tokens(value: Any) -> int:
    encoding = pytest.importorskip("quicktok").get_encoding("o200k_base")
    return len(encoding.encode(json.dumps(value, ensure_ascii=False)))


@pytest.mark.parametrize("memory", [8 * GB, 24 * GB, 1000 * GB], ids=["small", "middle", "large"])
@pytest.mark.parametrize("name", ["CPU", "GPU"])
async def test_the_list_is_short_and_says_what_is_refused(
    settings: Settings, connect: Connect, machine: Callable[[Machine], None], name: str, memory: int
) -> None:
    machine(Machine(name, "fp32" if name == "CPU" else "bf16", memory, has_fp8=name == "GPU"))
    async with connect(settings) as runner:
        answer = await runner.call("list_resolutions")
        for model in answer.job["models"]:
            maker = MAKERS.get(model["tasks"][0])
            if maker is not None and not model["fits"]:
                refused = await runner.call(maker, prompt="a star", model=model["name"], wait_s=0)
                assert refused.result.is_error
                assert "of memory" in refused.text
    assert len(answer.text) <= TEXT_CHARACTERS
    assert tokens(answer.job) <= STRUCTURE_TOKENS
    assert answer.job["message"] == answer.text
    lines = answer.text.splitlines()
    for model in answer.job["models"]:
        [line] = [line for line in lines if line.startswith((f"{model['name']}:", f"{model['name']}*:"))]
        fits = any(f"; {word}, " in line for word in ("resident", "offloaded", "streamed", "fits"))
        assert ("too large here" in line) != fits == model["fits"]
        assert ("*" in line) == model["default"] == (model["name"] in answer.job["default_models"].values())


async def test_the_list_says_how_each_model_fits(
    settings: Settings, connect: Connect, machine: Callable[[Machine], None]
) -> None:
    machine(Machine("GPU", "bf16", 24 * GB, has_fp8=True))
    async with connect(settings) as runner:
        answer = await runner.call("list_resolutions")
        found = {
            name: (await runner.call("list_resolutions", model=name)).job["models"][0]["fit"]
            for name in ("wan-mini", "wan2.2-t2v-a14b", "wan-mini-caption", "qwen-image-2512")
        }
    assert found == {
        "wan-mini": "resident",
        "wan2.2-t2v-a14b": "offloaded",
        "wan-mini-caption": "resident",
        "qwen-image-2512": "streamed",
    }
    for name, fit in found.items():
        assert re.search(rf"^{re.escape(name)}\*?: .*; {fit}, (ready|.* to get)", answer.text, re.MULTILINE)
    assert "streamed ones the slowest" in answer.text


async def test_a_list_with_all_usual_times_is_still_short(settings: Settings, connect: Connect) -> None:
    async with connect(settings) as runner:
        await runner.start(steps=1)
        table = await runner.service._table()
        device = table.engines.device
        for manifest in runner.service.catalog.manifests.values():
            _measure(table.timings, device, manifest.name)
        answer = await runner.call("list_resolutions")
    assert sum(bool(model["usual_seconds"]) for model in answer.job["models"]) > 20
    assert len(answer.text) <= TEXT_CHARACTERS
    assert "usually" in answer.text
    assert tokens(answer.job) <= STRUCTURE_TOKENS


def _measure(timings: Timings, device: str, model: str) -> None:
    for stage in Stage:
        timings.record(device, model, stage, Work(1), 1.5)


async def test_one_model_is_listed_with_everything(settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            await runner.call("generate_video", prompt="a red circle")
            draft = await runner.call("generate_video", prompt="a red circle", preset="draft")
            refused = await runner.call("generate_video", prompt="a red circle", turbo=True)
            listed = await runner.call("list_resolutions")
            answer = await runner.call("list_resolutions", model="wan-mini")
            other = await runner.call("list_resolutions", model="wan2.2-t2v-a14b")
            only = await runner.call("list_resolutions", task="image-to-text")
            neither = await runner.call("list_resolutions", model="wan-mini", task="image-to-text")
    [mini] = answer.job["models"]
    assert mini["resolutions"][1] == {"name": "landscape", "width": 160, "height": 96, "aspect": 1.667}
    assert (mini["frames"]["rule"], mini["frames"]["default"]) == ("4k+1, 5 to 33", 17)
    assert "text-to-video" in mini["usual_seconds"]
    assert "usual time of a default job: text-to-video" in answer.text
    assert "length: 4k+1, 5 to 33 frames at 8 fps (0.625 to 4.125 s), default 17" in answer.text
    assert "used when no model is named" in answer.text
    assert (draft.job["request"]["preset"], draft.job["request"]["steps"]) == ("draft", 6)
    assert "'wan-mini' does not support turbo" in refused.text
    presets = mini["presets"]
    assert {name: each["steps"] for name, each in presets.items()} == {"draft": 6, "standard": 12, "best": 20}
    assert all("usual_seconds" in preset for preset in presets.values())
    assert "presets: draft (6 steps, " in answer.text
    assert other.job["models"][0]["presets"]["draft"] == {"model": "wan2.2-t2v-a14b-4step"}
    assert "draft (wan2.2-t2v-a14b-4step), standard (25 steps), best (40 steps)" in other.text
    assert "cinematic" in answer.job["styles"]
    names = [model["name"] for model in listed.job["models"]]
    assert names[:2] == ["wan-mini", "wan-mini-caption"]  # the models that are used when none is named
    assert "usually" in listed.text
    captioners = [model["name"] for model in only.job["models"]]
    assert "wan-mini-caption" in captioners
    assert "wan-mini" not in captioners
    assert "does not do image-to-text" in neither.text


async def test_a_kept_list_follows_manifests_measurements_and_weights(settings: Settings, connect: Connect) -> None:
    folder = settings.home / "manifests"
    text = (shipped_folder() / "wan-mini.toml").read_text(encoding="utf-8").replace('"wan-mini"', '"mine"', 1)

    async def names() -> list[str]:
        return [model["name"] for model in (await runner.call("list_resolutions")).job["models"]]

    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            before = await names()
            folder.mkdir(parents=True)
            (folder / "mine.toml").write_text(text, encoding="utf-8")
            with_mine = await names()
            (folder / "mine.toml").write_text("schema = 1", encoding="utf-8")
            broken = await runner.call("list_resolutions")
            (folder / "mine.toml").unlink()
            after = await runner.call("list_resolutions")
            assert "usually" not in after.text
            await runner.call("generate_video", prompt="a star")
            measured = await runner.call("list_resolutions")
    assert "mine" not in before
    assert "mine" in with_mine
    assert "mine" in broken.job["broken"]
    assert not after.job["broken"]
    assert "usually" in measured.text


async def test_a_list_is_kept_while_nothing_changes(
    settings: Settings, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(settings) as runner:
        first = await runner.call("list_resolutions")
        made: list[str] = []
        statuses = runner.service.model_statuses

        async def counted(models: Iterable[Manifest]) -> dict[str, ModelStatus]:
            made.append("a list")
            return await statuses(models)

        monkeypatch.setattr(runner.service, "model_statuses", counted)
        again = await runner.call("list_resolutions")
        assert (again.job, made) == (first.job, [])
        await runner.call("list_resolutions", task="image-to-text")
        assert made == ["a list"]


async def test_many_own_models_do_not_make_the_list_long(settings: Settings, connect: Connect, tmp_path: Path) -> None:
    folder = settings.home / "manifests"
    folder.mkdir(parents=True)
    text = (shipped_folder() / "wan-mini.toml").read_text(encoding="utf-8")
    for number in range(60):
        name = f"model-of-my-own-{number}"
        (folder / f"{name}.toml").write_text(text.replace('"wan-mini"', f'"{name}"', 1), encoding="utf-8")
    async with connect(settings) as runner:
        answer = await runner.call("list_resolutions")
    assert len(answer.text) <= TEXT_CHARACTERS
    assert answer.text.endswith("narrow it with task=.")
    assert len(answer.job["models"]) > 60
