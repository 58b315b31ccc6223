"""Access tokens of an OAuth issuer that is reached over HTTP: which are accepted, for whom, and until when.

The issuer here signs whatever a test wants. A whole authorization server, and a client that goes to it by itself, are
in tests/clients/test_oauth.py.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import httpx2
import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.http_fronts import site
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import UserError
from wan_mcp.fronts.http import oauth
from wan_mcp.fronts.http.app import listen
from wan_mcp.fronts.http.credentials import Credentials
from wan_mcp.fronts.http.oauth import BETWEEN_FETCHES_S, KEYS_FRESH_S, KEYS_KEPT_S, SKEW_S, ResourceServer
from wan_mcp.fronts.identity import Identity
from wan_mcp.service.tokens import Tokens
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
AUDIENCE = "https://studio.example/mcp"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SCOPE = {"type": "http", "method": "GET", "path": "/mcp", "scheme": "http", "query_string": b"", "root_path": "",
         "server": ("127.0.0.1", 80), "headers": []}  # fmt: skip
HS_KEY = "a shared secret of more than thirty-two bytes"


def public(key: Any, key_id: str | None, **more: str) -> dict[str, Any]:
    """A key as an issuer publishes it."""
    algorithms = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
    }
    kind = next((each for of, each in algorithms.items() if isinstance(key, of)), jwt.algorithms.OKPAlgorithm)
    made: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))  # type: ignore[attr-defined]
    return made | ({"kid": key_id} if key_id else {}) | more


@dataclass
class Issuer:
    """A running issuer. What it answers can be changed."""

    url: str
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public(RSA, "1"), public(EC, "2"), public(ED, "3")])
    answers: dict[str, Any] = field(default_factory=dict)
    fetched: int = 0
    answering: anyio.Event | None = None
    """Set when it may answer with its keys; None for at once."""

    def token(self, key: Any = RSA, kid: str | None = "1", algorithm: str = "RS256", **claims: Any) -> str:
        """A token, right unless `claims` say otherwise; a claim of None is left out."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, "scope": "wan read"}
        headers = {"typ": claims.pop("typ", "at+jwt")} | ({"kid": kid} if kid else {})
        made = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode(made, key, algorithm, headers)


@asynccontextmanager
async def issuing(path: str = "") -> AsyncIterator[Issuer]:
    listener = listen("127.0.0.1", 0)
    root = f"http://127.0.0.1:{listener.getsockname()[1]}"
    issuer = Issuer(root + path)
    issuer.answers = {
        f"/.well-known/oauth-authorization-server{path}": {"issuer": issuer.url, "jwks_uri": f"{root}/keys"}
    }

    async def answer(request: Request) -> Response:
        if request.url.path == "/keys":
            issuer.fetched += 1
            if issuer.answering is not None:
                await issuer.answering.wait()
            return JSONResponse({"keys": issuer.keys})
        found = issuer.answers.get(request.url.path)
        return JSONResponse(found, 200 if found else 404)

    app = Starlette(routes=[Route("/{path:path}", answer)])
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, ws="none", lifespan="off", timeout_graceful_shutdown=1)
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        yield issuer
        server.should_exit = True


@pytest.mark.parametrize("path", ["", "/realms/studio"])
async def test_a_token_of_the_issuer_for_this_server_makes_an_owner_of_its_subject(path: str) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with issuing(path) as issuer:
            server = ResourceServer(issuer.url, AUDIENCE, ("wan",))
            tokens = [
                issuer.token(),
                issuer.token(EC, "2", "ES256"),
                issuer.token(ED, "3", "EdDSA"),
                issuer.token(algorithm="PS256"),
                issuer.token(typ="JWT"),
                issuer.token(aud=["https://other.example", AUDIENCE + "/"]),
                issuer.token(scope=None, scp=["wan"]),
                issuer.token(exp=int(time.time()) - 30),  # within the skew of clocks
            ]
            owners = {await server.identify(SCOPE, token) for token in tokens}
            assert len(owners) == 1
            [ada] = owners
            assert isinstance(ada, Identity)
            assert (ada.owner.startswith("oauth:"), ada.owner.endswith(":ada")) == (True, True)
            bob = await server.identify(SCOPE, issuer.token(sub="bob"))
            assert isinstance(bob, Identity)
            assert bob.owner != ada.owner
            assert issuer.fetched == 1


async def test_any_other_token_is_refused_with_the_way_to_a_right_one() -> None:
    now = int(time.time())
    with anyio.fail_after(PATIENCE_S):
        async with issuing() as issuer:
            issuer.keys += [public(OTHER_RSA, "enc", use="enc"), public(OTHER_RSA, "rs512", alg="RS512")]
            server = ResourceServer(issuer.url, AUDIENCE, ("wan",))
            right = issuer.token()
            head, body, signature = right.split(".")
            wrong = {
                "no JWT": "nonsense",
                "empty": "..",
                "no signature": f"{head}.{body}.",
                "another signature": f"{head}.{body}.{signature[::-1]}",
                "no algorithm": jwt.encode({"sub": "ada"}, "", "none"),
                "a shared secret": issuer.token(HS_KEY, "1", "HS256"),
                "another key of that id": issuer.token(OTHER_RSA, "1"),
                "a key for encryption": issuer.token(OTHER_RSA, "enc"),
                "a key for another algorithm": issuer.token(OTHER_RSA, "rs512"),
                "an algorithm of another kind of key": issuer.token(EC, "1", "ES256"),
                "no key id": issuer.token(kid=None),
                "an unknown key": issuer.token(kid="9"),
                "expired": issuer.token(exp=now - 120),
                "not yet": issuer.token(nbf=now + 120),
                "from the future": issuer.token(iat=now + 120),
                "for ever": issuer.token(exp=None),
                "another issuer": issuer.token(iss="https://evil.example"),
                "no issuer": issuer.token(iss=None),
                "another audience": issuer.token(aud="https://other.example/mcp"),
                "a part of the audience": issuer.token(aud="https://studio.example"),
                "no audience": issuer.token(aud=None),
                "no subject": issuer.token(sub=None),
                "an empty subject": issuer.token(sub=""),
                "an id token": issuer.token(typ="logout+jwt"),
            }
            for what, token in wrong.items():
                refusal = await server.identify(SCOPE, token)
                assert isinstance(refusal, Response), what
                assert refusal.status_code == 401, what
                assert 'error="invalid_token"' in refusal.headers["www-authenticate"], what
                assert "/.well-known/oauth-protected-resource/mcp" in refusal.headers["www-authenticate"]
            lacking = await server.identify(SCOPE, issuer.token(scope="read"))
            assert isinstance(lacking, Response)
            assert lacking.status_code == 403
            assert 'error="insufficient_scope"' in lacking.headers["www-authenticate"]
            assert 'scope="wan"' in lacking.headers["www-authenticate"]


async def test_new_keys_are_found_withdrawn_ones_end_and_an_outage_is_bridged() -> None:
    now = 0.0
    with anyio.fail_after(PATIENCE_S):
        async with issuing() as issuer:
            server = ResourceServer(issuer.url, AUDIENCE, clock=lambda: now)

            async def status(token: str) -> int:
                found = await server.identify(SCOPE, token)
                return 200 if isinstance(found, Identity) else found.status_code

            old, new = issuer.token(), issuer.token(OTHER_RSA, "new")
            assert [await status(old), await status(new)] == [200, 401]
            issuer.keys = [public(OTHER_RSA, "new")]
            assert await status(new) == 401  # it was asked a moment ago: no flood, whatever tokens come
            assert issuer.fetched == 1
            now += BETWEEN_FETCHES_S + 1
            assert [await status(new), await status(old)] == [200, 401]
            metadata, issuer.answers = issuer.answers, {}
            now += KEYS_FRESH_S + 1
            assert await status(new) == 200
            now += KEYS_KEPT_S
            assert await status(new) == 503
            now += BETWEEN_FETCHES_S / 2
            assert await status(new) == 503  # also while the issuer is not asked again
            now += BETWEEN_FETCHES_S + 1
            issuer.answers = metadata
            assert await status(new) == 200
            issuer.answers = {path: facts | {"issuer": "https://evil.example"} for path, facts in metadata.items()}
            now += KEYS_KEPT_S + 1
            assert await status(new) == 503


async def test_who_needs_no_new_keys_does_not_wait_while_an_issuer_keeps_another_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with issuing() as issuer:
            now = [0.0]
            server = ResourceServer(issuer.url, AUDIENCE, clock=lambda: now[0])
            right, unknown = issuer.token(), issuer.token(OTHER_RSA, "9")
            assert isinstance(await server.identify(SCOPE, right), Identity)
            issuer.answering = anyio.Event()  # from now on, it answers when it is set
            refused: list[object] = []

            async def ask() -> None:
                refused.append(await server.identify(SCOPE, unknown))

            for age in (BETWEEN_FETCHES_S, KEYS_FRESH_S):
                now[0] += age + 1
                asked = issuer.fetched
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    while issuer.fetched == asked:  # noqa: ASYNC110  # the issuer is another part of this process
                        await anyio.sleep(0.01)
                    assert isinstance(await server.identify(SCOPE, right), Identity)
                    tasks.cancel_scope.cancel()  # the client goes, and the next one asks at once
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    issuer.answering.set()
                issuer.answering = anyio.Event()
            assert [isinstance(each, Identity) for each in refused] == [False, False]
            now[0] += BETWEEN_FETCHES_S + 1
            monkeypatch.setattr(oauth, "FETCH_S", 0.05)
            assert not isinstance(await server.identify(SCOPE, unknown), Identity)
            issuer.answering.set()


async def test_what_a_token_has_opened_ends_when_the_token_does() -> None:
    end = int(time.time()) + 300
    with anyio.fail_after(PATIENCE_S):
        async with issuing() as issuer:
            server = ResourceServer(issuer.url, AUDIENCE)
            ada = await server.identify(SCOPE, issuer.token(exp=end))
    assert isinstance(ada, Identity)
    assert ada.expires_at == end + SKEW_S
    credentials = Credentials("", None, server)
    assert credentials.may_be_revoked(ada)
    assert credentials.is_valid(ada)
    assert not credentials.is_valid(replace(ada, expires_at=time.time()))


async def test_the_server_says_how_to_get_a_token_and_answers_nobody_without_one(settings: Settings) -> None:
    named = Tokens(settings.home).add("alice")
    async with issuing() as issuer:
        of_issuer = {"oauth_issuer": issuer.url, "oauth_audience": AUDIENCE, "oauth_scopes": "wan"}
        guarded = settings.model_copy(update=of_issuer)
        with anyio.fail_after(PATIENCE_S):
            async with site(guarded) as http:
                refused = await http.web.post("/mcp", json={})
                assert refused.status_code == 401
                place = refused.headers["www-authenticate"].partition('resource_metadata="')[2].partition('"')[0]
                for address in (place, f"{http.url}/.well-known/oauth-protected-resource"):
                    about = (await http.web.get(address)).json()
                    assert about["resource"] == AUDIENCE
                    assert about["authorization_servers"] == [issuer.url]
                    assert about["scopes_supported"] == ["wan"]
                for path in ("/media/videos/00000000000000000000-0.mp4", "/v1/videos", "/api/jobs", "/healthz"):
                    assert (await http.web.get(path)).status_code == 401, path
                made: list[str] = []
                for token in (issuer.token(), issuer.token(sub="bob"), named):
                    http.web.headers["Authorization"] = f"Bearer {token}"
                    answer = await http.web.post(
                        "/v1/images/generations", json={"prompt": "a star", "response_format": "url"}
                    )
                    assert answer.status_code == 200, answer.text
                    made.append(answer.json()["job_id"])
                    listed = (await http.web.get("/api/jobs")).json()["jobs"]
                    assert [job["id"] for job in listed] == made[-1:]
                    async with httpx2.AsyncClient(timeout=PATIENCE_S) as nobody:
                        assert (await nobody.get(answer.json()["data"][0]["url"])).status_code == 200


@pytest.mark.parametrize(
    ("issuer", "audience", "why"),
    [
        ("https://login.example", "", "belong together"),
        ("", AUDIENCE, "belong together"),
        ("http://login.example", AUDIENCE, "https://"),
        ("ftp://login.example", AUDIENCE, "https://"),
        ("https://login.example?x=1", AUDIENCE, "https://"),
        ("login.example", AUDIENCE, "https://"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_server_listens(issuer: str, audience: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        ResourceServer.of(Settings(oauth_issuer=issuer, oauth_audience=audience))


async def test_a_secret_key_that_is_published_by_mistake_signs_nothing() -> None:
    with anyio.fail_after(PATIENCE_S):
        async with issuing() as issuer:
            issuer.keys = [json.loads(jwt.algorithms.HMACAlgorithm.to_jwk(HS_KEY)) | {"kid": "1"}]
            refusal = await ResourceServer(issuer.url, AUDIENCE).identify(SCOPE, issuer.token(HS_KEY, "1", "HS256"))
            assert isinstance(refusal, Response)
            assert refusal.status_code == 401
