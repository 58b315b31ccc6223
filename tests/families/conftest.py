"""A home whose models come from the loopback hub, and tiny repositories for every manifest that is not of Wan."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import transformers
from PIL import Image

from tests.engine.conftest import Ear
from tests.families import caption_models, image_models
from tests.hub.layouts import shipped_in_small
from tests.hub.loopback import LoopbackHub, loopback_hub
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.store import MediaStore
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import Plan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest
from wan_mcp.settings import Settings
from wan_mcp.weights.hub import Hub

SHARD = "60KB"
"""Small enough that the large parts come in several files, as the real ones do."""

SHIPPED = shipped_in_small()
OTHERS = sorted(m.name for m in SHIPPED.manifests.values() if m.weights.repository and m.pipeline.family != "wan")
IMAGE_MODELS = [name for name in OTHERS if SHIPPED.get(name).tasks[0].kind is Kind.IMAGE]
CAPTION_MODELS = [name for name in OTHERS if SHIPPED.get(name).tasks[0].kind is Kind.CAPTION]

SAVE: dict[str, Callable[..., None]] = {
    "black-forest-labs/FLUX.2-klein-4B": image_models.save_flux2_klein,
    "Qwen/Qwen-Image-2512": image_models.save_qwen_image,
    "Qwen/Qwen-Image-Edit-2511": image_models.save_qwen_image_edit,
    "Tongyi-MAI/Z-Image-Turbo": image_models.save_z_image,
    "fancyfeast/llama-joycaption-beta-one-hf-llava": caption_models.save_joycaption,
    "florence-community/Florence-2-base": caption_models.save_florence,
    "florence-community/Florence-2-large": caption_models.save_florence,
    "Qwen/Qwen3-VL-2B-Instruct": caption_models.save_qwen3_vl,
    "Qwen/Qwen3-VL-4B-Instruct": caption_models.save_qwen3_vl,
    "Qwen/Qwen3-VL-8B-Instruct": caption_models.save_qwen3_vl,
    "Salesforce/blip-image-captioning-large": caption_models.save_blip,
}
"""For each repository, what writes a tiny one of its layout."""


@dataclass
class Place:
    """A home, the shipped manifests, and an engine's runner that pulls from the loopback hub."""

    settings: Settings
    hub: LoopbackHub
    store: JobStore
    picture: Path

    def __post_init__(self) -> None:
        self.catalog = shipped_in_small()
        self.media = MediaStore(self.settings.home)
        self.new_runner()

    def new_runner(self) -> None:
        """A runner that has loaded nothing."""
        cache = Hub(self.hub.endpoint, self.settings.home.parent / "cache", False)
        self.runner = ModelRunner(self.settings, self.catalog, hub=cache)

    def plan(self, request: ImageRequest | CaptionRequest) -> Plan:
        """The plan of a request; `picture` in place of its picture's path."""
        inputs = InputImages(self.media, [self.picture.parent], 20, 50)
        picture = inputs.take(str(self.picture)) if request.image else None
        return Planner(self.settings, self.catalog).plan(request, picture)

    def ear(self, request: ImageRequest | CaptionRequest) -> Ear:
        """A reporter of the running job of a request."""
        self.store.submit(request, self.plan(request), None, 99)
        job = self.store.claim("cpu")
        assert job is not None
        return Ear(job, self.store, self.settings)

    def run(self, request: ImageRequest | CaptionRequest, ear: Ear | None = None) -> Job:
        """The finished job of a request."""
        ear = ear or self.ear(request)
        with ear:
            caption = self.runner.run(ear.job, ear)
        self.store.finish(ear.job, JobState.SUCCEEDED, caption=caption)
        return self.store.get(ear.job.id)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with loopback_hub() as running:
        yield running


@pytest.fixture
def place(hub: LoopbackHub, tmp_path: Path) -> Iterator[Place]:
    settings = Settings(home=tmp_path / "home", device="cpu")
    settings.home.mkdir()
    picture = tmp_path / "picture.png"
    gradient = Image.radial_gradient("L").resize((96, 80))
    Image.merge("RGB", (gradient, gradient.rotate(90), Image.new("L", gradient.size, 60))).save(picture)
    store = JobStore(Database(settings.database))
    yield Place(settings, hub, store, picture)
    store.database.close()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Manifest], Path]:
    """`repository(manifest)`: the folder of its tiny repository, made once."""
    folders: dict[str, Path] = {}

    def make(manifest: Manifest) -> Path:
        name = manifest.weights.repository or ""
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(manifest.name)
            transformers.utils.logging.disable_progress_bar()
            SAVE[name](folders[name], max_shard_size=SHARD)
            (folders[name] / "README.md").write_text("not wanted", encoding="utf-8")
            (folders[name] / "pytorch_model.bin").write_bytes(b"never wanted")
        return folders[name]

    return make


@pytest.fixture
def served(place: Place, repository: Callable[[Manifest], Path]) -> Callable[[str], Manifest]:
    """`served(name)`: a shipped manifest whose tiny repository the hub of this test has."""

    def serve(name: str) -> Manifest:
        manifest = place.catalog.get(name)
        assert manifest.weights.repository is not None
        place.hub.add(manifest.weights.repository, repository(manifest))
        return manifest

    return serve
