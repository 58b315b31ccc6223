"""The data URIs of calls under way, in files without a name: a call may wait for minutes, and need not hold its image.

A front puts each into a file as soon as it has read the message, and takes it out of the memory. The file is gone when
the call ends, or this process.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wan_mcp.files import writing_to
from wan_mcp.permissions import make_folder
from wan_mcp.schema.long_texts import stand_in

__all__ = ["KeptUris"]

ENCODING = ("utf-8", "surrogatepass")  # as messages may hold halves of surrogate pairs


@dataclass
class _Kept:
    """A file, and how many calls have its text."""

    file: BinaryIO
    calls: int = 0


class KeptUris:
    """The data URIs that the calls of one front keep."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "tmp"
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def new_file(self) -> BinaryIO:
        """Return an empty file without a name.

        Raises:
            OutOfSpace: the disk is full.
            HomeUnusable: the folder cannot be written.
        """
        with writing_to(self._folder):
            make_folder(self._folder)
            return tempfile.TemporaryFile(dir=self._folder)

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Write to such a file.

        Raises:
            OutOfSpace: the disk is full.
        """
        with writing_to(self._folder):
            file.write(data)
            file.flush()

    @contextmanager
    def keep(self, uri: str) -> Iterator[str]:
        """Keep a data URI for the duration of the block; yields what stands for it in the request.

        Raises:
            OutOfSpace: the disk is full.
            HomeUnusable: the folder cannot be written.
        """
        name = stand_in(uri)
        with self._lock:
            if name not in self._kept:
                self._kept[name] = _Kept(self._filled(uri))
            self._kept[name].calls += 1
        del uri
        try:
            yield name
        finally:
            with self._lock:
                kept = self._kept[name]
                kept.calls -= 1
                if not kept.calls:
                    del self._kept[name]
                    kept.file.close()

    def _filled(self, uri: str) -> BinaryIO:
        with ExitStack() as failing:
            file = self.new_file()
            failing.callback(file.close)
            self.write(file, uri.encode(*ENCODING))
            failing.pop_all()
        return file

    def restore(self, source: str) -> str:
        """Return the data URI that `source` stands for; any other text as it is."""
        with self._lock:
            if (kept := self._kept.get(source)) is None:
                return source
            file = os.dup(kept.file.fileno())
        try:
            return os.pread(file, os.fstat(file).st_size, 0).decode(*ENCODING)
        finally:
            os.close(file)
