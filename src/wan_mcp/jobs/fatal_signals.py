"""What an engine writes when a fatal signal ends it: a trace in a file of its device, from which others know of it.

The file is written by `faulthandler` inside the signal's handler, and read by the next holder of the device's lock.
"""

import faulthandler
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from wan_mcp.permissions import append_to
from wan_mcp.settings import Settings

__all__ = ["FatalSignals"]


class FatalSignals:
    """The traces of the engines of one device."""

    def __init__(self, file: Path, log_file: Path) -> None:
        self._file = file
        self._log_file = log_file
        self._open: BinaryIO | None = None

    @classmethod
    def of(cls, settings: Settings, device: str) -> Self:
        """Return the traces of a device's engines."""
        return cls(settings.home / "engines" / f"{device.replace(':', '-')}.trace", settings.log_file)

    def watch(self) -> None:
        """Write the trace of this process from now on. Call it while holding the device's lock."""
        self.take()  # an idle engine's, which cost no job
        with suppress(OSError):  # without it, such a death has no explanation
            self._file.unlink(missing_ok=True)
            self._open = append_to(self._file)
            faulthandler.enable(self._open)

    def stop(self) -> None:
        """Write to the log again."""
        if self._open is not None:
            faulthandler.enable()
            self._open.close()
            self._open = None

    def take(self) -> bool:
        """Return whether the last engine left a trace, and move the trace to the engines' log."""
        try:
            trace = self._file.read_bytes()
            if not trace:
                return False
            with append_to(self._log_file) as log:
                log.write(trace)
            self._file.unlink()
        except OSError:
            return False
        return True
