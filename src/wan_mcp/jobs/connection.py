"""A connection to SQLite with the lock of those who use it, which a fork of this process does not carry over.

SQLite forbids that: its bookkeeping of locks is one for each process, and a child that inherits it believes to hold the
parent's (https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork). A process that
forks and goes on in Python in the child calls `close_at_forks` once. Then all connections are closed for the
moment of a fork; the parent opens its own again, and the child opens what it needs.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from functools import cache

__all__ = ["Connection", "close_at_forks"]

_all: "weakref.WeakSet[Connection]" = weakref.WeakSet()


class Connection:
    """A connection; use `sqlite` only while holding `lock`."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], order: int) -> None:
        """Open it. A thread that holds the lock of a connection takes only those of a higher `order`.

        Raises:
            sqlite3.Error: it cannot be opened.
        """
        self._connect = connect
        self.order = order
        self.lock = threading.Lock()
        self.sqlite = connect()
        self.opened = 1
        """How often it was opened: numbers that SQLite counts for a connection begin again with each time."""
        self._closed = False
        _all.add(self)

    def close(self) -> None:
        """Close it for good."""
        with self.lock:
            self._closed = True
            self.sqlite.close()

    def set_aside(self) -> None:
        """Close it, and keep its lock, until `take_up`."""
        self.lock.acquire()
        self.sqlite.close()

    def take_up(self) -> None:
        """Open it again and release its lock."""
        try:
            if not self._closed:
                self.sqlite = self._connect()
                self.opened += 1
        finally:
            self.lock.release()


@cache
def close_at_forks() -> None:
    """Close all connections of this process at each of its forks, from now on."""
    held: list[Connection] = []

    def before() -> None:
        for connection in sorted(_all, key=lambda each: each.order):
            connection.set_aside()
            held.append(connection)

    def in_parent() -> None:
        while held:
            held.pop().take_up()

    def in_child() -> None:
        held.clear()
        _all.clear()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
