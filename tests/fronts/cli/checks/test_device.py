"""What `doctor` says about the device that is asked for: used, or not, why, and the line that repairs it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_mcp.fronts.cli.checks.device import check_libraries_and_device, device_finding
from wan_mcp.hardware.machine import listed_gpus
from wan_mcp.settings import Settings

H100 = "NVIDIA H100 80GB HBM3"
GIB = 1 << 30


def facts(**changes: Any) -> dict[str, Any]:
    """What torch says on a sound machine with one GPU."""
    return {
        "torch": "2.13.0+cu130",
        "threads": 8,
        "for_gpus": True,
        "mps": False,
        "gpus": 1,
        "name": H100,
        "memory": 80 * GIB,
        "free": 79 * GIB,
        "fault": None,
    } | changes


ON_CPU = {"torch": "2.13.0+cpu", "for_gpus": False, "gpus": 0, "name": None, "fault": "Torch not compiled with CUDA"}
CHANGES: tuple[dict[str, Any], ...] = ({}, {"fault": "it computes wrong sums"})
NO_GPU = {"gpus": 0, "name": None}


@pytest.mark.parametrize("asked", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_computes_is_good_and_named_with_its_memory(asked: str) -> None:
    found = device_finding(asked, facts(), [H100])
    assert found.good
    assert H100 in found.says
    assert "free" in found.says


@pytest.mark.parametrize("listed", [[], [H100]])
def test_a_cpu_that_is_asked_for_is_good_whatever_gpus_there_are(listed: list[str]) -> None:
    found = device_finding("cpu", facts(**ON_CPU), listed)
    assert (found.good, found.says) == (True, "CPU, 8 threads")


def test_without_any_gpu_auto_is_the_cpu() -> None:
    assert device_finding("auto", facts(**ON_CPU), []).good
    apple = device_finding("auto", facts(**ON_CPU, mps=True), [])
    assert apple.good
    assert "Apple's GPU is not used" in apple.says


@pytest.mark.parametrize(
    ("asked", "changes", "listed", "words"),
    [
        ("auto", ON_CPU, [H100], [H100, "build for CPUs", "TORCH=torch==2.13.0+cu130 scripts/install run"]),
        ("cuda", ON_CPU, [], ["cuda is asked for", "build for CPUs", "WAN_MCP_DEVICE=cpu"]),
        ("cuda:9", {}, [H100], ["no cuda:9", "torch sees 1 GPU", "set WAN_MCP_DEVICE=cuda:0"]),
        ("cuda:2", {"gpus": 2, "name": None}, [H100] * 2, ["torch sees 2 GPUs, cuda:0, cuda:1"]),
        ("cuda:0", NO_GPU, [], ["cuda:0 is asked for", "lists no GPU", "WAN_MCP_DEVICE=auto"]),
        (
            "auto",
            NO_GPU | {"fault": "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."},
            [H100],
            ["too old", "update the GPU's driver"],
        ),
        ("auto", NO_GPU, [H100], ["cannot use it", "nvidia-smi"]),
        (
            "auto",
            {"fault": "RuntimeError: CUDA error: no kernel image is available for execution on the device"},
            [H100],
            ["cannot be used", "does not support the GPU"],
        ),
        ("cuda:0", {"fault": "OutOfMemoryError: CUDA out of memory."}, [H100], ["out of memory", "other programs"]),
        ("cuda:0", {"fault": "RuntimeError: CUDA-capable device(s) is/are busy"}, [H100], ["--compute-mode=0"]),
        ("cuda:0", {"fault": "RuntimeError: an unknown error"}, [H100], ["unknown error", "nvidia-smi"]),
        ("cuda:0", {"fault": "it computes wrong sums"}, [H100], ["wrong sums"]),
    ],
)
def test_a_device_that_cannot_be_used_is_bad_with_the_line_that_repairs_it(
    asked: str, changes: dict[str, Any], listed: list[str], words: list[str]
) -> None:
    found = device_finding(asked, facts(**changes), listed)
    assert not found.good
    for word in words:
        assert word in found.says


def test_a_gpu_that_a_variable_hides_is_bad_and_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = device_finding("auto", facts(**NO_GPU), [H100])
    assert not found.good
    assert "CUDA_VISIBLE_DEVICES is ''" in found.says


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A driver's tool that lists a GPU that torch does not see."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{H100}'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    yield tool


def test_a_gpu_that_only_the_driver_sees_is_found_by_the_real_check(driver: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use a GPU here")
    assert listed_gpus() == (H100,)
    libraries, device = check_libraries_and_device(Settings(device="auto"))
    assert "torch" in libraries.says
    assert not device.good
    assert H100 in device.says


def test_a_driver_that_does_not_answer_lists_nothing(driver: Path) -> None:
    driver.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    assert listed_gpus() == ()


def test_each_gpu_of_several_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The driver, torch and the GPUs are what this machine lacks: another program says what torch would."""
    sound, broken = (
        {name: facts(**changes)[name] for name in ("name", "memory", "free", "fault")} for changes in CHANGES
    )
    said = facts(diffusers="1", transformers="5", gpus=2) | {"devices": {"cuda:0": sound, "cuda:1": broken}}
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    _, first, second = check_libraries_and_device(Settings(device="auto"))
    assert (first.good, first.says.startswith(f"cuda:0: {H100}, ")) == (True, True)
    assert (second.good, second.says.startswith(f"cuda:1: {H100} cannot be used: it computes wrong sums")) == (
        False,
        True,
    )
