"""The live previews of one attempt at a job: when the next is due, and writing it behind the denoising loop.

At most one a second, and only while somebody looks. What a preview costs decides when the next one may follow, so that
all of them together take no more than a hundredth of the time. Does not import torch.
"""

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from wan_mcp.media.previews import PreviewStore
from wan_mcp.schema.jobs import Job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Previews"]

log = logging.getLogger(__name__)

APART_S = 1.0  # at least, between two previews
COST_SHARE = 0.01  # of the time that passes, at most


class Previews:
    """The previews of one attempt. One thread makes their frames, another writes them."""

    def __init__(self, store: PreviewStore, job: Job) -> None:
        self._store = store
        self._job = job
        self._due = 0.0
        self._made = 0.0
        self._lock = threading.Lock()
        self._waiting: tuple[NDArray[np.uint8], tuple[int, int], float] | None = None

    def due(self) -> bool:
        """Check whether a preview should be made of the step that ends now; costs one look at the disk at most."""
        return time.monotonic() >= self._due and self._store.wanted(self._job.id)

    def stop(self) -> None:
        """Make no more previews in this attempt: they cannot be made."""
        self._due = math.inf

    def show(self, frames: "NDArray[np.uint8]", size: tuple[int, int], cost_s: float) -> None:
        """Have frames (count, rows, columns, 3) of a result of `size` written; they took `cost_s` to make."""
        self._made = time.monotonic()
        self._due = max(self._due, self._made + max(APART_S, cost_s / COST_SHARE))
        with self._lock:
            self._waiting = frames, size, cost_s

    def write(self) -> None:
        """Write the frames that wait, if any. What goes wrong costs the preview and nothing else."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        frames, size, cost_s = waiting
        began = time.thread_time()
        try:
            self._store.write(self._job.id, self._job.attempt, frames, size)
        except Exception as error:
            log.warning("no preview of job %s: %s", self._job.id, error)
        self._due = max(self._due, self._made + (cost_s + time.thread_time() - began) / COST_SHARE)

    def remove(self) -> None:
        """Remove what is shown of this attempt, at its end."""
        with self._lock:
            self._waiting = None
        self._store.remove(self._job.id, self._job.attempt)
