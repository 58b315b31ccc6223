"""The fixtures of these tests."""

from tests.fixtures.image_files import folder, inputs, take
from tests.fixtures.media import media, small_disk

__all__ = ["folder", "inputs", "media", "small_disk", "take"]
