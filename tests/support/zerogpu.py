"""A stand-in for the scheduler of ZeroGPU: grants every GPU that `spaces` asks for, or refuses as it is told.

It speaks the HTTP API that the real `spaces` package calls. What it was asked for is recorded.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Scheduler", "scheduler"]

GRANTED = b'{"idle": true, "nvidiaIndex": 0, "nvidiaUUID": "none", "allowToken": "token"}'
EXHAUSTED = b'{"left": 3, "wait": 7200}'


class Scheduler:
    """What was asked of the scheduler, and what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, str]] = []
        """The queries of /schedule."""
        self.children: list[int] = []
        """The processes that were allowed to use a GPU."""
        self.exhausted = False
        """Whether the visitor's quota is used up."""


@contextmanager
def scheduler() -> Iterator[Scheduler]:
    """Serve a scheduler until the block ends."""
    state = Scheduler()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            status, body = 200, b"{}"
            if address.path == "/schedule":
                state.asked.append(query)
                status, body = (429, EXHAUSTED) if state.exhausted else (200, GRANTED)
            elif address.path == "/allow":
                state.children.append(int(query["pid"]))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
