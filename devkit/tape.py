"""Records on any device what CUDA graphs record on a GPU: operations on addresses, replayed on what lies there then.

What a recording reads from outside it does not keep: a replay after that is gone is a `DeadMemory`, where a GPU would
read whatever has the memory by then.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from wan_mcp.engine.cuda_graphs.graphs import GraphCapture


class DeadMemory(AssertionError):
    """A replay reads what is not there any more."""


class Refused(RuntimeError):
    """The device does not record this."""


class _Outside:
    """A tensor that was there before the recording."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = weakref.ref(tensor)

    def now(self) -> Tensor:
        tensor = self._tensor()
        if tensor is None:
            raise DeadMemory
        return tensor


class _Tape(TorchDispatchMode):
    """Does operations and notes them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotations on it
        self.steps: list[tuple[Any, Any, Any, list[Any]]] = []
        self._made: dict[int, Tensor] = {}

    def _noted(self, given: Any) -> Any:
        return _Outside(given) if isinstance(given, Tensor) and id(given) not in self._made else given

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        noted = tree_map(self._noted, (args, kwargs))
        result = func(*args, **kwargs)
        outputs, _ = tree_flatten(result)
        self.steps.append((func, *noted, outputs))
        self._made |= {id(each): each for each in outputs if isinstance(each, Tensor)}
        return result


class TapeRecording:
    def __init__(self, tape: _Tape, output: Tensor, recorder: "TapeRecorder") -> None:
        self._tape, self._recorder = tape, recorder
        self.output = output

    def replay(self) -> None:
        self._recorder.replays += 1
        with torch.no_grad():
            for func, args, kwargs, outputs in self._tape.steps:
                flat, form = tree_flatten((args, kwargs))
                args, kwargs = tree_unflatten(
                    [each.now() if isinstance(each, _Outside) else each for each in flat], form
                )
                made, _ = tree_flatten(func(*args, **kwargs))
                for place, fresh in zip(outputs, made, strict=True):
                    if isinstance(place, Tensor) and place.data_ptr() != fresh.data_ptr():  # else a view
                        place.copy_(fresh)

    def forget(self) -> None:
        self._recorder.alive -= 1
        self._tape.steps = []
        del self.output


class TapeRecorder:
    """See `GraphCapture`; `refuses` is what it raises in the middle of the next recording."""

    def __init__(self) -> None:
        self.works = True
        self.refuses: Exception | None = None
        self.records = self.replays = self.alive = self.closed = 0

    def record(self, work: Callable[[], Tensor]) -> TapeRecording:
        tape = _Tape()
        with tape:
            output = work()
        if self.refuses is not None:
            raise self.refuses
        output.fill_(float("nan"))  # a capture does nothing: only a replay has a result
        self.records += 1
        self.alive += 1
        return TapeRecording(tape, output, self)

    def close(self) -> None:
        assert self.alive == 0
        self.closed += 1


_: type[GraphCapture] = TapeRecorder
