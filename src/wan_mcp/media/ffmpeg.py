"""The ffmpeg that ships with imageio-ffmpeg, or the one set by IMAGEIO_FFMPEG_EXE."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO

from wan_mcp.child_environment import child_environment
from wan_mcp.errors import JobFailed

__all__ = ["command", "metadata", "run", "started"]

SPECIAL, ESCAPED = re.compile(r"([=;#\\\n])"), r"\\\1"
"""What is escaped in metadata: https://ffmpeg.org/ffmpeg-formats.html#Metadata-1."""


def command(*arguments: str) -> list[str]:
    """Return a quiet ffmpeg command line.

    Raises:
        JobFailed: there is no ffmpeg.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        executable = get_ffmpeg_exe()
    except RuntimeError as error:
        raise JobFailed(
            "no_ffmpeg", "No ffmpeg found for this system. Install it, or set IMAGEIO_FFMPEG_EXE to its path."
        ) from error
    executable = str(Path(shutil.which(executable) or executable).absolute())  # wherever it is to run
    return [executable, "-hide_banner", "-nostats", *arguments]


def metadata(comment: str) -> bytes:
    """Return a file in ffmpeg's format of metadata, with a comment."""
    return f";FFMETADATA1\ncomment={SPECIAL.sub(ESCAPED, comment)}\n".encode()


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg, in a folder, and return the completed process with its standard output and error.

    Every user of the machine can read the arguments: prompts and paths are not for them.

    Raises:
        JobFailed: there is no ffmpeg.
    """
    return started(command("-nostdin", *arguments), folder=folder)


def started(
    command: list[str], *, stdin: BinaryIO | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command line of `command`, and return the completed process with its standard output and error.

    An open file may be its standard input.
    """
    return subprocess.run(
        command,
        env=child_environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        capture_output=True,
        check=False,
        process_group=0,
    )
