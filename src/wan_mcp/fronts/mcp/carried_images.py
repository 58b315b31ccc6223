"""The images that a message carries as data URIs: taken out of it when it is read, so that waiting costs nothing."""

from contextlib import ExitStack

from mcp.types import JSONRPCMessage, JSONRPCRequest

from wan_mcp.fronts.mcp.messages import Refusal, read_message
from wan_mcp.media.kept_uris import KeptUris

__all__ = ["SMALL_BYTES", "read_light"]

SMALL_BYTES = 65_536
"""Messages up to this size are left as they are."""
IMAGES = ("image", "last_image")


def read_light(raw: bytes, uris: KeptUris, kept: ExitStack) -> tuple[JSONRPCMessage | Refusal, bool]:
    """Read a message, and keep its images in files for as long as `kept` is open.

    Returns what `read_message` does, and whether the message has become another one.

    Raises:
        OutOfSpace: the disk is full.
        HomeUnusable: the home folder cannot be written.
    """
    message = read_message(raw)
    if len(raw) <= SMALL_BYTES or not isinstance(message, JSONRPCRequest) or message.method != "tools/call":
        return message, False
    arguments = (message.params or {}).get("arguments")
    if not isinstance(arguments, dict):
        return message, False
    lighter = False
    for name in IMAGES:
        text = arguments.get(name)
        if isinstance(text, str) and len(text) > SMALL_BYTES and text[:5].lower() == "data:":
            arguments[name] = kept.enter_context(uris.keep(text))
            lighter = True
    return message, lighter
