"""The stdio server on bare pipes: nothing but protocol leaves its stdout, and it leaves when its client does."""

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.installation import COMMAND, Installation, Json, client_environment
from tests.support.patience import PATIENCE_S

CLIENT = {"name": "bare", "version": "1"}
IMAGE = {"prompt": "a pink star on a navy background", "steps": 3, "seed": 31, "wait_s": PATIENCE_S}
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Wire:
    """A server on three pipes. Every line that it writes is kept."""

    def __init__(self, installation: Installation) -> None:
        self.server = subprocess.Popen(
            [*COMMAND, "stdio"],
            env={**client_environment(), **installation.settings, "WAN_MCP_LOG_LEVEL": "DEBUG"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.lines: list[bytes] = []
        self._arrived: queue.Queue[bytes | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.server.stdout is not None
        for line in self.server.stdout:
            self.lines.append(line)
            self._arrived.put(line)
        self._arrived.put(None)

    def send(self, method: str, params: Json, number: int | None = None) -> None:
        """Send a request, or without a number a notification."""
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if number is None else {"id": number})
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(message).encode() + b"\n")
        self.server.stdin.flush()

    def ask(self, number: int, method: str, params: Json) -> tuple[Json, list[Json]]:
        """Send a request: its answer, and what came before it."""
        self.send(method, params, number)
        before: list[Json] = []
        while (line := self._arrived.get(timeout=PATIENCE_S)) is not None:
            message: Json = json.loads(line)
            if message.get("id") == number:
                return message, before
            before.append(message)
        raise AssertionError("the server hung up")

    def hang_up(self) -> int:
        """Close the server's stdin: its exit status."""
        assert self.server.stdin is not None
        self.server.stdin.close()
        return self.server.wait(PATIENCE_S)

    def close(self) -> None:
        """Leave nothing behind."""
        self.server.kill()
        self.server.wait()
        self._reader.join()
        for pipe in (self.server.stdin, self.server.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def wire(installation: Installation) -> Iterator[Wire]:
    wire = Wire(installation)
    yield wire
    wire.close()


def is_protocol(line: bytes) -> bool:
    message: Any = json.loads(line)
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0" and bool({"id", "method"} & message.keys())


def test_only_protocol_leaves_stdout_after_a_handshake(wire: Wire) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
    greeting, _ = wire.ask(1, "initialize", params)
    assert greeting["result"]["protocolVersion"] == "2025-11-25"
    wire.send("notifications/initialized", {})
    call = {"name": "generate_image", "arguments": IMAGE, "_meta": {"progressToken": "p"}}
    answer, before = wire.ask(2, "tools/call", call)
    assert answer["result"]["structuredContent"]["status"] == "succeeded"
    assert {message["method"] for message in before} == {"notifications/progress"}
    assert {message["params"]["progressToken"] for message in before} == {"p"}
    refusal, _ = wire.ask(3, "tools/call", {"name": "generate_image", "arguments": {}})
    assert refusal["result"]["isError"]
    assert wire.hang_up() == 0
    assert all(is_protocol(line) for line in wire.lines)


def test_only_protocol_leaves_stdout_without_a_handshake(wire: Wire) -> None:
    found, _ = wire.ask(1, "server/discover", {"_meta": META})
    assert MODERN in found["result"]["supportedVersions"]
    call = {"name": "generate_image", "arguments": IMAGE, "_meta": {**META, "progressToken": "p"}}
    answer, before = wire.ask(2, "tools/call", call)
    assert answer["result"]["structuredContent"]["status"] == "succeeded"
    values = [message["params"]["progress"] for message in before]
    assert values == sorted(set(values))
    assert wire.hang_up() == 0
    assert all(is_protocol(line) for line in wire.lines)


def test_noise_from_the_client_is_answered_with_protocol(wire: Wire) -> None:
    assert wire.server.stdin is not None
    wire.server.stdin.write(b"this is not JSON\n")
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
    greeting, _ = wire.ask(1, "initialize", params)
    assert greeting["result"]["serverInfo"]["name"] == "wan_mcp"
    assert wire.hang_up() == 0
    assert all(is_protocol(line) for line in wire.lines)
