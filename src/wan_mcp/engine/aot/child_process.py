"""Child processes that never outlive their parent, however the parent ends.

The parent holds the writing end of the child's standard input and never writes to it. When the parent ends, the kernel
closes the pipe, and the child kills itself and its process group.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

__all__ = ["end", "exit_with_parent", "start"]


def start(
    arguments: Sequence[str], environment: Mapping[str, str], *, output: int | IO[bytes], errors: int | IO[bytes] | None
) -> subprocess.Popen[bytes]:
    """Start this Python with these arguments, in a new process group, tied to this process's lifetime."""
    return subprocess.Popen(
        [sys.executable, "-P", *arguments],  # -P: nothing is imported from the working directory
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=errors,
        env=dict(environment),
        start_new_session=True,
        umask=0o077,  # compilers leave the modes of their files to it
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process returned by `start`, with its process group, and wait for it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def exit_with_parent() -> None:
    """Kill this process group when standard input is closed; to be called in the child."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="child_process", daemon=True).start()
