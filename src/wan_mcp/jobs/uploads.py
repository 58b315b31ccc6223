"""Pictures that were sent on their own, and the links by which a person may send one: until a day is over.

An upload has an address that cannot be guessed and that only its owner may use. A link has a secret, of which the table
has the hash; it is good for one picture, for half an hour.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from wan_mcp.jobs.database import Database

__all__ = ["KEPT_S", "LINK_S", "Upload", "Uploads"]

LINK_S = 1800.0
KEPT_S = 86_400.0
"""How long an upload's address is good for: as long as an image is kept that no job has."""
OPEN_LINKS = 20  # of one owner; a further one ends the oldest
TRIES = 10  # of one link, as long as none was a picture


@dataclass(frozen=True)
class Upload:
    """A picture that was sent, or that is waited for."""

    id: str
    sha256: str | None
    """Of the picture; None while it is waited for."""
    expires_at: float
    """When the link ends by which it may be sent, or its address; Unix time."""


class Uploads:
    """The uploads of one home."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def add(self, owner: str, sha256: str) -> Upload:
        """Note a picture that was sent."""
        upload = Upload(secrets.token_hex(16), sha256, self._clock() + KEPT_S)
        with self._database.write() as connection:
            connection.execute("DELETE FROM uploads WHERE expires_at < ?", (self._clock(),))
            connection.execute(
                "INSERT INTO uploads (id, owner, sha256, expires_at) VALUES (?, ?, ?, ?)",
                (upload.id, owner, sha256, upload.expires_at),
            )
        return upload

    def offer(self, owner: str) -> tuple[Upload, str]:
        """Make a link; return the upload that it is for, and the secret."""
        upload, secret = Upload(secrets.token_hex(16), None, self._clock() + LINK_S), secrets.token_urlsafe(24)
        with self._database.write() as connection:
            connection.execute("DELETE FROM uploads WHERE expires_at < ?", (self._clock(),))
            connection.execute(
                "DELETE FROM uploads WHERE id IN (SELECT id FROM uploads WHERE owner = ? AND sha256 IS NULL"
                " ORDER BY expires_at DESC LIMIT -1 OFFSET ?)",
                (owner, OPEN_LINKS - 1),
            )
            connection.execute(
                "INSERT INTO uploads (id, owner, link, expires_at) VALUES (?, ?, ?, ?)",
                (upload.id, owner, _hash(secret), upload.expires_at),
            )
        return upload, secret

    def is_open(self, secret: str) -> bool:
        """Check whether a picture may be sent by a link."""
        return bool(self._database.read(f"SELECT 1 FROM uploads WHERE {OPEN}", _hash(secret), self._clock(), TRIES))

    def begin(self, secret: str) -> str | None:
        """Count a try to send a picture by a link; return whose link it is, None if it may not be tried."""
        with self._database.write() as connection:
            rows = connection.execute(
                f"UPDATE uploads SET tries = tries + 1 WHERE {OPEN} RETURNING owner",
                (_hash(secret), self._clock(), TRIES),
            ).fetchall()
            return rows[0]["owner"] if rows else None

    def fill(self, secret: str, sha256: str) -> bool:
        """Note the picture that was sent by a link; return False if another was first, or the link has ended."""
        now = self._clock()
        with self._database.write() as connection:
            filled = connection.execute(
                "UPDATE uploads SET sha256 = ?, expires_at = ? WHERE link = ? AND sha256 IS NULL AND expires_at >= ?",
                (sha256, now + KEPT_S, _hash(secret), now),
            )
            return filled.rowcount == 1

    def find(self, upload_id: str, owner: str) -> Upload | None:
        """Return an upload of an owner; None if there is none, or not any more."""
        rows = self._database.read(
            "SELECT id, sha256, expires_at FROM uploads WHERE id = ? AND owner = ? AND expires_at >= ?",
            upload_id,
            owner,
            self._clock(),
        )
        return Upload(rows[0]["id"], rows[0]["sha256"], rows[0]["expires_at"]) if rows else None


OPEN = "link = ? AND sha256 IS NULL AND expires_at >= ? AND tries < ?"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
