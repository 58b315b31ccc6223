"""What the tests of media share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.schema.enums import Kind

ID = "0123456789abcdefghjk"
VIDEO = MediaName.of(ID, 0, Kind.VIDEO)
IMAGE = MediaName.of(ID, 0, Kind.IMAGE)


@pytest.fixture
def media(tmp_path: Path) -> MediaStore:
    return MediaStore(tmp_path)


def moving_circle(count: int = 17, width: int = 128, height: int = 128) -> NDArray[np.uint8]:
    """Frames of a red circle that moves right on navy."""
    frames = []
    for index in range(count):
        frame = Image.new("RGB", (width, height), (0, 0, 128))
        left = 5 + index * (width - 45) // max(1, count - 1)
        ImageDraw.Draw(frame).ellipse((left, height // 3, left + 30, height // 3 + 30), fill=(220, 30, 30))
        frames.append(np.asarray(frame))
    return np.stack(frames)


def noise(count: int = 9, width: int = 128, height: int = 128) -> NDArray[np.uint8]:
    """Frames that nothing compresses."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture
def small_disk(mount_disk: Callable[[int], Path]) -> Path:
    """A disk of its own with room for 64 kB."""
    return mount_disk(64)
