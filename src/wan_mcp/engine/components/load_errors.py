"""Translate errors in loading weights to job failures with advice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.device.out_of_memory import is_out_of_memory
from wan_mcp.errors import JobFailed
from wan_mcp.text import first_line

__all__ = ["translate_load_errors"]


@contextmanager
def translate_load_errors(manifest: Manifest, place: Path) -> Iterator[None]:
    """Translate library errors about unreadable or unsuitable files to the job's failure.

    Raises:
        JobFailed: the weights in `place` cannot be loaded.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise JobFailed(
            "model_broken",
            f"The weights of '{manifest.name}' in {place} cannot be loaded ({first_line(error)}). Install them again.",
        ) from error
