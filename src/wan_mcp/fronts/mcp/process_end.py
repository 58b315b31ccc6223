"""The end of a front's process, at the latest some seconds after it was decided.

Worker threads cannot be interrupted, and Python waits for them before it exits. A read from a disk that hangs would
keep a front that was told to stop. Nothing is lost by ending it: jobs, results and requests are in the job table.
"""

import atexit
import logging
import os
import signal
from types import FrameType

__all__ = ["end_within"]

log = logging.getLogger(__name__)


def end_within(seconds: float, code: int) -> None:
    """End this process with exit status `code` unless it has ended by itself after `seconds`.

    A timer of the kernel's is used, because a machine without threads to spare cannot start one. Only the main
    thread may call this.
    """

    def end(number: int, frame: FrameType | None) -> None:
        log.error("something still ran %g s after the server had stopped; ending the process", seconds)
        logging.shutdown()
        os._exit(code)

    signal.signal(signal.SIGALRM, end)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # threads have ended by then, and handlers end next
    signal.setitimer(signal.ITIMER_REAL, seconds)
