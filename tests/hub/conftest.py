"""What the tests of the weights share: a loopback hub, a cache of their own, a small model of made-up files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.hub.loopback import LoopbackHub, loopback_hub
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.weights.download_progress import Download
from wan_mcp.weights.fetch import Fetch, fetch
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.hub_errors import Patience

REPOSITORY = "acme/tiny"
LARGE = "transformer/diffusion_pytorch_model.safetensors"
FILES = {
    "model_index.json": b'{"_class_name": "WanPipeline"}',
    "README.md": b"not wanted",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"v" * 3000,
    LARGE: bytes(range(256)) * 2000,
    "transformer/diffusion_pytorch_model.bin": b"a pickle",
}
PATTERNS = ("model_index.json", "vae/*", "transformer/*")
HURRY = Patience(tries=3, wait_s=0.0)


def manifest_of(repository: str = REPOSITORY, files: tuple[str, ...] = PATTERNS, **weights: Any) -> Manifest:
    return Manifest.model_validate(
        {
            "schema": 1,
            "name": "tiny",
            "title": "Tiny",
            "summary": "A model of a test.",
            "tasks": ["text-to-video"],
            "licence": {"id": "Apache-2.0"},
            "weights": {"repository": repository, "files": files, "disk_bytes": 1, **weights},
            "pipeline": {"family": "wan"},
            "frames": {"multiple": 4, "minimum": 5, "maximum": 9, "default": 5, "fps": 8},
            "sizes": {
                "multiple": 16,
                "default": "small",
                "named": [{"name": "small", "width": 64, "height": 64}],
            },
        }
    )


@dataclass
class Puller:
    """Fetches the made-up model, and keeps what was told."""

    hub: LoopbackHub
    root: Path
    manifest: Manifest = field(default_factory=manifest_of)
    token: str | bool = False
    told: list[Download] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def partials(self) -> list[Path]:
        """Files of which something came, and not all."""
        return sorted(p for p in self.cache.glob("models--*/blobs/*.incomplete") if p.stat().st_size)

    @property
    def client(self) -> Hub:
        return Hub(self.hub.endpoint, self.cache, self.token)

    def pull(self, **options: Any) -> Fetch:
        options = {"tell": self.told.append, "hub": self.client, "patience": HURRY, **options}
        return fetch(self.manifest, self.home, **options)


@pytest.fixture(scope="session")
def served() -> Iterator[LoopbackHub]:
    with loopback_hub() as hub:
        yield hub


@pytest.fixture
def hub(served: LoopbackHub) -> Iterator[LoopbackHub]:
    """The hub, empty and well-behaved."""
    served.forget()
    yield served
    served.forget()


@pytest.fixture
def puller(hub: LoopbackHub, tmp_path: Path) -> Puller:
    hub.add(REPOSITORY, FILES)
    return Puller(hub, tmp_path)
