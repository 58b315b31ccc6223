"""The stdio front. Only protocol may reach stdout, from the first import to the last exit handler."""

import os
import signal
import sys

from wan_mcp.fronts.mcp.process_end import end_within
from wan_mcp.logs import log_to_stderr
from wan_mcp.settings import Settings

__all__ = ["run_stdio"]

GOODBYE_S = 4  # how long calls that cannot be interrupted may go on after the client has left


def run_stdio(settings: Settings) -> None:
    """Serve one client on stdin and stdout until it disconnects. Jobs and their engine keep running."""
    log_to_stderr(settings.log_level)
    # A front may end at any moment without harm, and while it waits for its client's next line
    # nothing gentler would end it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    with _Wire() as wire:
        import anyio  # from here on imports may print what they like

        from wan_mcp.fronts.mcp.server import build_server, max_message_bytes, serve_streams
        from wan_mcp.fronts.mcp.stdio_streams import stdio_streams
        from wan_mcp.media.content_credentials import ContentCredentials
        from wan_mcp.service.service import serving

        async def serve() -> None:
            async with serving(settings) as service:
                most = max_message_bytes(settings)
                streams = stdio_streams(wire.stdin, wire.stdout, most, end_soon, service.uris)
                async with streams as (incoming, outgoing):
                    await serve_streams(build_server(service), incoming, outgoing)

        def end_soon(client_left: bool) -> None:
            end_within(GOODBYE_S, 0 if client_left else 1)

        ContentCredentials.require_usable_ones(settings)
        anyio.run(serve)


class _Wire:
    """The client's ends of stdin and stdout, out of everybody else's reach.

    What is printed goes to stderr, before, while and after this process serves, also what is in buffers until it
    exits. What is read is empty.
    """

    def __enter__(self) -> "_Wire":
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)  # a stray print goes where stdout points when it is made
        self.stdin, self.stdout = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return self

    def __exit__(self, *error: object) -> None:
        sys.stdout.flush()
        # A thread may still be reading or writing: the descriptors stay open until the process ends.
