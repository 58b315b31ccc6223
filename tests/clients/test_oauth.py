"""The MCP SDK's client signs in at a whole authorization server (oidc-provider), and is served with its tokens."""

import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.clients.environments import node_environment, node_of
from tests.support.http_fronts import Running, running
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
SCRIPT = Path(__file__).parent / "scripts" / "authorization_server.mjs"
SCOPE = "wan"
CALLBACK = "http://127.0.0.1:1/callback"  # nothing is there: the browser of these tests stops before it
ACTION = re.compile(r'action="([^"]+)"')
PROMPT = re.compile(r'name="prompt" value="(\w+)"')


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The address of a running authorization server."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; it brings the authorization server and the Node that it needs")
    folder = node_environment("authorization_server", npm)
    node = node_of(folder) or shutil.which("node")
    port = free_port()
    command = [str(node), "--input-type=module", "-", str(port), SCOPE]
    with (
        SCRIPT.open("rb") as script,
        subprocess.Popen(
            command, cwd=folder, stdin=script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture
def front(issuer: str, settings: Settings) -> Iterator[Running]:
    """A server that accepts the tokens of the authorization server."""
    port = free_port()
    audience = f"http://127.0.0.1:{port}/mcp"
    of_issuer = {"oauth_issuer": issuer, "oauth_audience": audience, "oauth_scopes": SCOPE}
    with running(settings.model_copy(update=of_issuer), port=port) as front:
        yield front


@dataclass
class Memory(TokenStorage):
    """What a client remembers."""

    tokens: OAuthToken | None = None
    about: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.about

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.about = client_info


@dataclass
class Person:
    """Somebody with a browser, who signs in by name and agrees to all."""

    name: str
    memory: Memory = field(default_factory=Memory)
    arrived: str = ""

    async def open(self, address: str) -> None:
        """Follow the authorization server's pages until it sends the browser back to the client."""
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as browser:
            answer = await browser.get(address)
            while True:
                while answer.is_redirect:
                    address = urljoin(str(answer.url), answer.headers["location"])
                    if address.startswith(CALLBACK):
                        self.arrived = address
                        return
                    answer = await browser.get(address)
                action, prompt = ACTION.search(answer.text), PROMPT.search(answer.text)
                assert action is not None, answer.text
                assert prompt is not None, answer.text
                form = {"prompt": prompt[1], "login": self.name, "password": "any"}
                answer = await browser.post(urljoin(str(answer.url), action[1]), data=form)

    async def back(self) -> AuthorizationCodeResult:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.arrived).query).items()}
        return AuthorizationCodeResult(code=query["code"], state=query.get("state"), iss=query.get("iss"))

    def sign_in(self, server: str) -> OAuthClientProvider:
        """What makes the SDK's client find the issuer, register and get a token by itself."""
        about = OAuthClientMetadata.model_validate(
            {
                "client_name": f"{self.name}'s client",
                "redirect_uris": [CALLBACK],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
            }
        )
        return OAuthClientProvider(server, about, self.memory, redirect_handler=self.open, callback_handler=self.back)


@asynccontextmanager
async def connected(front: Running, who: Person) -> AsyncIterator[Client]:
    server = f"{front.url}/mcp"
    async with (
        httpx2.AsyncClient(auth=who.sign_in(server), timeout=PATIENCE_S) as web,
        Client(streamable_http_client(server, http_client=web)) as client,
    ):
        yield client


async def test_a_client_finds_the_issuer_signs_in_and_its_user_sees_its_own_jobs_only(front: Running) -> None:
    ada, bob = Person("ada"), Person("bob")
    with anyio.fail_after(2 * PATIENCE_S):
        async with connected(front, ada) as of_ada, connected(front, bob) as of_bob:
            made = await of_ada.call_tool("generate_image", {"prompt": "a star"})
            assert made.structured_content is not None
            job_id = made.structured_content["job_id"]
            assert (await of_bob.call_tool("get_job", {"job_id": job_id})).is_error
            assert not (await of_ada.call_tool("get_job", {"job_id": job_id})).is_error
            listed = await of_bob.call_tool("list_jobs", {})
            assert listed.structured_content is not None
            assert listed.structured_content["jobs"] == []
        async with connected(front, Person("ada")) as again:  # another client of the same person
            assert not (await again.call_tool("get_job", {"job_id": job_id})).is_error


async def test_a_token_of_the_issuer_for_another_server_is_refused(
    front: Running, issuer: str, settings: Settings
) -> None:
    ada = Person("ada")
    port = free_port()
    other = {"oauth_issuer": issuer, "oauth_audience": f"http://127.0.0.1:{port}/mcp", "oauth_scopes": SCOPE}
    with anyio.fail_after(2 * PATIENCE_S), running(settings.model_copy(update=other), port=port) as elsewhere:
        async with connected(elsewhere, ada) as client:
            await client.list_tools()
        assert ada.memory.tokens is not None
        headers = {"Authorization": f"Bearer {ada.memory.tokens.access_token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as web:
            assert (await web.get(f"{elsewhere.url}/v1/videos")).status_code == 200
            refused = await web.get(f"{front.url}/v1/videos")
            assert refused.status_code == 401
            assert 'error="invalid_token"' in refused.headers["www-authenticate"]
