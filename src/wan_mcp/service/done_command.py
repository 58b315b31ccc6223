"""The owner's command that is run when a job has ended: no shell, the notice on its standard input.

Nothing of a job is in its arguments or its environment. What it prints goes to a log file in the home.
"""

import os
import shlex
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio.abc import Process

from wan_mcp.child_environment import child_environment
from wan_mcp.permissions import append_to

__all__ = ["run_command"]

LIMIT_S = 600.0
ENDS_S = 2.0  # how long it may take to end when it is told to
LOG_BYTES = 1_000_000


async def run_command(command: str, notice: bytes, home: Path, limit_s: float = LIMIT_S) -> str | None:
    """Run the owner's command with a notice on its standard input; return why it has failed, None if it has not.

    If the caller is cancelled, the command is ended.
    """
    try:
        with _log_of(home / "logs" / "on-done.log") as printed:
            process = await anyio.open_process(
                shlex.split(command),
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                env=child_environment(),
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        return f"it cannot be started: {getattr(error, 'strerror', None) or error}"
    try:
        with anyio.fail_after(limit_s):
            await _write(process, notice)
            code = await process.wait()
    except TimeoutError:
        return f"it did not end within {limit_s:g} s"
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    return None if code == 0 else f"it ended with exit code {code}" if code > 0 else f"signal {-code} ended it"


def _log_of(file: Path) -> BinaryIO:
    log = append_to(file)
    if log.tell() > LOG_BYTES:
        log.truncate(0)
    return log


async def _write(process: Process, notice: bytes) -> None:
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):  # it does not read all of it
        await process.stdin.send(notice)
    with suppress(anyio.BrokenResourceError, OSError):
        await process.stdin.aclose()


async def _end(process: Process) -> None:
    """End a command that still runs, with all that it has started."""
    if process.returncode is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with anyio.move_on_after(ENDS_S):
                await process.wait()
                break
    await process.aclose()
