"""The MCP Inspector's command line, an official client in TypeScript, in its environment."""

import asyncio
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path

from tests.clients.environments import node_of
from tests.clients.installation import Installation, Json, client_environment
from tests.clients.scripts.session import session
from tests.support.patience import PATIENCE_S

__all__ = ["TOOL_ERROR", "Inspector"]

LAUNCHER = Path("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js")
TOOL_ERROR = 5  # the Inspector's exit status for a result that is an error


class Inspector:
    """The command line in its environment."""

    def __init__(self, folder: Path, installation: Installation, http_server: Json, home: Path) -> None:
        node = node_of(folder)
        self._command = [str(node), str(folder / LAUNCHER), "--cli"]
        self._environment = {**client_environment(), "HOME": str(home)}
        stdio = installation.stdio()
        settings = [part for name, value in stdio["env"].items() for part in ("-e", f"{name}={value}")]
        self._servers = {
            "stdio": [stdio["command"], *stdio["args"], *settings],
            "http": ["--server-url", http_server["url"], "--transport", "http"],
        }

    def run(self, transport: str, *arguments: str, statuses: Collection[int] = (0,)) -> tuple[str, str]:
        """Run it: what it wrote to stdout and stderr."""
        ran = subprocess.run(
            [*self._command, *self._servers[transport], *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert ran.returncode in statuses, f"{ran.stdout[-1500:]}\n{ran.stderr[-1500:]}"
        return ran.stdout, ran.stderr

    def call(self, transport: str, tool: str, arguments: Json, *options: str, statuses: Collection[int] = (0,)) -> Json:
        """Call a tool: its result."""
        call = ("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        output, _ = self.run(transport, *call, *options, "--format", "json", statuses=statuses)
        result: Json = json.loads(output)["result"]
        return result

    def session(self, transport: str) -> Json:
        """Go through the session of the other clients, with a process for each call: what it was told, by step."""

        async def call(tool: str, **arguments: object) -> Json:
            result = self.call(transport, tool, arguments, statuses=(0, TOOL_ERROR))
            text = "\n".join(block["text"] for block in result["content"] if block["type"] == "text")
            return {
                "is_error": bool(result.get("isError")), "structured": result.get("structuredContent"), "text": text
            }  # fmt: skip

        async def read(uri: str) -> Json:
            with tempfile.TemporaryDirectory() as folder:
                saved = Path(folder) / "saved"
                self.read(transport, uri, saved)
                return {"sha256": hashlib.sha256(saved.read_bytes()).hexdigest()}

        listed, _ = self.run(transport, "--method", "tools/list", "--format", "json")
        return {"tools": json.loads(listed)["result"]["tools"], **asyncio.run(session(call, read))}

    def read(self, transport: str, uri: str, target: Path, *options: str) -> None:
        """Save a resource in a file."""
        reading = ("--method", "resources/read", "--uri", uri, "--output", str(target), "--output-format", "raw")
        self.run(transport, *reading, *options)
