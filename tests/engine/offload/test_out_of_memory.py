"""Running out of memory in earnest: the job fails with advice, and the engine goes on."""

import errno
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fixtures.bench import MANIFESTS, ONE, TWO, Bench, bench, embedded, image_plan, video_plan
from tests.support.patience import PATIENCE_S
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.device.out_of_memory import is_out_of_memory
from wan_mcp.errors import JobFailed

__all__ = ["bench", "embedded"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_job_that_is_refused_memory_fails_with_advice_and_the_next_gives_what_it_gave_before(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.short_of_memory", str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
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
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("unable to mmap 64 bytes from file <x>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=["allocator", "python", "cpu", "driver", "cublas", "onednn", "onednn's own", "c++", "mapping", "system"],
)
def test_want_of_memory_while_loading_is_not_taken_for_broken_weights(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(type(error)), translate_load_errors(MANIFESTS[ONE], Path("here")):
        raise error


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


class Refused(TorchDispatchMode):
    """After so many operations there is no memory for the next."""

    def __init__(self, after: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotations on it
        self._left = after

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return function(*args, **(kwargs or {}))


def get(least: int) -> int:
    """How many tensors of at least so many bytes there are in this process."""
    gc.collect()
    return sum(isinstance(each, torch.Tensor) and each.nbytes >= least for each in gc.get_objects())


@pytest.mark.parametrize("operations", [300, 1000, 2000])
def test_what_a_job_made_is_let_go_of_also_when_memory_ran_out(bench: Bench, operations: int) -> None:
    plan = video_plan(TWO, width=128, height=128, num_frames=17)
    latents = 4 * 16 * 5 * 16 * 16
    bench.run(image_plan(TWO))
    before = get(latents)
    bench.run(plan)
    assert get(latents) <= before
    with pytest.raises(JobFailed) as failure, Refused(operations):
        bench.run(plan)
    assert failure.value.code == "out_of_memory"
    assert get(latents) <= before
    bench.run(plan)
