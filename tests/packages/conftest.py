"""Packages that are compiled once for all tests of packages: the embedded model's, and two of tiny models.

They are really compiled: where there is no C++ compiler, or one that does not match torch, the tests fail and say so.
What an earlier run compiled from the same sources with the same compiler is taken from the cache; see `kept`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.conftest import bench, embedded
from tests.packages.kept import COMPILER, keep, seed
from wan_mcp.engine.aot.builder import BuildRequest, build
from wan_mcp.engine.aot.cache_key import cache_key_of, kind_to_dict
from wan_mcp.engine.aot.compiler_check import check_compiler
from wan_mcp.engine.aot.registry import PackageRegistry
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.settings import Settings

__all__ = ["bench", "embedded"]

CPU = torch.device("cpu")
SHAPE = BlockShape(width=64, heads=2, ffn_dim=96, cross_norm=True, temb_per_token=False, eps=1e-6)
"""Of the tiny models with two experts."""
IN_PLAIN = BlockKind(SHAPE, PLAIN, torch.float32)
IN_FP8 = BlockKind(SHAPE, FP8, torch.float32)
SECONDS = 500


def wanted(kind: BlockKind) -> BuildRequest:
    return BuildRequest(kind_to_dict(kind), "cpu", cache_key_of(kind, CPU).hash)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the packages of `IN_PLAIN` and `IN_FP8`."""
    home = tmp_path_factory.mktemp("compiled")
    seeded = seed(home)
    for kind in (IN_PLAIN, IN_FP8):
        told: list[str] = []
        built = build(wanted(kind), home, told.append)
        assert built == (wanted(kind).name not in seeded)
        assert told == (["compiling", "verifying"] if built else [])
    keep(home)
    return home


@pytest.fixture(scope="session")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the compiler of this machine was proved."""
    home = tmp_path_factory.mktemp("proved")
    seed(home)
    before = (home / "packages" / COMPILER).is_file()
    proof = check_compiler(home)
    assert proof.good, proof.says
    assert ("(checked before)" if before else "builds packages that this torch can load") in proof.says
    keep(home)
    return home


@pytest.fixture(scope="session")
def compiled_mini(proved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the packages of wan-mini in FP8, which the command line has compiled."""
    home = tmp_path_factory.mktemp("mini")
    seeded = seed(home)
    settings = Settings(home=home, device="cpu", precision="fp8")
    command = [sys.executable, "-m", "wan_mcp", "compile", "wan-mini"]
    run = subprocess.run(
        command,
        env=os.environ | settings.environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr + settings.log_file.read_text()
    for line in run.stdout.splitlines():
        name, there = line.removesuffix(" (was there already)"), line.endswith(" (was there already)")
        assert Path(name).is_file() and name.endswith(".pt2")
        assert there == (Path(name).stem in seeded)
    keep(home)
    return home


@pytest.fixture
def home(compiled: Path, tmp_path: Path) -> Path:
    """A home of this test's own with copies of the packages of `compiled`."""
    shutil.copytree(compiled / "packages", tmp_path / "home" / "packages", ignore=shutil.ignore_patterns("compiler"))
    return tmp_path / "home"


@pytest.fixture
def opened() -> Iterator[Callable[[Path], PackageRegistry]]:
    """Open the packages of a home as an engine does; closed after the test."""
    everything: list[PackageRegistry] = []

    def opened(home: Path) -> PackageRegistry:
        everything.append(PackageRegistry(home))
        return everything[-1]

    yield opened
    for each in everything:
        each.close()


def rewrite(file: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
