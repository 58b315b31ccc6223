"""The ids by which the page names pictures that were taken in.

On this machine an id is the hash of the content, which cards and receipts show too. A page elsewhere may use and see
only its own pictures. It names each by the id that it was given for it: the hash with a seal that it cannot make, and
that is of no use to another owner.
"""

import hmac
import re
import secrets

from wan_mcp.service.owners import owner_now

__all__ = ["InputIds"]

HASH = re.compile(r"[0-9a-f]{64}")
SEALED = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{32})")
PURPOSE = b"wan-mcp ids of pictures 1"


class InputIds:
    """Makes ids of pictures, and reads them."""

    def __init__(self, token: str) -> None:
        """Bind ids for pages elsewhere to the server's token; without one they end with this process."""
        self._key = hmac.digest(token.encode(), PURPOSE, "sha256") if token else secrets.token_bytes(32)

    def id_of(self, sha256: str, *, near: bool) -> str:
        """Return the id of a picture for the page that has sent it."""
        return sha256 if near else f"{sha256}.{self._seal(sha256)}"

    def hash_of(self, picture: object, *, near: bool) -> str | None:
        """Return the hash of the picture that a page names; None if this is no id that the page may use."""
        if not isinstance(picture, str):
            return None
        if near and HASH.fullmatch(picture):
            return picture
        match = SEALED.fullmatch(picture)
        return match[1] if match and hmac.compare_digest(match[2], self._seal(match[1])) else None

    def _seal(self, sha256: str) -> str:
        return hmac.digest(self._key, f"{sha256}{owner_now()}".encode(), "sha256").hex()[:32]
