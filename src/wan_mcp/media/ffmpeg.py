"""The ffmpeg that comes with imageio-ffmpeg, or the one that IMAGEIO_FFMPEG_EXE names."""

import subprocess

from wan_mcp.errors import JobFailed

__all__ = ["command", "run"]


def command(*arguments: str) -> list[str]:
    """A command line of ffmpeg that says no more than it must.

    Raises:
        JobFailed: there is no ffmpeg.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        executable = get_ffmpeg_exe()
    except RuntimeError as error:
        raise JobFailed(
            "no_ffmpeg", "There is no ffmpeg for this system; install one, or name it in IMAGEIO_FFMPEG_EXE."
        ) from error
    return [executable, "-hide_banner", "-nostats", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """What ffmpeg gives on its standard output, and what it says on the other.

    Raises:
        JobFailed: there is no ffmpeg.
    """
    return subprocess.run(command("-nostdin", *arguments), capture_output=True, check=False, process_group=0)
