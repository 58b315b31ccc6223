"""What this process ran short of, in words for a caller: a shortage is not a defect, and passes."""

import errno
import sqlite3

__all__ = ["shortage"]

OPEN_FILES = (
    "the server has as many files and connections open as it may. Try again in a moment; to raise the limit, start the "
    "server with a larger 'ulimit -n'"
)
THREADS = "the machine allows the server no further thread or process. Try again in a moment, or end other programs"
MEMORY = "the server's machine has no memory left for this. Try again in a moment, or end other programs"
SHORT_OF = {errno.EMFILE: OPEN_FILES, errno.ENFILE: OPEN_FILES, errno.EAGAIN: THREADS, errno.ENOMEM: MEMORY}


def shortage(error: BaseException) -> str | None:
    """Return what was missing, in a sentence without its full stop; None for any other error.

    Libraries wrap such errors, so their causes are looked at as well; the error may be a group.
    """
    if isinstance(error, BaseExceptionGroup):
        return next((words for each in error.exceptions if (words := shortage(each)) is not None), None)
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return THREADS
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorname", "") == "SQLITE_CANTOPEN":
        return OPEN_FILES if _is_out_of_files() else None
    if isinstance(error, OSError) and error.errno in SHORT_OF:
        return SHORT_OF[error.errno]
    inner = error.__cause__ or error.__context__
    return None if inner is None else shortage(inner)


def _is_out_of_files() -> bool:
    """Check whether this process can open no file at the moment."""
    try:
        with open("/dev/null", "rb"):  # noqa: PTH123  # no other file would do
            return False
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
