"""Running out of memory in earnest: the job fails with advice, and the engine goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.conftest import MANIFESTS, ONE
from wan_mcp.engine.broken import broken_model
from wan_mcp.engine.memory import is_out_of_memory


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_job_that_is_refused_memory_fails_with_advice_and_the_next_gives_what_it_gave_before(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.residence.short_of_memory", str(tmp_path)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["code"] == "out_of_memory"
    assert "16384x16384" in said["advice"] and "small (32x32)" in said["advice"]
    assert said["fits again"] and said["same after"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["allocator", "python", "cpu", "driver", "cublas"],
)
def test_want_of_memory_while_loading_is_not_taken_for_broken_weights(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(type(error)), broken_model(MANIFESTS[ONE], Path("here")):
        raise error


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
