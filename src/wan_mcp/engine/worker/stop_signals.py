"""The signals by which people and fronts stop an engine."""

import signal
from types import FrameType

__all__ = ["StopSignals"]


class StopSignals:
    """Records that the process should shut down, which the job checks at its next step; a second signal kills it."""

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        signal.signal(number, signal.SIG_DFL)

    def came(self) -> bool:
        """Return whether a signal has come."""
        return self._came
