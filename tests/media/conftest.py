"""The fixtures of these tests."""

from tests.fixtures.image_files import take
from tests.fixtures.media import media, small_disk

__all__ = ["media", "small_disk", "take"]
