"""Running a training step fast: captured as a CUDA graph once per input shape, plainly on the CPU.

Models this small are bound by kernel launches; a replayed graph launches once per step.
"""

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_WARM_UP = 3


class StepRunner:
    """Calls `step(*tensors) -> Tensor` (forward, backward, optimiser and all), captured on CUDA.

    The returned tensor is overwritten by the next call of the same shape.
    """

    def __init__(self, step: Callable[..., Tensor], device: torch.device) -> None:
        self._step = step
        self._device = device
        # One memory pool for all captures: they never run at the same time.
        self._memory = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self._captured: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return self._step(*inputs)
        key = tuple(tensor.shape for tensor in inputs)
        if key not in self._captured:
            self._captured[key] = self._capture(inputs)
        graph, places, result = self._captured[key]
        for place, tensor in zip(places, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return result

    def _capture(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]:
        places = tuple(tensor.clone() for tensor in inputs)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._step(*places)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            result = self._step(*places)
        return graph, places, result


class Average:
    """An exponential moving average of parameters, kept on the device and updated inside the captured step."""

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.values = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self.values, [p.detach() for p in self._parameters], 1 - self._decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averaged and the live values; calling it twice changes nothing."""
        for value, parameter in zip(self.values, self._parameters, strict=True):
            kept = value.clone()
            value.copy_(parameter)
            parameter.copy_(kept)


class Schedule:
    """Counts steps and says how far the training is: by steps, or by time where the machine is slower than planned.

    On the machine that the step counts are meant for, time plays no part and a run can be repeated.
    """

    def __init__(self, steps: int, limit_s: float) -> None:
        self._steps, self._limit_s = steps, limit_s
        self.done = 0
        self.progress = 0.0

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """(step, progress from 0 to 1) until either reaches its end."""
        begin = time.monotonic()
        while self.progress < 1:
            yield self.done, self.progress
            self.done += 1
            self.progress = max(self.done / self._steps, (time.monotonic() - begin) / self._limit_s)

    def rate(self, peak: float, warm_up: int = 200, floor: float = 0.01) -> float:
        """Learning rate: a linear rise over `warm_up` steps under half a cosine down to `floor * peak`."""
        cosine = peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(self.progress, 1.0))))
        return cosine * min((self.done + 1) / warm_up, 1.0)
