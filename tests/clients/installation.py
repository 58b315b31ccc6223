"""wan-mcp as a user has it: a home, the commands that start fronts, and what of it is running.

Knows processes and files only; whatever a client sees of it, the clients tell.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.patience import PATIENCE_S
from wan_mcp.settings import ENV_PREFIX

__all__ = ["COMMAND", "SCRIPTS", "Installation", "Json", "client_environment", "run_script"]

COMMAND = (sys.executable, "-m", "wan_mcp")
SCRIPTS = Path(__file__).parent / "scripts"
LISTENING = re.compile(r"(http://\S+:\d+/mcp)")

Json = dict[str, Any]


def client_environment() -> dict[str, str]:
    """What a client finds in its environment: nothing of Python's or of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", ENV_PREFIX))}


class Installation:
    """wan-mcp with a home of its own and the embedded models on the CPU."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._fronts = folder / "fronts"
        self.settings = {
            f"{ENV_PREFIX}HOME": str(self.home),
            f"{ENV_PREFIX}DEVICE": "cpu",
            f"{ENV_PREFIX}THREADS": "1",
            f"{ENV_PREFIX}ENGINE_IDLE_S": "300",
            f"{ENV_PREFIX}MIN_FREE_MB": "1",
        }

    def stdio(self) -> Json:
        """How a client starts a front of its own; each one's process id is kept."""
        command, *arguments = sys.executable, "-S", str(SCRIPTS / "front.py"), str(self._fronts), *COMMAND, "stdio"
        return {"command": command, "args": arguments, "env": self.settings}

    @contextmanager
    def http(self) -> Iterator[Json]:
        """A front over HTTP on a free port: where a client finds it."""
        server = subprocess.Popen(
            [*COMMAND, "http", "--host", "127.0.0.1", "--port", "0"],
            env={**client_environment(), **self.settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert server.stdout is not None
        said: list[str] = []
        impatience = threading.Timer(PATIENCE_S, server.kill)
        impatience.start()
        url = next((found[0] for line in server.stdout if (found := _listening(line, said))), None)
        impatience.cancel()
        listener = threading.Thread(target=said.extend, args=(server.stdout,))
        listener.start()
        try:
            assert url is not None, f"the HTTP server ended before it listened: {''.join(said)}"
            yield {"url": url}
            server.terminate()
            assert server.wait(PATIENCE_S) == 0, "".join(said[-50:])
        finally:
            server.kill()
            server.wait()
            listener.join()
            server.stdout.close()

    def fronts_started(self) -> list[int]:
        """The process ids of all stdio fronts so far."""
        return [int(line) for line in self._fronts.read_text().split()] if self._fronts.exists() else []

    def fronts_left(self) -> list[int]:
        """The stdio fronts that are still there after a moment to leave."""
        left = [process for pid in self.fronts_started() if (process := self._own(pid)) is not None]
        return [process.pid for process in psutil.wait_procs(left, timeout=PATIENCE_S)[1]]

    def engines(self) -> list[int]:
        """The engine processes of this home."""
        return [
            process.pid
            for process in psutil.process_iter()
            if self._own(process.pid) is not None and "engine" in _command(process)
        ]

    def _own(self, pid: int) -> psutil.Process | None:
        try:
            process = psutil.Process(pid)
            ours = process.environ().get(f"{ENV_PREFIX}HOME") == str(self.home)
        except psutil.Error:
            return None
        return process if ours else None


def _listening(line: str, said: list[str]) -> re.Match[str] | None:
    said.append(line)
    return LISTENING.search(line)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def run_script(python: Path, script: str, task: Json, timeout: float) -> tuple[int, Json]:
    """Run a client script in its own environment: its exit status and the document that it printed."""
    ran = subprocess.run(
        [python, SCRIPTS / script, json.dumps(task)],
        env=client_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert ran.stdout, f"{script} said nothing and ended with {ran.returncode}:\n{ran.stderr[-4000:]}"
    document: Json = json.loads(ran.stdout)
    return ran.returncode, document
