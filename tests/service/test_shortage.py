"""A shortage of this process in words: files, threads, memory; a defect is none."""

import errno
import sqlite3
import tempfile
from pathlib import Path

import pytest

from tests.support.no_files import no_more_files
from wan_mcp.errors import BadRequest
from wan_mcp.service.shortage import MEMORY, OPEN_FILES, THREADS, shortage


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), OPEN_FILES),
        (OSError(errno.ENFILE, "Too many open files in system"), OPEN_FILES),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), THREADS),
        (RuntimeError("can't start new thread"), THREADS),
        (MemoryError(), MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MEMORY),
        (ExceptionGroup("tasks", [ValueError(), OSError(errno.EMFILE, "")]), OPEN_FILES),
        (OSError(errno.ENOENT, "No such file"), None),
        (RuntimeError("cannot schedule new futures after shutdown"), None),
        (sqlite3.OperationalError("no such table"), None),
        (ZeroDivisionError(), None),
        (BadRequest("steps"), None),
    ],
)
def test_a_shortage_is_told_from_a_defect(error: BaseException, words: str | None) -> None:
    assert shortage(error) == words
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = error
    assert shortage(wrapped) == words


def test_a_process_without_file_descriptors_says_so(tmp_path: Path) -> None:
    found: list[BaseException] = []
    with no_more_files():
        for attempt in (
            lambda: (tmp_path / "x").write_text(""),
            lambda: sqlite3.connect(tmp_path / "x.db"),
            tempfile.mkdtemp,
        ):
            try:
                attempt()
            except (OSError, sqlite3.Error) as error:
                found.append(error)
        said = [shortage(error) for error in found]
    assert said == [OPEN_FILES] * len(found)
    assert len(found) >= 2
