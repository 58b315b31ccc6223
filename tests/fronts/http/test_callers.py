"""Whom the server on this machine answers: its own user, and everybody who sends the token."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from starlette.types import Message, Scope

from tests.fixtures.command_line import COMMAND, environment
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.discretion import NEAR
from wan_mcp.fronts.http.app import settings_for
from wan_mcp.fronts.http.callers import Callers
from wan_mcp.fronts.http.peer import Peer, can_tell_users, peer_of
from wan_mcp.fronts.identity import IDENTITY, Identity
from wan_mcp.service.owners import HOME_USER
from wan_mcp.settings import Settings

NOBODY = 65534
TOKEN = "a long secret"
SECRET_PATH = "hooks-of-mine"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
pytestmark = pytest.mark.skipif(not can_tell_users(), reason="this system does not tell whose connections are")


@contextmanager
def served(settings: Settings, **variables: str) -> Iterator[int]:
    """The command `wan-mcp http`; gives its port."""
    command = [*COMMAND, "http", "--port", "0"]
    own = environment(settings) | variables
    with subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "listening on" in line)
            yield int(line.rpartition(":")[2].split("/")[0])
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def connected(port: int, user: int | None = None) -> Iterator[socket.socket]:
    """A connection of this user or another."""
    if user is not None:
        os.seteuid(user)
    try:
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    finally:
        os.seteuid(os.getuid())
    with client:
        yield client


def status(client: socket.socket, path: str = "/healthz", *headers: str) -> int:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    client.sendall("\r\n".join(lines).encode())
    with client.makefile("rb") as answer:
        return int(answer.read().split()[1])


@as_root
def test_another_user_of_this_machine_is_refused_on_every_route_and_the_own_user_is_not(settings: Settings) -> None:
    with served(settings) as port:
        with connected(port) as own:
            assert status(own) == 200
        for path in ("/mcp", "/healthz", "/media/videos/00000000000000000000-0.mp4", "/nothing"):
            with connected(port, NOBODY) as other:
                assert status(other, path) == 401
        with connected(port, NOBODY) as liar:
            assert status(liar, "/healthz", "X-Forwarded-For: 127.0.0.1", "Authorization: Bearer x") == 401


@as_root
def test_another_user_who_has_the_token_is_answered(settings: Settings) -> None:
    with served(settings, WAN_MCP_HTTP_TOKEN=TOKEN) as port:
        with connected(port, NOBODY) as other:
            assert status(other, "/healthz", f"Authorization: Bearer {TOKEN}") == 200
        with connected(port) as own:
            assert status(own) == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_that_is_being_closed_is_nobodys(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    with server:
        there = server.getsockname()[:2]
        with socket.create_connection(there) as client:
            here = client.getsockname()[:2]
            assert peer_of(here, there) is Peer.SAME_USER
            client.shutdown(socket.SHUT_WR)
            assert peer_of(here, there) is Peer.GONE
        assert peer_of(here, there) is Peer.GONE
    assert peer_of((host, 1), there) is Peer.GONE


def test_where_callers_are_unknown_no_folder_is_open(settings: Settings) -> None:
    assert settings_for("127.0.0.1", settings).image_dirs == settings.image_dirs
    unknown = settings_for("127.0.0.1", settings, callers_known=False)
    assert (unknown.image_dirs, unknown.lora_dirs) == ((), ())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "header", "near"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("0.0.0.0", None, False),
        ("192.168.1.5", None, False),
        ("127.0.0.1", "x-forwarded-for", False),
        ("127.0.0.1", "forwarded", False),
        ("127.0.0.1", "via", False),
        ("127.0.0.1", "X-Real-IP", False),
    ],
)
async def test_only_callers_on_this_machine_and_through_no_proxy_are_near(
    host: str, header: str | None, near: bool
) -> None:
    seen = {}

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        seen.update(scope)

    headers = [(header.lower().encode(), b"x")] if header else []
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": ("127.0.0.1", 9)}
    await Callers(app, host, own_user_only=False)(scope, None, None)  # type: ignore[arg-type]
    assert seen[NEAR] is near


@pytest.mark.anyio
@pytest.mark.parametrize(("identity", "is_served"), [(Identity(HOME_USER), True), (None, False)])
async def test_a_sign_in_is_enough_from_another_machine_of_which_this_system_knows_no_user(
    identity: Identity | None, is_served: bool
) -> None:
    served: list[str] = []
    sent: list[Message] = []

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        served.append(scope["path"])

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.7", 9),
             "server": ("192.0.2.1", 80), IDENTITY: identity}  # fmt: skip
    await Callers(app, "0.0.0.0", own_user_only=True)(scope, None, send)  # type: ignore[arg-type]
    assert served == (["/"] if is_served else [])
    assert [message["status"] for message in sent[:1]] == ([] if is_served else [401])


@pytest.mark.parametrize("flag", [("--http-token", TOKEN), (f"--http-token={TOKEN}",)])
def test_a_token_given_as_a_flag_is_in_no_command_line_and_no_childs_environment(
    settings: Settings, flag: tuple[str, ...]
) -> None:
    told = f"http://127.0.0.1:9/{SECRET_PATH}"
    command = [*COMMAND, *flag, "--on-done", told, "http", "--port", "0"]
    with subprocess.Popen(command, env=environment(settings), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if "listening on" in line:
                    break
            seen = psutil.Process(process.pid).cmdline()
            port = int(said[-1].rpartition(":")[2].split("/")[0])
            with connected(port) as without:
                assert status(without) == 401
            with connected(port) as own:
                assert status(own, "/healthz", f"Authorization: Bearer {TOKEN}") == 200
        finally:
            process.terminate()
            process.communicate()
    assert "http" in seen
    for secret in (TOKEN, SECRET_PATH):
        assert secret not in " ".join(seen)
        assert secret not in "".join(said)
    for name in ("WAN_MCP_HTTP_TOKEN", "WAN_MCP_ON_DONE"):
        assert any(name in line for line in said)
    assert TOKEN not in str(settings.model_copy(update={"http_token": TOKEN}))
    assert TOKEN not in str(settings.model_copy(update={"http_token": TOKEN}).environment())


def test_a_token_given_as_a_flag_leaves_the_command_line_of_a_front_that_does_not_need_it(settings: Settings) -> None:
    command = [*COMMAND, f"--http-token={TOKEN}", "stdio"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(settings), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.flush()
        assert '"id":1' in process.stdout.readline()
        seen = psutil.Process(process.pid).cmdline()
        process.stdin.close()
    assert "stdio" in seen
    assert TOKEN not in " ".join(seen)
