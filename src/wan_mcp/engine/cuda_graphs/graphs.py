"""Small forward passes of denoisers as CUDA graphs: captured once, then replayed with one launch instead of thousands.

A graph is bound to memory addresses. Everything it reads is therefore kept alive with it, inputs that change between
steps are copied to those addresses, and the graph is dropped as soon as it would have to read other tensors.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.engine.transformer.fast_blocks import CONTEXTS_KEPT, FastBlocks, RunBlock
from wan_mcp.engine.transformer.weight_store import ResidentWeights
from wan_mcp.text import first_line

__all__ = ["MAX_FLOPS", "MIN_PASSES", "CapturedGraph", "GraphCapture", "ReplayCount", "block_flops", "capturing"]

log = logging.getLogger(__name__)

MAX_FLOPS = 1e12
"""Floating-point operations of a block up to which launching it takes as long as running it.

The host launches a block in 0.9 ms; in that time an H200 executes 1e12 operations (2.4e12 in 2.3 ms: `docs/engine.md`).
Smaller GPUs take longer. Attention through cudnn-frontend alone exceeds this, so it is never captured.
"""
MIN_PASSES = 4
"""Minimum passes of a denoiser per text for a capture to pay off: the first is not captured, the second costs more."""


class CapturedGraph(Protocol):
    """Captured work."""

    output: Tensor
    """The tensor that each replay overwrites with its result."""

    def replay(self) -> None:
        """Enqueue the work again, with the current values of its inputs."""

    def forget(self) -> None:
        """Free the memory; the graph cannot be replayed afterwards."""


class GraphCapture(Protocol):
    """Graph capture on a device."""

    works: bool
    """Whether no capture has failed so far."""

    def record(self, work: Callable[[], Tensor]) -> CapturedGraph:
        """Capture the work; it may not have been executed when this returns.

        Graphs share their memory: one may overwrite another's intermediate results, but not its `output`.
        """

    def close(self) -> None:
        """Free the shared memory, after all graphs were forgotten."""


@dataclass
class ReplayCount:
    """Number of passes, and of those that were replays."""

    passes: int = 0
    replayed: int = 0
    release: Callable[[], None] = lambda: None
    """Releases all graphs, and captures no others; any memory that they had is free then."""


def block_flops(shape: BlockShape, tokens: int) -> float:
    """Return the floating-point operations of a block: its products and its self-attention."""
    products = 2.0 * tokens * shape.width * (6 * shape.width + 2 * shape.ffn_dim)
    return products + 4.0 * shape.width * tokens**2


@contextmanager
def capturing(
    denoisers: Sequence[tuple[Any, FastBlocks]], recorder: GraphCapture | None, passes: int
) -> Iterator[ReplayCount]:
    """Replay small forward passes of these denoisers within the `with` block; everything is restored afterwards.

    Use it around the denoising of a job without turbo and step cache, which change what a forward computes.

    Args:
        denoisers: each `WanTransformer3DModel` with its blocks.
        recorder: the device's graph capture; None if it has none.
        passes: the expected number with each text, of all denoisers together.
    """
    count = ReplayCount()
    resident = all(isinstance(blocks.weight_store, ResidentWeights) for _, blocks in denoisers)
    if recorder is None or not denoisers or not resident or passes < MIN_PASSES * len(denoisers):
        yield count
        return
    forwards: list[_GraphedForward] = []

    def give_up() -> None:
        for forward in forwards:
            forward.give_up()
        recorder.close()

    count.release = give_up
    forwards += [_GraphedForward(model, blocks, recorder, count, give_up) for model, blocks in denoisers]
    try:
        with ExitStack() as stack:
            for (model, _), forward in zip(denoisers, forwards, strict=True):
                stack.enter_context(_standing_in(model, forward))
            yield count
    finally:
        count.release = lambda: None
        forwards.clear()  # breaks a cycle with `give_up`, which would keep the model alive after its last use
        recorder.close()
    if count.replayed:
        log.info("%d of %d forwards were replayed", count.replayed, count.passes)


@contextmanager
def _standing_in(model: Any, forward: "_GraphedForward") -> Iterator[None]:
    model.forward = forward  # shadows the class's method; hooks still wrap it
    try:
        yield
    finally:
        del model.forward
        forward.forget()


@dataclass
class _CapturedForward:
    """A kind of forward pass that has run before."""

    run: RunBlock
    changes: int
    layouts: tuple[Any, ...]
    text: Tensor
    recording: CapturedGraph | None = None
    inputs: tuple[Tensor, ...] = ()
    """Tensors that the inputs are copied to before a replay."""
    read: Sequence[Tensor] = ()
    """Everything else that it reads, except weights; referenced here to keep it in memory."""

    def replay(self, *inputs: Tensor) -> Tensor:
        """Return a copy of the result for these inputs: the results for two texts are needed at the same time."""
        assert self.recording is not None
        for place, source in zip(self.inputs, inputs, strict=True):
            place.copy_(source)
        self.recording.replay()
        return self.recording.output.clone()

    def forget(self) -> None:
        """Release everything."""
        if self.recording is not None:
            self.recording.forget()
        self.recording, self.inputs, self.read = None, (), ()


class _GraphedForward:
    """Replacement for a denoiser's forward: runs it, captures it when its kind occurs again, then replays it.

    The first pass of a kind runs normally, to compile and select kernels and compute the text's keys and values.
    """

    def __init__(
        self, model: Any, blocks: FastBlocks, recorder: GraphCapture, count: ReplayCount, failed: Callable[[], None]
    ) -> None:
        """Wrap the model's forward; `failed` is called after a failed capture, to stop all captures and free memory."""
        self._failed = failed
        self._plain: Any = model.forward
        self._patch: tuple[int, int, int] = model.config.patch_size
        self._shapes = {kind.shape for kind in blocks.kinds}
        self._blocks, self._recorder, self._count = blocks, recorder, count
        self._seen: list[_CapturedForward] = []
        self._given_up = False

    def __call__(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """See `WanTransformer3DModel`."""
        self._count.passes += 1
        usual = encoder_hidden_states_image is None and not return_dict and attention_kwargs is None
        if usual and self._may_record(hidden_states):
            known = self._find(hidden_states, timestep, encoder_hidden_states)
            if known.recording is not None:
                self._count.replayed += 1
                return (known.replay(hidden_states, timestep),)
        return self._plain(
            hidden_states, timestep, encoder_hidden_states, encoder_hidden_states_image, return_dict, attention_kwargs
        )

    def give_up(self) -> None:
        """Stop capturing, and release all graphs."""
        self._given_up = True
        self.forget()

    def forget(self) -> None:
        """Release all graphs and everything that they read."""
        for known in self._seen:
            known.forget()
        self._seen = []

    def _may_record(self, latents: Tensor) -> bool:
        if self._given_up or not self._recorder.works or torch.is_grad_enabled() or len(latents) != 1:
            return False
        tokens = latents[0, 0].numel()
        for size in self._patch:
            tokens //= size
        return all(block_flops(shape, tokens) <= MAX_FLOPS for shape in self._shapes)

    def _find(self, latents: Tensor, times: Tensor, text: Tensor) -> _CapturedForward:
        """Return the entry for this kind of forward; capture it if it has run before and can be captured."""
        blocks = self._blocks
        if any(known.run is not blocks.run or known.changes != blocks.changes for known in self._seen):
            self.forget()
        layouts = tuple((x.shape, x.stride(), x.dtype, x.device) for x in (latents, times))
        for known in self._seen:
            if known.text is text and known.layouts == layouts:
                if known.recording is None:
                    self._record(known, latents, times)
                return known
        fresh = _CapturedForward(blocks.run, blocks.changes, layouts, text)
        for known in self._seen[: -CONTEXTS_KEPT + 1]:
            known.forget()
        self._seen = [*self._seen[-CONTEXTS_KEPT + 1 :], fresh]
        return fresh

    def _record(self, known: _CapturedForward, latents: Tensor, times: Tensor) -> None:
        read = self._blocks.static_inputs(latents, known.text)
        if read is None:  # it would be allocated in the graph's memory and outlive it
            return
        known.inputs, known.read = (torch.empty_like(latents), torch.empty_like(times)), read

        def work() -> Tensor:
            out: Tensor = self._plain(*known.inputs, known.text, return_dict=False)[0]
            return out

        try:
            known.recording = self._recorder.record(work)
            return
        except torch.OutOfMemoryError:  # a normal pass needs less memory
            log.info("not enough memory to capture a forward of %s", list(latents.shape))
        except Exception as error:  # whatever the driver or a kernel rejects, the forward itself works
            log.warning("forwards are not recorded: %s", first_line(error))
            self._recorder.works = False
        self._failed()  # not earlier: the error references tensors created before it
