"""CFG parallel: half of the ranks run the pass with the prompt, half the one with the negative prompt.

Exact: each pass runs as on one device. A step needs one exchange, of what the passes return.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from wan_mcp.engine.parallel.rank_group import RankGroup

__all__ = ["shared_guidance"]


@contextmanager
def shared_guidance(denoisers: Sequence[Any], group: RankGroup | None, texts: Sequence[Tensor]) -> Iterator[None]:
    """Share the two passes of each step of classifier-free guidance within the `with` block.

    Args:
        denoisers: the `WanTransformer3DModel`s that a pipeline calls with `return_dict=False`.
        group: two ranks, one for each text; None shares nothing.
        texts: the embeddings of prompt and negative prompt, in the order in which a step reads them; the very tensors
            that the pipeline passes to the denoisers.
    """
    with ExitStack() as stack:
        for denoiser in denoisers if group is not None else ():
            stack.enter_context(_standing_in(denoiser, _SharedForward(denoiser.forward, group, texts)))
        yield


@contextmanager
def _standing_in(denoiser: Any, forward: "_SharedForward") -> Iterator[None]:
    """Replace a denoiser's forward; restore what there was, which may be a replacement too."""
    before = vars(denoiser).get("forward")
    denoiser.forward = forward
    try:
        yield
    finally:
        if before is None:
            del denoiser.forward
        else:
            denoiser.forward = before


class _SharedForward:
    """A denoiser's forward of which this rank runs one of two passes, and receives the other."""

    def __init__(self, forward: Any, group: RankGroup | None, texts: Sequence[Tensor]) -> None:
        self._forward, self._group, self._texts = forward, group, texts
        self._results: Tensor | None = None

    def __call__(
        self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, *more: Any, **options: Any
    ) -> tuple[Tensor]:
        """See `WanTransformer3DModel`."""
        group = self._group
        assert group is not None, "without a group nothing is replaced"
        which = next((number for number, text in enumerate(self._texts) if text is encoder_hidden_states), None)
        if which is None:
            raise ValueError("this text is not one of the two that the ranks share")
        if which == 0:
            mine = self._forward(hidden_states, timestep, self._texts[group.rank], *more, **options)[0]
            self._results = group.all_gather(mine)
        if self._results is None:
            raise ValueError("the pass with the prompt comes first")
        return (self._results[which],)
