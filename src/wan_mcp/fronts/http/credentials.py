"""What a request shows to say whose it is: the server's token, a named one, an issuer's, or a link signed with one."""

import hmac
import secrets
import time

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from wan_mcp.fronts.http.oauth import OF_OAUTH, WELL_KNOWN, ResourceServer
from wan_mcp.fronts.identity import IDENTITY, Identity
from wan_mcp.fronts.signed_links import SignedLinks
from wan_mcp.service.owners import HOME_USER, NOBODY
from wan_mcp.service.tokens import Tokens

__all__ = ["Credentials"]

REALM = 'Bearer realm="wan-mcp"'
REQUIRED = "A bearer token is required."
WRONG = "A bearer token is required; the one that was sent is wrong, or it was revoked."


class Credentials:
    """The tokens that one server accepts."""

    def __init__(self, token: str, tokens: Tokens | None = None, oauth: ResourceServer | None = None) -> None:
        """Accept the server's own `token`, unless it is empty, the named `tokens` of its home, and an issuer's."""
        self._token, self._tokens, self._oauth = token, tokens, oauth
        self._secret = secrets.token_hex()

    async def by_token(self, scope: Scope) -> Identity | Response | None:
        """Return whose token a request carries, its refusal if the token is wrong, and None if there is none.

        A server that needs no token takes any text for none that is not the form of a named token: some clients of the
        video API cannot be without one.
        """
        sent = _bearer(Headers(scope=scope))
        if not sent:
            return None
        if self._token and hmac.compare_digest(sent, self._token.encode()):
            return Identity(HOME_USER)
        text = sent.decode("utf-8", "replace")
        owner = self._tokens.owner_of(text) if self._tokens is not None else None
        if owner is not None:
            return Identity(owner)
        if Tokens.has_form_of_one(text):
            return self._refused(scope, WRONG)
        if self._oauth is not None:
            return await self._oauth.identify(scope, text)
        return self._refused(scope, WRONG) if self._token else None

    def by_link(self, scope: Scope) -> Identity | None:
        """Return in whose name the link was signed by which a request reads a file; None if that is not so."""
        owner = SignedLinks.owner_in(scope)
        links = None if owner is None else self._links_of(owner)
        return Identity(owner) if owner is not None and links is not None and links.admits(scope) else None

    def offer_links(self, scope: Scope) -> None:
        """Let the answer to an admitted request carry signed links of its owner."""
        identity: Identity = scope[IDENTITY]
        links = self._links_of(identity.owner)
        if links is not None:
            links.offer(scope)

    def may_be_revoked(self, identity: Identity) -> bool:
        """Check whether an identity may end while an answer to it goes on."""
        return identity.owner not in (HOME_USER, NOBODY)

    def is_valid(self, identity: Identity) -> bool:
        """Check whether an identity that was found before still holds."""
        return time.time() < identity.expires_at and self._links_of(identity.owner) is not None

    def missing(self, scope: Scope) -> Response:
        """Return the answer to a request that carries no token."""
        return self._refused(scope, REQUIRED)

    def is_public(self, scope: Scope) -> bool:
        """Check whether anybody may read what a request is for: it says how to get a token."""
        path: str = scope["path"]
        return self._oauth is not None and (path == WELL_KNOWN or path.startswith(f"{WELL_KNOWN}/"))

    def _links_of(self, owner: str) -> SignedLinks | None:
        """Return what signs in the name of an owner; None if the owner has no token any more."""
        if owner == HOME_USER:
            return SignedLinks(self._token) if self._token else None
        if owner.startswith(OF_OAUTH):  # whose tokens end by themselves, and soon
            return SignedLinks(f"{self._secret} {owner}", owner=owner)
        named = self._tokens.of(owner) if self._tokens is not None else None
        return None if named is None else SignedLinks(named.sha256, owner=owner)

    def _refused(self, scope: Scope, words: str) -> Response:
        if self._oauth is not None:
            return self._oauth.refused(scope, words, error="invalid_token" if words == WRONG else "")
        return PlainTextResponse(words, status_code=401, headers={"WWW-Authenticate": REALM})


def _bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    # Starlette reads headers as Latin-1, in which every byte is a letter; clients send UTF-8.
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
