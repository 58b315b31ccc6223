"""What a caller writes for an image: a path, a file URI, a data URI, a wan:// address. Nothing is read here."""

import base64
import binascii
import os
import re
from urllib.parse import unquote_to_bytes

from wan_mcp.errors import BadImage

__all__ = ["MISSING_HEAD", "data_of_uri", "is_base64_of_image", "path_of_file_uri", "scheme_of"]

SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")
BASE64 = re.compile(rb"[A-Za-z0-9+/]*")
URL_SAFE = bytes.maketrans(b"-_", b"+/")
BLANKS = b" \t\r\n\f\v"
FIRST_CHARACTERS = 64  # of a text that may be base64
SIGNATURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|....ftypavi[fs]|BM....\0\0\0\0", re.DOTALL
)
"""How files of the formats that are supported begin."""
MISSING_HEAD = "put 'data:image/png;base64,' in front of the base64 (with the type of your image)"


def scheme_of(source: str) -> str:
    """Return the scheme of a URI in lower case; an empty text for a path."""
    match = SCHEME.match(source)
    return match[1].lower() if match else ""


def data_of_uri(source: str, max_bytes: int) -> bytes | None:
    """Return the bytes in a data URI; None if they are clearly more than `max_bytes`.

    Whatever can be decoded is: with line ends and blanks, percent-encoded, in the letters for URLs, without padding
    (RFC 2397, RFC 4648), and of any media type, since the bytes themselves tell what they are.

    Raises:
        BadImage: It has no data, or they are not valid base64.
    """
    head, comma, body = source.partition(",")
    if not comma:
        raise BadImage("the data URI has no comma; it must look like data:image/png;base64,…")
    parameters = [part.strip().lower() for part in head.partition(":")[2].split(";")]
    if "base64" not in parameters[1:]:
        return unquote_to_bytes(body)
    encoded = body.partition("#")[0].encode("utf-8", "replace")
    if b"%" in encoded:
        encoded = unquote_to_bytes(encoded)
    encoded = encoded.translate(URL_SAFE, BLANKS).rstrip(b"=")
    if len(encoded) * 3 // 4 > max_bytes + 3:
        return None
    try:
        if not BASE64.fullmatch(encoded):
            raise BadImage("the data URI is not valid base64")
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage("the data URI is not valid base64, or it is cut short") from error


def path_of_file_uri(source: str) -> str:
    """Return the path in a file URI (RFC 8089), with or without slashes for the host, percent-decoded.

    Raises:
        BadImage: It names another machine.
    """
    rest = re.split(r"[?#]", source.strip().partition(":")[2], maxsplit=1)[0]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost", "127.0.0.1"):
            raise BadImage("a file URI with a host is on another machine; write file:///path, a path, or a data URI")
        rest = slash + path
    return os.fsdecode(unquote_to_bytes(rest))


def is_base64_of_image(source: str) -> bool:
    """Check whether a text is an image in base64 without the head of a data URI."""
    _, comma, body = source[: 4 * FIRST_CHARACTERS].rpartition("base64,")
    text = (body if comma else source[: 4 * FIRST_CHARACTERS]).encode("utf-8", "replace").translate(URL_SAFE, BLANKS)
    text = text.rstrip(b"=")
    first = text[: min(len(text), FIRST_CHARACTERS) // 4 * 4]
    if not BASE64.fullmatch(first):
        return False
    return SIGNATURES.match(base64.b64decode(first)) is not None
