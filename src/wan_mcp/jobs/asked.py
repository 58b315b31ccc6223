"""Requests as the job table keeps them: for comparison with a repeated request_id, and to be changed by a remix.

A request may carry a picture of many megabytes as a data URI. The picture itself lies in the media folder; the table
keeps a hash in place of every long text, so that a row stays small whatever a client sends.
"""

import json
import sqlite3
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wan_mcp.errors import BadRequest, about
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.rows import readable
from wan_mcp.parsing import parse_json
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.long_texts import name_in, name_of
from wan_mcp.schema.requests import Request

__all__ = ["asks_for", "kept", "request_in", "request_key", "same_request", "shrink_requests"]

MAX_LENGTH = 4096  # characters of a text that the table keeps as it is
OF_OWNER = "\x1f"
"""Between an owner and a request id that the owner has chosen."""

_request: TypeAdapter[Request] = TypeAdapter(Request)


def kept(request: Request) -> str:
    """Return a request as JSON, with a hash in place of each long text."""
    return json.dumps(_with_hashes(request.model_dump(mode="json")), ensure_ascii=False)


def asks_for(asked: str, request: Request) -> bool:
    """Check whether a row has the same request.

    An older version may have written the row: with fewer parameters, and with pictures in full.
    """
    try:
        return _request.validate_python(_with_hashes(parse_json(asked))) == _request.validate_python(
            parse_json(kept(request))
        )
    except ValueError:  # parameters of a newer version, or nonsense
        return False


def request_key(request_id: str | None, owner: str) -> str | None:
    """Return what the table keeps as a request id: owners choose theirs without knowing those of others."""
    return request_id if request_id is None or not owner else f"{owner}{OF_OWNER}{request_id}"


def same_request(row: sqlite3.Row, request: Request) -> Job:
    """Return the job in a row, which a repeated request id has found.

    Raises:
        BadRequest: the row has another request.
        UnreadableRow: it cannot be understood.
    """
    if not asks_for(row["request"], request):
        with about("request_id"):
            raise BadRequest(
                f"request_id '{row['request_id'].rpartition(OF_OWNER)[2]}' belongs to job {row['id']} of a different "
                "request; use a new request_id for a new request"
            )
    return readable(row)


def request_in(asked: str) -> Request | None:
    """Return the request in a row; None if this version cannot understand it."""
    try:
        return _request.validate_json(asked)
    except (ValidationError, ValueError, RecursionError):
        return None


def shrink_requests(database: Database) -> int:
    """Replace long texts that an older version has left in the table; return the number of rows that changed.

    SQLite reads every byte of a row up to the last column that is asked for, so such rows make every look slow. Each
    row is looked at once: the table remembers how far it has come.
    """
    [row] = database.read("SELECT (SELECT max(seq) FROM jobs) AS last, (SELECT max(seq) FROM shrunk_requests) AS done")
    last, done = row["last"] or 0, row["done"] or 0
    if done >= last:
        return 0
    large = database.read(
        "SELECT seq FROM jobs WHERE seq > ? AND seq <= ? AND length(CAST(request AS BLOB)) > ?", done, last, MAX_LENGTH
    )
    changed = 0
    for seq in (row["seq"] for row in large):
        [row] = database.read("SELECT request FROM jobs WHERE seq = ?", seq)
        try:
            request = json.dumps(_with_hashes(parse_json(row["request"])), ensure_ascii=False)
        except ValueError:  # nonsense: it is left as it is
            continue
        with database.write(durable=False) as connection:
            changed += connection.execute("UPDATE jobs SET request = ? WHERE seq = ?", (request, seq)).rowcount
    with database.write(durable=False) as connection:
        connection.execute("INSERT OR REPLACE INTO shrunk_requests VALUES (1, ?)", (last,))
    return changed


def _with_hashes(value: Any) -> Any:
    match value:
        case str() if len(value) > MAX_LENGTH:
            return name_of(value)
        case str():
            return name_in(value) or value
        case dict():
            return {key: _with_hashes(each) for key, each in value.items()}
        case list():
            return [_with_hashes(each) for each in value]
        case _:
            return value
