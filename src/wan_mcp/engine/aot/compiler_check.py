"""Check that this machine's C++ compiler builds packages that this torch can load. Imports no torch."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.builder import environment
from wan_mcp.files import atomic_file
from wan_mcp.permissions import make_folder
from wan_mcp.text import last_line

__all__ = ["CompilerCheck", "check_compiler", "compiler_fingerprint", "default_compiler"]

log = logging.getLogger(__name__)

PROBE = "wan_mcp.engine.aot.compiler_probe_main"
PATIENCE_S = 600.0  # a machine that computes a video meanwhile took minutes
SYSTEMS_OWN = "/usr/bin/g++"
LOGGED = 3000  # characters of the end of the compiler's output


@dataclass(frozen=True)
class CompilerCheck:
    """The result of the check."""

    good: bool
    says: str
    """The finding and, if the compiler is at fault, the setting to change."""


def check_compiler(home: Path, *, patience_s: float = PATIENCE_S, alternative: str = SYSTEMS_OWN) -> CompilerCheck:
    """Build and load a one-line package, unless the same compiler and torch have passed before.

    If it fails, `alternative` is tried, and recommended if it works.

    Raises:
        OSError: the home folder cannot be written.
    """
    folder = home / "packages"
    make_folder(folder)
    known = folder / "compiler.json"
    mine = default_compiler()
    about = compiler_fingerprint(mine)
    if about is not None and _read(known) == about:
        return CompilerCheck(
            True, f"{about['path']} builds packages that torch {about['torch']} can load (checked before)"
        )
    began = time.monotonic()
    fault = _fault(home, None, patience_s)
    if fault is None:
        if about is not None:
            with atomic_file(known, private=True) as fresh:
                fresh.write_text(json.dumps(about))
        where = about["path"] if about else mine
        return CompilerCheck(
            True, f"{where} builds packages that this torch can load ({time.monotonic() - began:.0f} s)"
        )
    says = f"packages cannot be built with {mine}: {fault}. Until this is fixed, blocks run eagerly, which is slower"
    if Path(alternative).is_file() and (about is None or Path(about["path"]) != Path(alternative).resolve()):
        other = _fault(home, alternative, patience_s)
        if other is None:
            return CompilerCheck(False, f"{says}: {alternative} works, so set CXX={alternative}")
    elif about is None:
        says += ": install g++, or set CXX to a C++ compiler"
    return CompilerCheck(False, says)


def default_compiler() -> str:
    """Return the C++ compiler that torch uses: `CXX`, or the system's."""
    return os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")


def compiler_fingerprint(compiler: str) -> dict[str, str] | None:
    """Return the compiler and torch that a check is valid for; another pair must be checked again."""
    path = shutil.which(compiler)
    if path is None:
        return None
    file = Path(path).resolve()
    return {"path": str(file), "changed": str(file.stat().st_mtime_ns), "torch": version("torch")}


def _read(file: Path) -> object:
    with suppress(OSError, ValueError):
        return json.loads(file.read_text())
    return None


def _fault(home: Path, compiler: str | None, patience_s: float) -> str | None:
    """Return the reason for a failure, or None. The cache is new, so that no other compiler's output is reused."""
    with tempfile.TemporaryDirectory(dir=home / "packages") as fresh, tempfile.TemporaryFile() as errors:
        own = environment(home) | {"TORCHINDUCTOR_CACHE_DIR": str(Path(fresh) / "cache")}
        if compiler is not None:
            own["CXX"] = compiler
        file = str(Path(fresh) / "line.pt2")
        process = child_process.start(["-m", PROBE, file], own, output=subprocess.DEVNULL, errors=errors)
        try:
            code = process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            return f"it took longer than {patience_s:.0f} s"
        finally:
            child_process.end(process)
        if code == 0:
            return None
        if code < 0:
            return f"the process that loads one died of {signal.Signals(-code).name}"
        errors.seek(0)
        output = errors.read().decode(errors="replace")
        log.info("the compiler check ended with exit code %d: %s", code, output[-LOGGED:])
        return last_line(output.splitlines()) or f"exit code {code}"
