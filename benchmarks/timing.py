"""How long the device takes for what is called."""

import time
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["milliseconds"]


def milliseconds(call: Callable[[], Any], device: torch.device, at_once: int = 1, *, head_start: int = 0) -> float:
    """Milliseconds of one call, of `at_once` in a row; on a CPU those of the host.

    `head_start`: cycles of the GPU before the first, in which the host gets ahead where its launches take longer.
    """
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(at_once):
            call()
        return (time.perf_counter() - began) * 1e3 / at_once
    if head_start:
        torch.cuda._sleep(head_start)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(at_once):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / at_once
