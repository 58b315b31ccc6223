"""What the engine's tests share: tiny models on disk, and a runner that runs plans on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.engine import models
from tests.support.loading import context_of
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import JobState, Stage, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, InputImage, Plan, VideoPlan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, Request, VideoRequest
from wan_mcp.settings import Settings

ONE = "tiny-one"
TWO = "tiny-two"
TWO_OF_IMAGES = "tiny-two-i2v"
BLIP = "tiny-blip"

MANIFESTS = {
    ONE: models.manifest(ONE, ["text-to-video", "image-to-video", "text-to-image", "image-to-image"]),
    TWO: models.manifest(TWO, ["text-to-video", "text-to-image"]),
    TWO_OF_IMAGES: models.manifest(TWO_OF_IMAGES, ["image-to-video", "first-last-frame-to-video"]),
    BLIP: models.manifest(
        BLIP, ["image-to-text"], pipeline={"family": "blip"}, caption={"max_new_tokens": 6, "free_prompt": True}
    ),
}


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny models' weights."""
    folder = tmp_path_factory.mktemp("embedded")
    models.save_one_expert(folder / ONE)
    models.save_two_experts(folder / TWO)
    models.save_two_experts_of_images(folder / TWO_OF_IMAGES)
    models.save_blip(folder / BLIP)
    return folder


@pytest.fixture(scope="session")
def load(embedded: Path) -> Callable[[str], WanModel]:
    """Load a tiny model again, apart from all studios."""
    return lambda name: load_wan(context_of(MANIFESTS[name], embedded / name))


class Ear(Reporter):
    """A reporter that keeps what it is told, and can be made to stop the job."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard: list[tuple[Stage, int]] = []
        self.steps: list[tuple[int, int]] = []
        self.details: list[str] = []
        self.checks = 0
        self.stop_at: Callable[[Ear], bool] = lambda ear: False
        self.error: type[Exception] = RuntimeError

    def check(self) -> None:
        self.checks += 1
        if self.stop_at(self):
            raise self.error
        super().check()

    def enter(self, stage: Stage, *, item: int = 1, detail: str = "") -> None:
        self.heard.append((stage, item))
        super().enter(stage, item=item, detail=detail)

    def step(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))
        super().step(step, steps)

    def tell(self, detail: str, *, slow: bool = False, left_s: float | None = None) -> None:
        self.details.append(detail)
        super().tell(detail, slow=slow, left_s=left_s)


class Bench:
    """A runner over a home of its own."""

    def __init__(self, home: Path, embedded: Path, device: str = "cpu") -> None:
        self.settings = Settings(home=home, device=device, engine_idle_s=0.0)
        self.store = JobStore(Database(self.settings.database))
        self.media = MediaStore(home)
        self.catalog = Catalog()
        self.catalog.manifests.update(MANIFESTS)
        self.runner = ModelRunner(self.settings, self.catalog, embedded=embedded)

    def job(self, plan: Plan) -> Job:
        """A running job of that plan."""
        request: Request = (
            CaptionRequest(image="x")
            if isinstance(plan, CaptionPlan)
            else VideoRequest(prompt="x")
            if isinstance(plan, VideoPlan)
            else ImageRequest(prompt="x")
        )
        self.store.submit(request, plan, None, 99)
        job = self.store.claim(self.settings.device)
        assert job is not None
        return job

    def ear(self, plan: Plan) -> Ear:
        """A reporter of a running job of that plan."""
        return Ear(self.job(plan), self.store, self.settings)

    def run(self, plan: Plan, ear: Ear | None = None) -> Job:
        """Run a plan and give its finished job."""
        ear = ear or self.ear(plan)
        with ear as report:
            caption = self.runner.run(ear.job, report)
        self.store.finish(ear.job, JobState.SUCCEEDED, caption=caption)
        return self.store.get(ear.job.id)

    def picture(self, width: int = 80, height: int = 64) -> InputImage:
        """An input picture, taken in."""
        source = self.settings.home / "picture.png"
        gradient = Image.radial_gradient("L").resize((width, height))
        Image.merge("RGB", (gradient, gradient.rotate(90), Image.new("L", gradient.size, 60))).save(source)
        return InputImages(self.media, [self.settings.home], 20, 50).take(str(source))


@pytest.fixture
def bench(tmp_path: Path, embedded: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, embedded)
    yield bench
    bench.store.database.close()


COMMON: dict[str, Any] = {
    "prompt": "a red circle moving left",
    "prompt_asked": "a red circle moving left",
    "negative_prompt": "blue",
    "style": None,
    "width": 64,
    "height": 64,
    "steps": 3,
    "guidance_scale": 3.0,
    "seed": 11,
    "count": 1,
}


def video_plan(model: str = ONE, **changes: Any) -> VideoPlan:
    """A small video of a tiny model."""
    values = {"num_frames": 5, "fps": 8.0, "duration_s": 0.625, "model": model, "task": Task.TEXT_TO_VIDEO}
    return VideoPlan(**(COMMON | values | changes))


def image_plan(model: str = ONE, **changes: Any) -> ImagePlan:
    """A small still of a tiny model."""
    return ImagePlan(**(COMMON | {"model": model, "task": Task.TEXT_TO_IMAGE} | changes))


def caption_plan(image: InputImage, **changes: Any) -> CaptionPlan:
    """A caption of the tiny captioner."""
    values = {"caption_type": None, "length": None, "prompt": None, "max_new_tokens": 6}
    return CaptionPlan(**(values | {"model": BLIP, "image": image} | changes))


def changed(manifest: Manifest, **changes: Any) -> Manifest:
    """A manifest with other values."""
    return manifest.model_copy(update=changes)


def changed_pipeline(manifest: Manifest, **changes: Any) -> Manifest:
    """A manifest with other values in [pipeline]."""
    return changed(manifest, pipeline=manifest.pipeline.model_copy(update=changes))
