"""Small forwards of denoisers as CUDA graphs: recorded once, then replayed with one launch instead of thousands.

A recording is bound to addresses. So whatever it reads is kept with it, what changes from step to step is copied to
where it reads, and it is forgotten as soon as something else is to be read.
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

The host launches a block in 0.9 ms, and in that time an H200 does 1e12 of them (2.4e12 in 2.3 ms: `docs/engine.md`).
Smaller GPUs take longer. Attention that goes through cudnn-frontend is more work on its own: it is never recorded.
"""
MIN_PASSES = 4
"""Of a denoiser with a text, from which on a recording pays: the first is none, the second costs a little more."""


class CapturedGraph(Protocol):
    """Work that was recorded."""

    output: Tensor
    """Where each replay leaves the result."""

    def replay(self) -> None:
        """Ask for the work anew, with what its inputs hold then."""

    def forget(self) -> None:
        """Give its memory back; it cannot be replayed any more."""


class GraphCapture(Protocol):
    """What records work on a device."""

    works: bool
    """Whether no recording has failed so far."""

    def record(self, work: Callable[[], Tensor]) -> CapturedGraph:
        """The work as a recording. It need not have been done when this returns. Recordings share their memory: one
        may destroy what another left, but not its `output`."""

    def close(self) -> None:
        """Give the shared memory back, after all recordings were forgotten."""


@dataclass
class ReplayCount:
    """How many passes there were, and how many of them were replays."""

    passes: int = 0
    replayed: int = 0


def block_flops(shape: BlockShape, tokens: int) -> float:
    """Floating-point operations of a block: its products and its self-attention."""
    products = 2.0 * tokens * shape.width * (6 * shape.width + 2 * shape.ffn_dim)
    return products + 4.0 * shape.width * tokens**2


@contextmanager
def capturing(
    denoisers: Sequence[tuple[Any, FastBlocks]], recorder: GraphCapture | None, passes: int
) -> Iterator[ReplayCount]:
    """Replay small forwards of these denoisers within the block; nothing of it is left behind.

    Use it around the denoising of a job, where neither turbo nor a step cache changes what a forward does.

    Args:
        denoisers: each `WanTransformer3DModel` with its blocks.
        recorder: None where the device has nothing that records.
        passes: that are expected with each text, of all denoisers together.
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

    forwards += [_GraphedForward(model, blocks, recorder, count, give_up) for model, blocks in denoisers]
    try:
        with ExitStack() as stack:
            for (model, _), forward in zip(denoisers, forwards, strict=True):
                stack.enter_context(_standing_in(model, forward))
            yield count
    finally:
        forwards.clear()  # they hold `give_up`, and that holds them: the model would outlive the last of its users
        recorder.close()
    if count.replayed:
        log.info("%d of %d forwards were replayed", count.replayed, count.passes)


@contextmanager
def _standing_in(model: Any, forward: "_GraphedForward") -> Iterator[None]:
    model.forward = forward  # in place of the class's; hooks stay around it
    try:
        yield
    finally:
        del model.forward
        forward.forget()


@dataclass
class _CapturedForward:
    """A kind of forward that was seen."""

    run: RunBlock
    changes: int
    layouts: tuple[Any, ...]
    text: Tensor
    recording: CapturedGraph | None = None
    inputs: tuple[Tensor, ...] = ()
    """What is copied to before a replay."""
    read: Sequence[Tensor] = ()
    """What else it reads beside weights: here, so that it keeps its memory."""

    def replay(self, *inputs: Tensor) -> Tensor:
        """The result for these inputs, in memory of its own: two texts' results are needed side by side."""
        assert self.recording is not None
        for place, given in zip(self.inputs, inputs, strict=True):
            place.copy_(given)
        self.recording.replay()
        return self.recording.output.clone()

    def forget(self) -> None:
        """Let go of everything."""
        if self.recording is not None:
            self.recording.forget()
        self.recording, self.inputs, self.read = None, (), ()


class _GraphedForward:
    """Stands in for a denoiser's forward: runs it, records it when its kind comes again, and replays it from then on.

    What comes first runs as ever, so that kernels are compiled and chosen, and the text's keys and values made.
    """

    def __init__(
        self, model: Any, blocks: FastBlocks, recorder: GraphCapture, count: ReplayCount, failed: Callable[[], None]
    ) -> None:
        """`failed` is called when a recording failed; it has all denoisers give up, and gives their memory back."""
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
        """Record nothing any more, and forget what was."""
        self._given_up = True
        self.forget()

    def forget(self) -> None:
        """Let go of all recordings and of all that they read."""
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
        """What is known of such a forward; recorded, if it was seen before and that is possible."""
        blocks = self._blocks
        if any(known.run is not blocks.run or known.changes != blocks.changes for known in self._seen):
            self.forget()
        layouts = tuple((each.shape, each.stride(), each.dtype, each.device) for each in (latents, times))
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
        if read is None:  # it would be made in memory of the recording and outlive it
            return
        known.inputs, known.read = (torch.empty_like(latents), torch.empty_like(times)), read

        def work() -> Tensor:
            made: Tensor = self._plain(*known.inputs, known.text, return_dict=False)[0]
            return made

        try:
            known.recording = self._recorder.record(work)
            return
        except torch.OutOfMemoryError:  # what runs as ever takes less
            log.info("no memory to record a forward of %s", list(latents.shape))
        except Exception as error:  # whatever a driver or a kernel has against it, the forward itself works
            log.warning("forwards are not recorded: %s", first_line(error))
            self._recorder.works = False
        self._failed()  # not before: the error holds what was made up to it
