"""Stdio fronts as processes, and a client that only knows bytes and lines."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters

from wan_mcp.settings import Settings

__all__ = ["Pipe", "front", "piped"]

FRONT = "from wan_mcp.settings import Settings; from wan_mcp.fronts.mcp.stdio import run_stdio; run_stdio(Settings())"


def front(settings: Settings, before: str = "", after: str = "") -> StdioServerParameters:
    """A front with these settings; `before` and `after` are Python that its process runs as well."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-c", f"{before}\n{FRONT}\n{after}"],
        env={**os.environ, **settings.environment()},
    )


class Pipe:
    """A client that only knows lines."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def send(self, **message: Any) -> None:
        """Send a message."""
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the next message."""
        assert self.process.stdout is not None
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        return message

    def initialize(self) -> None:
        """Shake hands."""
        about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        self.send(id=1, method="initialize", params=about)
        assert self.receive()["result"]["serverInfo"]["name"] == "wan_mcp"
        self.send(method="notifications/initialized")

    def log(self) -> str:
        """What the front has logged so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def hang_up(self, patience: float) -> tuple[bytes, int]:
        """Close the front's input and wait until it ends: what it wrote to its output, and its exit status."""
        output, _ = self.process.communicate(timeout=patience)
        return output, self.process.returncode


@contextmanager
def piped(parameters: StdioServerParameters, log: Path) -> Iterator[Pipe]:
    """Run a front and provide its pipes; what it logs goes to the file `log`."""
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [parameters.command, *parameters.args],
            env=parameters.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield Pipe(process, log)
        finally:
            process.kill()
