"""Work in other threads, while the calling thread reports progress and may stop it at any time."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["side_by_side"]

T = TypeVar("T")

TELL_S = 0.25
LEAVE_S = 1.0  # how long stopped threads are waited for; one that hangs in a read ends by itself, later


def side_by_side(
    actions: Sequence[Callable[[], T]], threads: int, stop: threading.Event, tell: Callable[[], None]
) -> list[T]:
    """Run `actions` in parallel and return their results in order; call `tell` repeatedly meanwhile.

    Raises:
        The first error of an action, or whatever `tell` raises; either sets `stop`, and the
        actions see to it that they end then.
    """
    work: SimpleQueue[tuple[Callable[[], T], Future[T]]] = SimpleQueue()
    results: list[Future[T]] = []
    for action in actions:
        results.append(Future())
        work.put((action, results[-1]))

    def run() -> None:
        while not stop.is_set():
            try:
                action, result = work.get_nowait()
            except Empty:
                return
            try:
                result.set_result(action())
            except BaseException as error:  # handed over to the calling thread, which raises it
                result.set_exception(error)
                return

    # Daemons, for a pool's threads would hold up the end of the process.
    crew = [threading.Thread(target=run, name=f"download-{n}", daemon=True) for n in range(min(threads, len(actions)))]
    for thread in crew:
        thread.start()
    try:
        while True:
            done, left = wait(results, timeout=TELL_S, return_when=FIRST_EXCEPTION)
            for result in done:
                if (error := result.exception()) is not None:
                    raise error
            tell()
            if not left:
                return [result.result() for result in results]
    except BaseException:
        stop.set()
        give_up = time.monotonic() + LEAVE_S
        for thread in crew:
            thread.join(max(0.0, give_up - time.monotonic()))
        raise
