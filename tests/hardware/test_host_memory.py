"""What a process may use of main memory: the machine's, or its container's where that is less."""

from pathlib import Path

import psutil
import pytest

from wan_mcp.hardware import host_memory as main_memory
from wan_mcp.hardware.machine import this_machine
from wan_mcp.settings import Settings

MB = 1_000_000


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(main_memory, "CGROUP", tmp_path)
    return tmp_path


def test_a_container_has_no_more_than_its_limit(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text(f"{64 * MB}\n")
    (cgroup / "memory.stat").write_text(f"anon {20 * MB}\nfile {30 * MB}\nshmem {4 * MB}\n")
    assert main_memory.main_memory() == 64 * MB
    assert main_memory.free_main_memory() == 40 * MB
    assert this_machine(Settings(device="cpu")).memory == 64 * MB


@pytest.mark.parametrize("limit", ["max", "9" * 18, None])
def test_without_a_limit_that_matters_the_machine_counts(cgroup: Path, limit: str | None) -> None:
    if limit is not None:
        (cgroup / "memory.max").write_text(limit)
    assert main_memory.main_memory() == psutil.virtual_memory().total
    assert 0 < main_memory.free_main_memory() <= psutil.virtual_memory().total
