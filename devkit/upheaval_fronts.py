"""The fronts of an upheaval: real processes, spoken to by hand, that are killed and started again at any moment."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from devkit.handshake import handshake
from wan_mcp.settings import Settings

__all__ = ["Front", "HttpFront", "StdioFront"]

CALL_S = 30.0


class Front(ABC):
    """A front process and its successors."""

    def __init__(self, settings: Settings, on_done: str = "") -> None:
        """Start a front with these settings, which runs the command `on_done` for each job that has ended."""
        self._settings, self._on_done = settings, on_done
        self.acknowledged: set[str] = set()
        self.cancelled: set[str] = set()
        """The jobs that it was asked to cancel."""
        self.ready = threading.Event()
        self.unanswered = 0
        self.process: subprocess.Popen[str]
        self.start()

    @property
    def tells(self) -> bool:
        """Whether it runs a command for each job that has ended."""
        return bool(self._on_done)

    @abstractmethod
    def start(self) -> None:
        """Start the process."""

    @abstractmethod
    def call(self, tool: str, arguments: dict[str, Any]) -> None:
        """Call a tool that answers with a job; the answer is read elsewhere, or never."""

    def cancel(self, job_id: str) -> None:
        """Ask to cancel a job; if the front dies first, the job goes on."""
        self.cancelled.add(job_id)
        self.call("cancel_job", {"job_id": job_id})

    def kill(self) -> None:
        """Kill the process, and start another."""
        self.ready.clear()
        self.unanswered = 0
        self.process.kill()
        self.process.wait()
        self.start()

    def _popen(self, *arguments: str) -> "subprocess.Popen[str]":
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | self._settings.environment() | {"PYTHONPATH": os.pathsep.join(paths)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wan_mcp", *arguments],
            env=environment | {"WAN_MCP_ON_DONE": self._on_done},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self.process

    def _note(self, result: dict[str, Any]) -> None:
        """Note what was answered: a job's id, or an error and so no job."""
        with suppress(KeyError, TypeError):
            self.acknowledged.add(result["structuredContent"]["job_id"])


class StdioFront(Front):
    """`wan-mcp stdio`."""

    _calls = 0

    def start(self) -> None:
        """Start the process, and shake hands."""
        process = self._popen("stdio")
        threading.Thread(target=self._read, args=(process,), daemon=True).start()
        for message in handshake("upheaval"):
            _say(process, message)

    def call(self, tool: str, arguments: dict[str, Any]) -> None:
        """Write a line; its answer is read in a thread."""
        self._calls += 1
        self.unanswered += 1
        params = {"name": tool, "arguments": arguments}
        _say(self.process, {"jsonrpc": "2.0", "id": self._calls, "method": "tools/call", "params": params})

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if process is not self.process:
                return
            with suppress(ValueError, AttributeError):
                answer = json.loads(line)
                if answer.get("id") == 0:
                    self.ready.set()
                elif "id" in answer:
                    self.unanswered -= 1
                    self._note(answer.get("result", {}))


class HttpFront(Front):
    """`wan-mcp http`, to which pictures are sent on their own before they are named."""

    def start(self) -> None:
        """Start the process on a free port, and wait in a thread until it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        process = self._popen("http", "--port", str(self._port))
        threading.Thread(target=self._await, args=(process, self._port), daemon=True).start()

    def call(self, tool: str, arguments: dict[str, Any]) -> None:
        """Call in a thread; with `image` as an empty text, a picture is sent first."""
        self.unanswered += 1
        threading.Thread(target=self._call, args=(self.process, tool, arguments), daemon=True).start()

    def _call(self, process: "subprocess.Popen[str]", tool: str, arguments: dict[str, Any]) -> None:
        with suppress(OSError, http.client.HTTPException, ValueError, KeyError):  # it has just died
            if arguments.get("image") == "":
                sent = self._ask("/media/inputs", _picture(), {"Content-Type": "image/png"})
                arguments = arguments | {"image": sent["image"]}
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
            body = json.dumps(call | {"params": {"name": tool, "arguments": arguments}}).encode()
            headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
            self._note(self._ask("/mcp", body, headers)["result"])
        if process is self.process:
            self.unanswered -= 1

    def _ask(self, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=CALL_S)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse().read().decode()
        finally:
            connection.close()
        found: dict[str, Any] = json.loads(answer[answer.index("{") :].partition("\r\n")[0])
        return found

    def _await(self, process: "subprocess.Popen[str]", port: int) -> None:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                if process is self.process:
                    self.ready.set()
                return
            time.sleep(0.05)


def _say(process: "subprocess.Popen[str]", message: dict[str, Any]) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it has just died
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()


def _picture() -> bytes:
    out = BytesIO()
    Image.new("RGB", (64, 64), (200, 0, 128)).save(out, "PNG")
    return out.getvalue()
