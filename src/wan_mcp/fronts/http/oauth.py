"""Tokens of an OAuth 2.1 authorization server, as MCP has it: this server is a resource server and issues none.

A token is a JWT (RFC 9068) that the issuer has signed for this server's audience (RFC 8707). The metadata of this
server (RFC 9728) names the issuer. Checked are the signature, the issuer, the audience, the times and the scopes; the
subject is the owner. Keys come from the issuer, are fetched again when a token has an unknown one, and are
forgotten when the issuer has withdrawn them.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from wan_mcp.errors import UserError
from wan_mcp.fronts.identity import Identity
from wan_mcp.fronts.mcp.http_entry import ENDPOINT
from wan_mcp.parsing import parse_json
from wan_mcp.settings import Settings

__all__ = ["OF_OAUTH", "WELL_KNOWN", "ResourceServer"]

log = logging.getLogger(__name__)

WELL_KNOWN = "/.well-known/oauth-protected-resource"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Of signatures with a public key. No others: with a shared secret or none, all who know the public key could sign."""
TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
"""Of access tokens; an issuer signs other tokens, too."""
OF_OAUTH = "oauth:"
"""Begins the name of an owner that is a subject; no named token has such a name."""
SKEW_S = 60  # between the issuer's clock and this one
KEYS_FRESH_S = 300.0  # then they are fetched again, so that withdrawn ones end
KEYS_KEPT_S = 3600.0  # while the issuer cannot be reached
BETWEEN_FETCHES_S = 10.0  # whatever tokens come
ANSWER_S = 5.0
FETCH_S = 10.0  # for all answers together
MAX_ANSWER_BYTES = 1_000_000
SUBJECT_SHOWN = 100


class _Wrong(Exception):
    """A token that is not accepted; says why, for the client's developer."""


class _Unreachable(Exception):
    """The issuer's keys cannot be had."""


class ResourceServer:
    """What accepts the tokens of one issuer."""

    def __init__(
        self, issuer: str, audience: str, scopes: tuple[str, ...] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Accept tokens that `issuer` has signed for `audience`, with all of `scopes`."""
        self._issuer, self._audience, self._scopes, self._clock = issuer, audience, scopes, clock
        self._keys: dict[str | None, dict[str, Any]] = {}
        self._fetched, self._tried = -float("inf"), -float("inf")
        self._fetching = anyio.Lock()

    @classmethod
    def of(cls, settings: Settings) -> "ResourceServer | None":
        """Return the one that the settings ask for.

        Raises:
            UserError: they cannot be used; the message says why.
        """
        issuer, audience = settings.oauth_issuer, settings.oauth_audience
        if not issuer and not audience:
            return None
        if not issuer or not audience:
            raise UserError(
                "WAN_MCP_OAUTH_ISSUER and WAN_MCP_OAUTH_AUDIENCE belong together: the issuer of tokens, and what they "
                "must be for, which is this server's address as clients know it, such as https://studio.example/mcp"
            )
        if not _is_safe(issuer):
            raise UserError(
                f"WAN_MCP_OAUTH_ISSUER must be an https:// address (http:// on this machine only), not '{issuer[:200]}'"
            )
        return cls(issuer, audience, tuple(settings.oauth_scopes.split()))

    # What clients are told.

    def routes(self) -> list[Route]:
        """Return the routes of this server's metadata: below the endpoint's path, and at the root."""

        async def metadata(request: Request) -> Response:
            about: dict[str, Any] = {
                "resource": self._resource(request.scope),
                "authorization_servers": [self._issuer],
                "bearer_methods_supported": ["header"],
                "resource_name": "Wan studio",
            }
            if self._scopes:
                about["scopes_supported"] = list(self._scopes)
            return JSONResponse(about, headers={"Cache-Control": "public, max-age=300"})

        return [Route(path, metadata) for path in (f"{WELL_KNOWN}{self._path()}", WELL_KNOWN)]

    def refused(self, scope: Scope, words: str, *, error: str = "", status: int = 401) -> Response:
        """Return a refusal that leads clients to the issuer (RFC 6750, RFC 9728)."""
        base = str(Request(scope).base_url).rstrip("/")
        facts = {"resource_metadata": f"{base}{WELL_KNOWN}{self._path()}"}
        if error:
            facts |= {"error": error, "error_description": words.replace('"', "'")}
        if self._scopes:
            facts["scope"] = " ".join(self._scopes)
        listed = ", ".join(f'{name}="{value}"' for name, value in facts.items())
        return PlainTextResponse(words, status, {"WWW-Authenticate": f'Bearer realm="wan-mcp", {listed}'})

    def _resource(self, scope: Scope) -> str:
        if urlsplit(self._audience).scheme in ("http", "https"):
            return self._audience
        return str(Request(scope).base_url).rstrip("/") + ENDPOINT

    def _path(self) -> str:
        audience = urlsplit(self._audience)
        return audience.path.rstrip("/") if audience.scheme in ("http", "https") else ENDPOINT

    # Tokens.

    async def identify(self, scope: Scope, token: str) -> Identity | Response:
        """Return whose token it is, or the refusal of one that is not accepted."""
        try:
            claims = await self._claims(token)
        except _Wrong as error:
            log.info("an OAuth token was refused: %s", error)
            return self.refused(scope, f"The access token is not accepted: {error}.", error="invalid_token")
        except _Unreachable as error:
            log.warning("tokens cannot be checked: %s", error)
            words = "Tokens cannot be checked at present: their issuer does not answer. Try again later."
            return PlainTextResponse(words, 503, {"Retry-After": "10"})
        if missing := [each for each in self._scopes if each not in _scopes_in(claims)]:
            words = f"The access token lacks the scope {' '.join(missing)}."
            return self.refused(scope, words, error="insufficient_scope", status=403)
        return Identity(_owner(self._issuer, claims["sub"]), expires_at=float(claims["exp"]) + SKEW_S)

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _Wrong("it is not a JWT, and opaque tokens are not taken; have the issuer sign its tokens") from error
        algorithm, kind, key_id = header.get("alg"), header.get("typ"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise _Wrong(f"its algorithm is not one of {', '.join(ALGORITHMS)}")
        if (kind.lower() if isinstance(kind, str) else kind) not in TYPES:
            raise _Wrong("it is no access token")
        key = await self._key(key_id, algorithm)
        audiences = {self._audience, self._audience.rstrip("/"), f"{self._audience.rstrip('/')}/"}
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=audiences,
                issuer=self._issuer,
                leeway=SKEW_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise _Wrong(f"{error}"[:200].rstrip(".").lower() or "its signature is wrong") from error
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise _Wrong("it has no subject")
        return claims

    # The issuer's keys.

    async def _key(self, key_id: object, algorithm: str) -> jwt.PyJWK:
        age = self._clock() - self._fetched
        known = self._found(key_id)
        # A request that needs no fetch does not wait for that of another, which a token with any key can cause.
        if known is None or age > (KEYS_KEPT_S if self._fetching.locked() else KEYS_FRESH_S):
            async with self._fetching:
                await self._refresh(key_id)
            known = self._found(key_id)
        if known is None:
            raise _Wrong("its key is none of the issuer's")
        if known.get("alg", algorithm) != algorithm:
            raise _Wrong("its algorithm is not that of the key")
        try:
            return jwt.PyJWK(known, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _Wrong("its algorithm does not fit the key") from error

    async def _refresh(self, key_id: object) -> None:
        """Fetch the keys, if that of a token is unknown or they are old, and the issuer was not asked just now.

        Raises:
            _Unreachable: they cannot be had, and those of before are too old.
        """
        now = self._clock()
        expired = now - self._fetched > KEYS_KEPT_S
        if self._found(key_id) is not None and now - self._fetched <= KEYS_FRESH_S:
            return
        if now - self._tried <= BETWEEN_FETCHES_S:
            if expired:
                raise _Unreachable(f"{self._issuer} did not answer a moment ago")
            return
        before, self._tried = self._tried, now
        try:
            with anyio.fail_after(FETCH_S):
                self._keys = await self._fetch()
            self._fetched = now
        except (_Unreachable, TimeoutError) as error:
            if expired:
                raise _Unreachable(str(error) or f"{self._issuer} took longer than {FETCH_S:g} s") from error
            log.warning("the keys of %s could not be fetched; those of before are used", self._issuer)
        except anyio.get_cancelled_exc_class():  # the caller has gone: the next one may ask at once
            self._tried = before
            raise

    def _found(self, key_id: object) -> dict[str, Any] | None:
        if isinstance(key_id, str):
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if key_id is None and len(self._keys) == 1 else None

    async def _fetch(self) -> dict[str | None, dict[str, Any]]:
        """Return the issuer's keys for signatures, by their ids.

        Raises:
            _Unreachable: they cannot be had.
        """
        async with httpx2.AsyncClient(timeout=ANSWER_S, follow_redirects=False, trust_env=True) as web:
            metadata = await self._metadata(web)
            place = metadata.get("jwks_uri")
            if not isinstance(place, str) or not _is_safe(place):
                raise _Unreachable(f"the metadata of {self._issuer} has no jwks_uri with https")
            keys = (await _json(web, place) or {}).get("keys")
        if not isinstance(keys, list):
            raise _Unreachable(f"{place} has no keys")
        return {
            key.get("kid"): key
            for key in keys
            if isinstance(key, dict) and key.get("use", "sig") == "sig" and key.get("kty") in ("RSA", "EC", "OKP")
        }

    async def _metadata(self, web: httpx2.AsyncClient) -> dict[str, Any]:
        """Return the issuer's metadata (RFC 8414, OpenID Connect Discovery 1.0)."""
        issuer = urlsplit(self._issuer)
        root, path = f"{issuer.scheme}://{issuer.netloc}/.well-known", issuer.path.rstrip("/")
        places = [f"{root}/oauth-authorization-server{path}", f"{root}/openid-configuration{path}"]
        places += [f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"]
        for place in dict.fromkeys(places):
            found = await _json(web, place)
            if found is not None:
                if found.get("issuer") != self._issuer:
                    raise _Unreachable(f"{place} is the metadata of another issuer: {str(found.get('issuer'))[:200]}")
                return found
        raise _Unreachable(f"{self._issuer} has no metadata")


async def _json(web: httpx2.AsyncClient, place: str) -> dict[str, Any] | None:
    """Return the JSON object at an address; None if nothing is there."""
    try:
        async with web.stream("GET", place, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != 200:
                return None
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise _Unreachable(f"the answer of {place} is too long")
        found = parse_json(body)
    except (httpx2.HTTPError, ValueError) as error:
        raise _Unreachable(f"{place}: {type(error).__name__}") from error
    return found if isinstance(found, dict) else None


def _is_safe(address: str) -> bool:
    """Check that nobody between can change what is read there."""
    try:
        url = urlsplit(address)
        host = url.hostname or ""
    except ValueError:
        return False
    local = host in ("localhost", "127.0.0.1", "::1")
    return (
        bool(host)
        and not url.query
        and not url.fragment
        and (url.scheme == "https" or (url.scheme == "http" and local))
    )


def _scopes_in(claims: dict[str, Any]) -> set[str]:
    """Return the scopes of a token: `scope` of RFC 9068, or `scp` as some issuers write it."""
    found: set[str] = set()
    for value in (claims.get("scope"), claims.get("scp")):
        if isinstance(value, str):
            found |= set(value.split())
        elif isinstance(value, list):
            found |= {each for each in value if isinstance(each, str)}
    return found


def _owner(issuer: str, subject: str) -> str:
    """Return the owner that a subject is; another issuer's subject of the same name is another one."""
    shown = subject if len(subject) <= SUBJECT_SHOWN and subject.isprintable() else ""
    digest = hashlib.sha256(f"{issuer} {subject}".encode()).hexdigest()[:16]
    return f"{OF_OAUTH}{digest}:{shown}"
