"""The ffmpeg that ships with imageio-ffmpeg, or the one set by IMAGEIO_FFMPEG_EXE."""

import subprocess

from wan_mcp.child_environment import child_environment
from wan_mcp.errors import JobFailed

__all__ = ["command", "run"]


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
    return [executable, "-hide_banner", "-nostats", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg and return the completed process with its standard output and error.

    Raises:
        JobFailed: there is no ffmpeg.
    """
    return subprocess.run(
        command("-nostdin", *arguments), env=child_environment(), capture_output=True, check=False, process_group=0
    )
