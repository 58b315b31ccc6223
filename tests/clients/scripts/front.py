"""Writes down its process id, then becomes the server: `front.py FILE COMMAND…`."""

import os
import sys

with open(sys.argv[1], "a", encoding="utf-8") as pids:  # noqa: PTH123 - starts in milliseconds, without pathlib
    pids.write(f"{os.getpid()}\n")
os.execv(sys.argv[2], sys.argv[2:])
