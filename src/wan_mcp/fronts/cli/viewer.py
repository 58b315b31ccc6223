"""The system's viewer for a finished file: xdg-open, open, or what Windows starts for it."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from wan_mcp.child_environment import child_environment

__all__ = ["open_file"]

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def open_file(file: Path) -> str | None:
    """Open a file with the system's viewer, which goes on by itself; return why not, None if it was started."""
    start: Callable[[str], None] | None = getattr(os, "startfile", None)  # only Windows has it
    try:
        if start is not None:
            start(str(file.absolute()))
            return None
        name = "open" if sys.platform == "darwin" else "xdg-open"
        program = shutil.which(name)
        if program is None:
            return f"this system has no {name}"
        if name == "xdg-open" and not any(os.environ.get(each) for each in DISPLAYS):
            return "there is no display here"
        viewer = subprocess.Popen(
            [program, str(file.absolute())],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in this terminal is not the viewer's
        )
        threading.Thread(target=viewer.wait, name="viewer", daemon=True).start()  # it may stay open for hours
    except OSError as error:
        return str(error.strerror)
    return None
