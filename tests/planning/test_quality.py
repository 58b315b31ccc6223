"""Presets, turbo and the step cache: from a request to its plan."""

from pathlib import Path

import pytest

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.presets import precision_asked
from wan_mcp.errors import BadRequest, BrokenManifest
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.timings import variant_of
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import ImagePlan, Plan, VideoPlan
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.settings import Settings

PRESETS = ["draft", "standard", "best"]


def planner(tmp_path: Path, *manifests: str) -> Planner:
    """A planner of the shipped models and of these, in files of their own."""
    (tmp_path / "manifests").mkdir(exist_ok=True)
    for number, text in enumerate(manifests):
        (tmp_path / "manifests" / f"{number}.toml").write_text(text, encoding="utf-8")
    return Planner(Settings(home=tmp_path), Catalog.of(tmp_path))


def video(planner: Planner, **parameters: object) -> VideoPlan:
    plan: Plan = planner.plan(VideoRequest.of({"prompt": "a ring", **parameters}))
    assert isinstance(plan, VideoPlan)
    return plan


def mini(tmp_path: Path, name: str, *changes: tuple[str, str]) -> str:
    text = (shipped_folder() / "wan-mini.toml").read_text(encoding="utf-8")
    for old, new in [('name = "wan-mini"\n', f'name = "{name}"\n'), *changes]:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_a_preset_fills_the_gaps_and_explicit_values_win(tmp_path: Path) -> None:
    plans = planner(tmp_path)
    assert [video(plans, preset=name).steps for name in PRESETS] == [6, 12, 20]
    assert video(plans).steps == 12
    assert video(plans).preset is None
    own = video(plans, preset="draft", steps=9, guidance_scale=2.0)
    assert (own.steps, own.guidance_scale, own.preset) == (9, 2.0, "draft")
    image = plans.plan(ImageRequest(prompt="a ring", preset="best"))
    assert isinstance(image, ImagePlan)
    assert (image.steps, image.preset) == (20, "best")


def test_an_unknown_preset_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"no preset 'turbo'; available: draft, standard, best"):
        video(planner(tmp_path), preset="turbo")
    with pytest.raises(BadRequest, match="it has none; omit preset"):
        planner(tmp_path).plan(ImageRequest(prompt="a ring", model="z-image-turbo", preset="draft"))


@pytest.mark.parametrize("name", [m.name for m in Catalog(shipped_folder()).manifests.values() if m.presets])
def test_every_shipped_preset_makes_a_plan_and_a_better_one_takes_no_fewer_steps(tmp_path: Path, name: str) -> None:
    plans, catalog = planner(tmp_path), Catalog(shipped_folder())
    request = {"image": "-"} if Task.TEXT_TO_VIDEO not in catalog.get(name).tasks else {}
    steps = []
    for preset in PRESETS:
        asked = VideoRequest.of({"prompt": "a ring", "model": name, "preset": preset, **request})
        serving = plans.choose(asked).manifest
        assert serving.tasks == catalog.get(name).tasks
        plan = plans.plan(asked)
        assert isinstance(plan, VideoPlan)
        assert plan.model == serving.name
        steps.append(plan.steps)
    assert steps == sorted(steps)


def test_a_preset_may_be_another_models_and_the_plan_says_so(tmp_path: Path) -> None:
    plan = video(planner(tmp_path), model="wan2.2-t2v-a14b", preset="draft")
    assert plan.model == "wan2.2-t2v-a14b-4step"
    assert plan.turbo
    assert "preset 'draft' of 'wan2.2-t2v-a14b' uses the model 'wan2.2-t2v-a14b-4step'" in plan.notes
    best = video(planner(tmp_path), model="wan2.2-t2v-a14b-4step", preset="best")
    assert (best.model, best.steps, best.guidance_scale, best.guidance_scale_2) == ("wan2.2-t2v-a14b", 40, 4.0, 3.0)


def test_a_preset_that_leads_nowhere_names_both_models(tmp_path: Path) -> None:
    astray = mini(tmp_path, "astray", ("[presets.draft]\nsteps = 6\n", '[presets.draft]\nmodel = "z-image-turbo"\n'))
    with pytest.raises(BrokenManifest, match=r"'astray': its preset 'draft' refers to 'z-image-turbo'"):
        video(planner(tmp_path, astray), model="astray", preset="draft")


@pytest.mark.parametrize(
    ("preset", "says"),
    [
        ("steps = 51", "presets.draft.steps is outside limits.steps"),
        ("guidance_scale_2 = 13.0", "presets.draft.guidance_scale_2 is outside limits.guidance_scale"),
        ("turbo = true", "presets.draft.turbo needs pipeline.turbo"),
        ('model = "wan-mini"\nsteps = 3', "'model' excludes other keys"),
        ("stpes = 3", "unknown key 'presets.draft.stpes'"),
        ('precision = "fp4"', "presets.draft.precision"),
    ],
)
def test_a_manifest_with_an_impossible_preset_is_refused(tmp_path: Path, preset: str, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(mini(tmp_path, "bad", ("[presets.draft]\nsteps = 6\n", f"[presets.draft]\n{preset}\n")))
    with pytest.raises(BrokenManifest, match=says):
        Manifest.read(file)


def test_turbo_is_taken_where_the_model_allows_it_and_noted(tmp_path: Path) -> None:
    plan = video(planner(tmp_path), model="wan2.2-t2v-a14b-4step", turbo=True)
    assert plan.turbo
    assert any("block-sparse attention after the first step; the result differs" in note for note in plan.notes)
    assert not video(planner(tmp_path), model="wan2.2-t2v-a14b-4step").turbo
    assert not video(planner(tmp_path), model="wan2.2-t2v-a14b-4step", preset="draft", turbo=False).turbo


def test_turbo_is_refused_elsewhere_with_the_models_that_have_it(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"'wan-mini' does not support turbo.*wan2\.2-t2v-a14b"):
        video(planner(tmp_path), turbo=True)


def test_passes_are_left_out_only_where_a_preset_says_so_and_steps_are_many(tmp_path: Path) -> None:
    change = ("[presets.best]\nsteps = 20\n", "[presets.best]\nsteps = 20\nstep_cache = { threshold = 0.1 }\n")
    plans = planner(tmp_path, mini(tmp_path, "caching", change))
    cached = video(plans, model="caching", preset="best")
    assert cached.step_cache is not None
    assert cached.step_cache.threshold == 0.1
    assert any(note.startswith("step cache") for note in cached.notes)
    assert video(plans, model="caching", preset="best", steps=19).step_cache is None
    assert video(plans, model="caching").step_cache is None
    assert video(plans, preset="best").step_cache is None


def test_plans_know_how_long_the_denoisers_sequence_is(tmp_path: Path) -> None:
    assert video(planner(tmp_path), model="wan2.2-t2v-a14b").tokens == 32_760
    image = planner(tmp_path).plan(ImageRequest(prompt="a ring", model="wan2.2-t2v-a14b"))
    assert isinstance(image, ImagePlan)
    assert image.tokens == 1_560


def test_a_preset_in_full_precision_is_planned_and_expected_apart_from_the_others(tmp_path: Path) -> None:
    plans = planner(tmp_path, mini(tmp_path, "exact", ("[presets.best]\n", '[presets.best]\nprecision = "full"\n')))
    best, standard = (video(plans, model="exact", preset=name) for name in ("best", "standard"))
    assert (best.precision, standard.precision) == ("full", "auto")
    assert (variant_of(best, "bf16"), variant_of(standard, "fp8")) == ("bf16+full", "fp8")
    assert precision_asked("auto", best) == "full"
    assert precision_asked("fp8", best) == "fp8"


def test_what_fits_is_worked_out_in_the_precision_of_the_preset(tmp_path: Path) -> None:
    text = (shipped_folder() / "wan2.2-t2v-a14b.toml").read_text(encoding="utf-8")
    for old, new in (('"wan2.2-t2v-a14b"', '"exact"'), ("[presets.best]\n", '[presets.best]\nprecision = "full"\n')):
        assert old in text
        text = text.replace(old, new, 1)
    plans, small = planner(tmp_path, text), Machine("GPU", "bf16", 11_000_000_000, has_fp8=True)
    request = {"prompt": "a ring", "model": "exact", "resolution": "480p-landscape"}
    plans.resolve(VideoRequest.of({**request, "preset": "standard"}), machine=small)
    with pytest.raises(BadRequest, match=r"needs about 11\.\d+ GB of memory in bf16"):
        plans.resolve(VideoRequest.of({**request, "preset": "best"}), machine=small)
