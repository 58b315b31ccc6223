"""Named tokens: each lets one owner use the HTTP server, until it is revoked.

A token is a file in the home, named for its owner, with the token's hash; the token itself is kept nowhere. Adding one
makes a file and revoking it removes the file, so a running server notices both at once, and two processes cannot
disagree. The hash is that of 256 random bits, so no slower one is needed.
"""

import hashlib
import json
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wan_mcp.errors import BadRequest
from wan_mcp.files import atomic_file, writing_to
from wan_mcp.parsing import parse_json
from wan_mcp.text import instant, quoted

__all__ = ["NamedToken", "Tokens"]

PREFIX = "wan_"
"""By which people and scanners for secrets recognize a token."""
TOKEN = re.compile(r"wan_[A-Za-z0-9_-]{43}")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
ENDING = ".json"


@dataclass(frozen=True)
class NamedToken:
    """What is known of a token."""

    name: str
    """Of its owner."""
    sha256: str
    created_at: float
    """Unix time."""


class Tokens:
    """The named tokens of one home."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "tokens"
        self._names: dict[str, str] = {}  # by hash; only a hint, because any may have been revoked

    def add(self, name: str) -> str:
        """Make the token of an owner and return it.

        Raises:
            BadRequest: the name cannot be one, or has a token already.
            HomeUnusable: the home cannot be written.
        """
        file = self._file(name)
        token = PREFIX + secrets.token_urlsafe(32)
        about = {"sha256": hash_of(token), "created_at": time.time()}
        taken = BadRequest(f"{name} has a token already; revoke it first, or choose another name")
        if file.exists():
            raise taken
        try:
            with writing_to(self._folder), atomic_file(file, durable=True, private=True, replace=False) as fresh:
                fresh.write_text(json.dumps(about), encoding="utf-8")
        except FileExistsError as error:
            raise taken from error
        return token

    def revoke(self, name: str) -> None:
        """Make the token of an owner useless.

        Raises:
            BadRequest: there is none of that name.
            HomeUnusable: the home cannot be written.
        """
        file = self._file(name)
        with writing_to(self._folder):
            try:
                file.unlink()
            except FileNotFoundError as error:
                known = ", ".join(each.name for each in self.all()) or "none"
                raise BadRequest(f"no token is named {quoted(name)}; there are: {known}") from error

    def all(self) -> list[NamedToken]:
        """Return all tokens, in the order of their names."""
        found = (self.of(file.name.removesuffix(ENDING)) for file in sorted(self._folder.glob(f"*{ENDING}")))
        return [each for each in found if each is not None]

    def any(self) -> bool:
        """Check whether there are tokens."""
        with suppress(OSError):
            return any(file.suffix == ENDING for file in self._folder.iterdir())
        return False

    def of(self, name: str) -> NamedToken | None:
        """Return the token of an owner; None if it has none, or if its file cannot be read."""
        if not NAME.fullmatch(name):
            return None
        try:
            about = parse_json((self._folder / f"{name}{ENDING}").read_text(encoding="utf-8"))
            named = NamedToken(name, str(about["sha256"]), float(about["created_at"]))
            instant(named.created_at)  # what is no time cannot be listed
            return named
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def owner_of(self, token: str) -> str | None:
        """Return whose token it is; None if it is none, or was revoked."""
        if not TOKEN.fullmatch(token):
            return None
        digest = hash_of(token)
        named = self.of(self._names.get(digest, ""))
        if named is None or named.sha256 != digest:
            self._names = {each.sha256: each.name for each in self.all()}
        return self._names.get(digest)

    @staticmethod
    def has_form_of_one(text: str) -> bool:
        """Check whether a text looks like a token, which may have been revoked."""
        return TOKEN.fullmatch(text) is not None

    def _file(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise BadRequest(
                f"a name has 1 to 40 small letters, digits and . _ - and begins with a letter or a digit, unlike "
                f"{quoted(name)}"
            )
        return self._folder / f"{name}{ENDING}"


def hash_of(token: str) -> str:
    """Return the hash of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
