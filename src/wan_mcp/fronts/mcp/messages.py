"""Read one JSON-RPC message from the bytes of a transport, or say which error answers them.

The SDK's stdio transport drops a line that it cannot read without an answer or a log line, and its HTTP transport
accepts a request whose id is null (SDK 2.3; issue 2751 of modelcontextprotocol/python-sdk is about the first). Both
transports here read messages with this module before the SDK sees them.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import pydantic_core
from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    RequestId,
    jsonrpc_message_adapter,
)
from mcp_types.methods import SPEC_CLIENT_METHODS
from pydantic import ValidationError

__all__ = ["HEAD_BYTES", "TAIL_BYTES", "Refusal", "known_id", "read_message"]

# A request holds a few hundred values at most; pictures are one string each. A parsed value costs some
# 90 bytes of memory, so a body of 50 MB that is nothing but brackets would cost gigabytes.
MAX_PUNCTUATION = 100_000
PUNCTUATION = (b"{", b"[", b",", b":")
HEAD_BYTES = 65_536  # of a message that cannot be parsed; its id is looked for in this part and in the tail
TAIL_BYTES = 4_096
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
# The last brace of a message closes its outermost object, so an id in front of it is the message's own.
ID_AT_THE_END = re.compile(
    rb'[{,]\s*"id"\s*:\s*(-?\d{1,40}|"[^"\\]{0,200}")\s*(?:,\s*"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*)*\}\s*\Z'
)
INTEGER = re.compile(rb"-?\d{1,40}")


@dataclass(frozen=True)
class Refusal:
    """Why a message is not served, in words for its sender, and the request that waits for an answer if known."""

    code: int
    reason: str
    id: RequestId | None = None
    too_large: bool = False

    def answer(self) -> JSONRPCError:
        """Return the error that answers the message."""
        return JSONRPCError(jsonrpc="2.0", id=self.id, error=ErrorData(code=self.code, message=self.reason))


def read_message(raw: bytes) -> JSONRPCMessage | Refusal:
    """Return the message that `raw` holds, or its refusal."""
    if sum(raw.count(mark) for mark in PUNCTUATION) > MAX_PUNCTUATION:
        reason = f"Invalid Request: the message holds more than {MAX_PUNCTUATION} values; send a smaller one"
        return Refusal(INVALID_REQUEST, reason, known_id(raw), too_large=True)
    try:
        message = pydantic_core.from_json(raw)
    except ValueError as error:
        return Refusal(PARSE_ERROR, f"Parse error: the message is not JSON: {error}{_hint(raw, error)}", known_id(raw))
    if (fault := _fault(message)) is not None:
        identifier = message.get("id") if isinstance(message, dict) else None
        return Refusal(INVALID_REQUEST, f"Invalid Request: {fault}", identifier if _is_id(identifier) else None)
    try:
        return jsonrpc_message_adapter.validate_python(message, by_name=False)
    except ValidationError:
        identifier = message.get("id")
        reason = "Invalid Request: it is not a JSON-RPC 2.0 request, notification or response"
        return Refusal(INVALID_REQUEST, reason, identifier if _is_id(identifier) else None)


def _hint(raw: bytes, error: ValueError) -> str:
    if raw.startswith(b"\xef\xbb\xbf"):
        return "; it must not begin with a byte-order mark"
    if "surrogate" in str(error) or "hex escape" in str(error):
        return "; half of a surrogate pair is not a character"
    if "unicode" in str(error):
        return "; its text must be UTF-8"
    return ""


def _fault(message: Any) -> str | None:
    """Return what is wrong with the shape of a parsed message."""
    if isinstance(message, list):
        return "batches are not supported; send each message by itself"
    if not isinstance(message, dict):
        return "the message must be a JSON object"
    if message.get("jsonrpc") != "2.0":
        return '"jsonrpc" must be "2.0"'
    method, is_answer = message.get("method"), "result" in message or "error" in message
    if "id" in message and not _is_id(message["id"]) and not (is_answer and message["id"] is None):
        return '"id" must be a string or a whole number'
    if is_answer and "method" not in message:
        return None
    if not isinstance(method, str):
        return '"method" must be a string'
    if not isinstance(message.get("params"), dict | None):
        return '"params" must be an object'
    if "id" not in message and method in SPEC_CLIENT_METHODS:
        return f'a request of {method} needs an "id"'
    return None


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def known_id(raw: bytes, *, whole: bool = True) -> RequestId | None:
    """Return the id of a message that cannot be parsed, if it can be made out.

    Args:
        raw: The message, or its beginning and its end.
        whole: Whether nothing between beginning and end was left out.
    """
    head, tail = raw[:HEAD_BYTES], raw[-TAIL_BYTES:]
    found = _id_in(head)
    if found is None and (len(raw) > HEAD_BYTES or not whole) and (match := ID_AT_THE_END.search(tail)):
        found = _scalar(match[1])
    return found


def _id_in(head: bytes) -> RequestId | None:
    """Return the outermost object's id without parsing what is around it."""
    depth, key, before = 0, b"", b""
    for match in TOKEN.finditer(head):
        token = match[0]
        if match.end() == len(head):  # it may be cut short
            return None
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        elif depth == 1:
            if token == b":":
                key = before
            elif token == b",":
                key = b""
            elif key == b'"id"':
                return _scalar(token)
        before = token
    return None


def _scalar(token: bytes) -> RequestId | None:
    if INTEGER.fullmatch(token):
        return int(token)
    if token.startswith(b'"'):
        try:
            text: str = json.loads(token)
            text.encode()
        except ValueError:  # also UnicodeError
            return None
        return text
    return None
