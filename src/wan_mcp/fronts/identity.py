"""In whose name an HTTP request is made, and how that is known.

The guards of the HTTP front say so in the request's scope.
"""

from dataclasses import dataclass, field
from math import inf

from starlette.types import Scope

from wan_mcp.service.owners import HOME_USER, NOBODY

__all__ = ["IDENTITY", "STRANGER", "Identity", "owner_of_request"]

IDENTITY = "wan_mcp.identity"


@dataclass(frozen=True)
class Identity:
    """Whose request it is."""

    owner: str
    expires_at: float = field(default=inf, compare=False)
    """When the token that was shown ends by itself; Unix time."""


STRANGER = Identity(NOBODY)
"""Of a request for what anybody may read."""


def owner_of_request(scope: Scope) -> str:
    """Return in whose name a request is made; without an identity, it is the user's who has started the server."""
    identity: Identity | None = scope.get(IDENTITY)
    return HOME_USER if identity is None else identity.owner
