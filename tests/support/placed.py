"""Operands at chosen addresses: what shows whether the bits of a result depend on where its operands lie in memory."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

__all__ = ["OFFSETS", "Placements", "placed", "same_bits"]

OFFSETS = (0, 4, 16, 32)
"""Bytes behind a multiple of 64. Torch allocates at 0; in a file, and so in a map of it, any multiple of 4 occurs."""
LINE = 64
WITHOUT_NUMBERS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_", "resize_")
"""Operations whose results hold whatever was in their memory, or share it."""


def placed(tensor: Tensor, offset: int) -> Tensor:
    """Return a copy with the same strides that begins `offset` bytes behind a multiple of 64, or where one may lie."""
    size = tensor.element_size()
    if tensor.numel() == 0:
        return tensor
    span = 1 + sum((length - 1) * stride for length, stride in zip(tensor.size(), tensor.stride(), strict=True))
    room = torch.empty(span * size + 2 * LINE, dtype=torch.uint8, device="cpu")
    start = -room.data_ptr() % LINE + offset - offset % size
    made = room[start : start + span * size]
    made.copy_(torch.as_strided(tensor, (span,), (1,)).view(torch.uint8))
    return torch.as_strided(made.view(tensor.dtype), tensor.size(), tensor.stride())


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the last bit, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    one, other = (each.clone(memory_format=torch.contiguous_format).view(-1) for each in (one, other))
    return bool(torch.equal(one.view(torch.uint8), other.view(torch.uint8)))


class Placements(TorchDispatchMode):
    """Within it, each operation is tried with its operands at all offsets: together, and one at a time.

    An operation is tried once for each set of shapes, strides and types.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotations on it
        self.tried: dict[str, int] = {}
        """Operations, and with how many sets of operands they were tried."""
        self.differing: dict[str, str] = {}
        """Those whose bits depended on the offsets, with an example."""
        self._known: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not set(types) <= {Tensor, torch.nn.Parameter}:
            return NotImplemented  # quantized weights: what they are made of comes here next
        kwargs = kwargs or {}
        flat, spec = tree_flatten((args, kwargs))
        places = [place for place, value in enumerate(flat) if _can_be_placed(value)]
        key = (func.name(), *((flat[p].shape, flat[p].stride(), flat[p].dtype) for p in places))
        of_reals = any(flat[place].is_floating_point() or flat[place].is_complex() for place in places)
        if of_reals and key not in self._known and _computes(func):
            self._known.add(key)
            self._try(func, flat, spec, places)
        return func(*args, **kwargs)

    def _try(self, func: Any, flat: list[Any], spec: Any, places: list[int]) -> None:
        random = torch.get_rng_state()

        def made(offsets: dict[int, int]) -> list[Tensor]:
            torch.set_rng_state(random)
            operands = [placed(v.detach(), offsets.get(p, 0)) if p in places else v for p, v in enumerate(flat)]
            moved, named = tree_unflatten(operands, spec)
            with torch.no_grad():
                results = [each for each in tree_flatten(func(*moved, **named))[0] if isinstance(each, Tensor)]
            changed = [operands[place] for place in places] if func._schema.is_mutable else []
            return [each for each in (*results, *changed) if each.device.type == "cpu"]

        true = made({})
        ways = [dict.fromkeys(places, offset) for offset in OFFSETS[1:]]
        if len(places) > 1:
            ways += [{place: offset} for place in places for offset in OFFSETS[1:]]
        for way in ways:
            if not all(map(same_bits, made(way), true)):
                shapes = ", ".join(f"{tuple(flat[place].shape)} at {way.get(place, 0)}" for place in places)
                self.differing.setdefault(func.name(), shapes)
        self.tried[func.name()] = self.tried.get(func.name(), 0) + 1
        torch.set_rng_state(random)


def _can_be_placed(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and type(value) in (Tensor, torch.nn.Parameter)
        and value.device.type == "cpu"
        and value.layout == torch.strided
    )


def _computes(func: Any) -> bool:
    """Whether the operation makes numbers: not views, nor memory without numbers."""
    view = any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)
    return not view and func._schema.name.removeprefix("aten::") not in WITHOUT_NUMBERS
