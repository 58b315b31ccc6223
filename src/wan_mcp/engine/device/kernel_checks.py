"""Errors of kernels that were measured on this GPU before: a check that passed is not repeated by the next engine.

They are kept in the home, in one JSON file for each GPU, driver, set of versions and text of our kernels. Only numbers
are read from it. A file that cannot be understood is ignored and written again; checks that failed are not kept.
"""

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from wan_mcp.files import atomic_file
from wan_mcp.permissions import make_folder

__all__ = ["facts_of_kernels", "has_checks", "keep_checks_in", "measured_error"]

log = logging.getLogger(__name__)

PACKAGES = ("triton", "nvidia-cudnn-frontend", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-cutlass-dsl")
DRIVER = Path("/proc/driver/nvidia/version")
SOURCES = ("attention", "ops", "vae")
"""Folders of the engine whose code is in what was checked."""
FILES_KEPT = 20
"""Maximum number kept: those of older drivers and versions are not used again."""


class _Checks(BaseModel):
    """The content of a file."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    facts: dict[str, Any]
    errors: dict[str, float]


class _Kept:
    """The folder of checks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def errors(self, device: torch.device) -> dict[str, float]:
        try:
            content = _Checks.model_validate_json(self._file(device).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            log.warning("kept checks of kernels are ignored: %s", type(error).__name__)
            return {}
        return content.errors if content.facts == facts_of_kernels(device) else {}

    def keep(self, device: torch.device, name: str, error: float) -> None:
        """Add a measured error. The folder may be read-only or full: the next engine then measures again."""
        facts, file = facts_of_kernels(device), self._file(device)
        try:
            make_folder(self._folder)
            # Rehearsals of several parts of a model add theirs at the same time.
            with self._lock, FileLock(file.with_suffix(".lock"), mode=0o600):
                content = _Checks(facts=facts, errors=self.errors(device) | {name: error})
                with atomic_file(file, private=True) as fresh:
                    fresh.write_text(content.model_dump_json(indent=1), encoding="utf-8")
            for stale in sorted(self._folder.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-FILES_KEPT]:
                stale.unlink(missing_ok=True)
                stale.with_suffix(".lock").unlink(missing_ok=True)
        except OSError as failure:
            log.info("checks of kernels are not kept: %s", failure)

    def _file(self, device: torch.device) -> Path:
        text = json.dumps(facts_of_kernels(device), sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


_KEPT: _Kept | None = None


def keep_checks_in(folder: Path | None) -> None:
    """Keep what this process measures in `folder`, and use what is there; None for neither."""
    global _KEPT
    _KEPT = None if folder is None else _Kept(folder)


def has_checks(device: torch.device) -> bool:
    """Check whether an engine has measured kernels on this device before, with these versions."""
    return _KEPT is not None and bool(_KEPT.errors(device))


def measured_error(device: torch.device, name: str, limit: float, measure: Callable[[], float]) -> float:
    """Return a kernel's error on a device: one within `limit` that was measured before, or what `measure` returns."""
    known = _KEPT.errors(device).get(name) if _KEPT is not None else None
    if known is not None and 0 <= known <= limit:
        log.info("%s: checked before", name)
        return known
    began = time.monotonic()
    error = measure()
    log.info("%s: checked in %.2f s", name, time.monotonic() - began)
    if _KEPT is not None and math.isfinite(error) and error <= limit:
        _KEPT.keep(device, name, error)
    return error


@cache
def facts_of_kernels(device: torch.device) -> dict[str, Any]:
    """Return what the results of kernels on a device depend on, as plain values of JSON."""
    facts = {
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "sources": _sources(),
        "torch": f"{torch.__version__} {torch.version.git_version}",
    }
    if device.type != "cuda":
        return facts | {"device": device.type}
    return facts | {
        "device": torch.cuda.get_device_name(device),
        "capability": list(torch.cuda.get_device_capability(device)),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
    }


def _driver() -> str:
    try:
        return DRIVER.read_text(encoding="utf-8").partition("\n")[0]
    except OSError:  # not on Linux, or in a container without it
        return "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sources() -> str:
    """Return the SHA-256 of the code of our kernels and their checks."""
    total, engine = hashlib.sha256(), Path(__file__).parents[1]
    for file in sorted(file for folder in SOURCES for file in (engine / folder).glob("*.py")):
        total.update(f"{file.relative_to(engine)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
