"""Checks of kernels are measured once for a GPU and its versions, and only numbers are read from what is kept."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from wan_mcp.engine.attention import selector
from wan_mcp.engine.attention.accuracy import AttentionAccuracy, synthetic_qkv
from wan_mcp.engine.device import kernel_checks
from wan_mcp.engine.device.kernel_checks import facts_of_kernels, keep_checks_in, measured_error

CPU = torch.device("cpu")
LIMIT = 0.01


class Kernel:
    """What measures a kernel, and counts how often it did."""

    def __init__(self, error: float) -> None:
        self.error, self.measured = error, 0

    def measure(self) -> float:
        self.measured += 1
        return self.error


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    keep_checks_in(tmp_path / "kernels")
    yield tmp_path / "kernels"
    keep_checks_in(None)


def check(kernel: Kernel, name: str = "a kernel", limit: float = LIMIT) -> float:
    return measured_error(CPU, name, limit, kernel.measure)


def the_file(folder: Path) -> Path:
    (file,) = folder.glob("*.json")
    return file


def test_a_check_that_passed_is_not_repeated(folder: Path) -> None:
    kernel = Kernel(0.004)
    assert [check(kernel), check(kernel)] == [0.004, 0.004]
    assert kernel.measured == 1
    assert the_file(folder).stat().st_mode & 0o077 == 0
    other = Kernel(0.002)
    assert check(other, "another kernel") == 0.002
    assert set(json.loads(the_file(folder).read_text())["errors"]) == {"a kernel", "another kernel"}


def test_engines_that_measure_at_the_same_time_lose_no_check(folder: Path) -> None:
    several = [kernel_checks._Kept(folder) for _ in range(8)]  # each with its own lock, as in several processes
    with ThreadPoolExecutor(len(several)) as pool:
        list(pool.map(lambda number: several[number].keep(CPU, f"kernel {number}", 0.001), range(len(several))))
    assert set(json.loads(the_file(folder).read_text())["errors"]) == {f"kernel {number}" for number in range(8)}


@pytest.mark.parametrize("error", [0.02, float("inf"), float("nan")])
def test_a_check_that_failed_is_repeated(folder: Path, error: float) -> None:
    kernel = Kernel(error)
    check(kernel)
    check(kernel)
    assert kernel.measured == 2
    assert not list(folder.glob("*.json"))


def test_a_stricter_limit_measures_again(folder: Path) -> None:
    kernel = Kernel(0.009)
    check(kernel)
    check(kernel, limit=0.001)
    assert kernel.measured == 2


@pytest.mark.parametrize("fact", ["torch", "device", "sources", "packages"])
def test_other_versions_drivers_and_code_measure_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fact: str
) -> None:
    kernel = Kernel(0.004)
    check(kernel)
    others = facts_of_kernels(CPU) | {fact: "another"}
    monkeypatch.setattr(kernel_checks, "facts_of_kernels", lambda device: others)
    check(kernel)
    assert kernel.measured == 2
    assert len(list(folder.glob("*.json"))) == 2


def rewritten(content: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        lambda kept: b"",
        lambda kept: b"\x80\x04\x95",
        lambda kept: json.dumps(kept).encode()[:-9],
        lambda kept: b"[" * 100_000,
        lambda kept: rewritten(kept, errors={"a kernel": "0.001"}),
        lambda kept: rewritten(kept, errors={"a kernel": None}),
        lambda kept: json.dumps(kept).replace("0.004", "NaN").encode(),
        lambda kept: json.dumps(kept).replace("0.004", "-1").encode(),
        lambda kept: rewritten(kept, errors=[["a kernel", 0.001]]),
        lambda kept: rewritten(kept, facts=kept["facts"] | {"torch": "another"}),
        lambda kept: rewritten(kept, more=1),
    ],
)
def test_a_file_that_cannot_be_understood_is_ignored_and_written_again(folder: Path, content: Any) -> None:
    kernel = Kernel(0.004)
    check(kernel)
    file = the_file(folder)
    file.write_bytes(content(json.loads(file.read_text())))
    assert check(kernel) == 0.004
    assert kernel.measured == 2
    check(kernel)
    assert kernel.measured == 2
    assert json.loads(file.read_text())["errors"] == {"a kernel": 0.004}


def test_a_folder_that_cannot_be_written_costs_a_measurement_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    keep_checks_in(tmp_path / "file" / "kernels")
    kernel = Kernel(0.004)
    assert [check(kernel), check(kernel)] == [0.004, 0.004]
    assert kernel.measured == 2
    keep_checks_in(None)


def test_attention_is_chosen_by_what_was_measured_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (tensor.bfloat16() for tensor in synthetic_qkv(64, grid=(2, 4, 6), heads=2))
    small = AttentionAccuracy.on(query, key, value)
    measured: list[torch.device] = []

    def trial(device: torch.device, head_dim: int) -> AttentionAccuracy:
        measured.append(device)
        return small

    monkeypatch.setattr(AttentionAccuracy, "of", trial)
    for _ in range(2):
        monkeypatch.setattr(selector, "_TRIED", {})  # as in a new process
        kernel = selector.kernel_of(CPU, "math", 64)
        assert kernel is not None and kernel.name == "math"
    assert measured == [CPU]


def test_only_the_latest_files_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = facts_of_kernels(CPU)
    for number in range(kernel_checks.FILES_KEPT + 3):
        monkeypatch.setattr(kernel_checks, "facts_of_kernels", lambda device, number=number: true | {"torch": number})
        check(Kernel(0.004))
    assert len(list(folder.glob("*.json"))) == kernel_checks.FILES_KEPT
