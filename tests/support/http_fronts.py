"""HTTP fronts: in this process, and as processes of their own."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.fixtures.mcp_server import ERAS
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.http.app import build_app, listen, settings_for
from wan_mcp.service.service import serving
from wan_mcp.settings import ENV_PREFIX, Settings

__all__ = ["Running", "Site", "running", "site"]

FRONT = "from wan_mcp.fronts.http.app import run_http; from wan_mcp.settings import Settings"
RUN = "run_http(Settings(), '127.0.0.1', {port})"


@dataclass
class Site:
    """A running server."""

    url: str
    web: httpx2.AsyncClient

    @asynccontextmanager
    async def client(self, mode: str = ERAS[1], **options: Any) -> AsyncIterator[Client]:
        """An MCP client of it."""
        transport = streamable_http_client(f"{self.url}/mcp", http_client=self.web)
        async with Client(transport, mode=mode, **options) as client:
            yield client


@asynccontextmanager
async def site(settings: Settings, host: str = "127.0.0.1", **headers: str) -> AsyncIterator[Site]:
    """A server that believes to listen on `host`; in truth only this machine reaches it."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with serving(settings_for(host, settings)) as service, anyio.create_task_group() as tasks:
        config = uvicorn.Config(
            build_app(service, host), log_config=None, ws="none", proxy_headers=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        tasks.start_soon(server.serve, [listener])
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S) as web:
            yield Site(url, web)
        server.should_exit = True


@dataclass
class Running:
    """A front that is a process."""

    process: subprocess.Popen[str]
    url: str = ""
    _lines: list[str] = field(default_factory=list)
    _ended: bool = False
    _news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return "".join(self._lines)

    def listen(self) -> None:
        """Keep what it logs, until it ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, logged: Callable[[str], bool]) -> None:
        """Wait until the log is as wanted."""
        with self._news:
            assert self._news.wait_for(lambda: logged(self.log) or self._ended, PATIENCE_S)
            assert logged(self.log), self.log

    def connect(self) -> socket.socket:
        """Open a connection to it."""
        address = urlsplit(self.url)
        assert address.hostname is not None
        assert address.port is not None
        connection = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
        connection.settimeout(PATIENCE_S)
        return connection


@contextmanager
def running(
    settings: Settings, before: str = "", prepare: Callable[[], None] | None = None, port: int = 0
) -> Iterator[Running]:
    """A front as a process; it first runs `prepare`, and then the Python `before`."""
    command = [sys.executable, "-c", f"{FRONT}\n{before}\n{RUN.format(port=port)}"]
    environment = os.environ | settings.environment()
    if settings.http_token:  # a front's secret, which no other process is given
        environment |= {f"{ENV_PREFIX}HTTP_TOKEN": settings.http_token}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace", preexec_fn=prepare
    ) as process:
        front = Running(process)
        listener = threading.Thread(target=front.listen)
        listener.start()
        try:
            front.wait_for(lambda log: "listening on" in log and log.endswith("\n"))
            front.url = front.log.partition("listening on ")[2].split()[0].removesuffix("/mcp")
            yield front
        finally:
            process.kill()
            process.wait()
            listener.join()
