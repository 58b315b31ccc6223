"""Notice at once that another rank of a job died or gave up, long before a collective reaches its time limit.

Each rank locks its file in the folder where the ranks meet. The kernel releases the lock of a
process that dies. A rank that ends in good order removes its file first.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wan_mcp.errors import RankLost

__all__ = ["gone_ranks", "held_rank_file", "watched_ranks"]

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""Seconds between two looks at the other ranks."""


@contextmanager
def held_rank_file(folder: Path, rank: int) -> Iterator[None]:
    """Show the other ranks that this one lives, within the `with` block; an exception shows them that it gave up.

    Raises:
        RankLost: the file cannot be made, for example because the meeting is over.
    """
    file = _file(folder, rank)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RankLost(f"the devices of this job cannot meet: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def watched_ranks(folder: Path, rank: int, size: int, lost: Callable[[], None]) -> Iterator[None]:
    """Call `lost` in another thread if another rank dies or gives up within the `with` block.

    All ranks hold their files when the block begins.
    """
    stop = threading.Event()
    others = [other for other in range(size) if other != rank]

    def watch() -> None:
        while not stop.wait(LOOK_S):
            if gone := gone_ranks(folder, others):
                log.warning("rank %d of this job: rank %d died or gave up", rank, gone[0])
                lost()
                return

    thread = threading.Thread(target=watch, name="rank watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def gone_ranks(folder: Path, ranks: Iterable[int]) -> list[int]:
    """Return those of the ranks that died or gave up."""
    return [rank for rank in ranks if _is_gone(_file(folder, rank))]


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.lock"


def _is_gone(file: Path) -> bool:
    """Check whether a rank's file is there and nobody holds it."""
    with suppress(OSError):  # no such file: the rank ended in good order
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return file.exists()  # it may have been removed since it was opened
        finally:
            os.close(descriptor)
    return False
