"""The stdio front. Only protocol may reach stdout, from the first import to the last exit handler."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wan_mcp.logs import log_to_stderr
from wan_mcp.settings import Settings

__all__ = ["run_stdio"]


def run_stdio(settings: Settings) -> None:
    """Serve one client on stdin and stdout until it disconnects. Jobs and their engine keep running."""
    log_to_stderr(settings.log_level)
    # A front may end at any moment without harm, and while it waits for its client's next line
    # nothing gentler would end it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with _Wire() as wire:
        import anyio  # from here on imports may print what they like

        from wan_mcp.fronts.mcp.server import build_server
        from wan_mcp.service.service import serving

        async def serve() -> None:
            async with serving(settings) as service:
                server = build_server(service)
                with wire.open():
                    await server.run_stdio_async()

        anyio.run(serve)


class _Wire:
    """Stdout reserved for the protocol: anything else written to it goes to stderr.

    The SDK ensures this while it serves; this class covers what is printed before, and what is in
    buffers until the process exits.
    """

    def __enter__(self) -> "_Wire":
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)  # a stray print goes where stdout points when it is made
        self._stdout = os.dup(1)
        os.dup2(2, 1)
        return self

    @contextmanager
    def open(self) -> Iterator[None]:
        """Connect stdout to the client for the duration of the block."""
        sys.stdout.flush()
        os.dup2(self._stdout, 1)
        try:
            yield
        finally:
            os.dup2(2, 1)

    def __exit__(self, *error: object) -> None:
        sys.stdout.flush()
        os.close(self._stdout)
