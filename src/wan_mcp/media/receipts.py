"""Read the receipt back from a finished file: a JSON object that says how the file was made.

PNG files carry it in a text chunk, JPEG and WebP files in their EXIF, GIF files in a comment, videos in the comment of
their metadata. Pillow is imported where it is used, so that a front may import this module.
"""

import re
from pathlib import Path
from typing import Any

from wan_mcp.media import ffmpeg
from wan_mcp.media.images import IMAGE_DESCRIPTION, RECEIPT_KEY
from wan_mcp.parsing import parse_json

__all__ = ["read_receipt"]

VIDEOS = (".mp4", ".webm")


def read_receipt(path: Path) -> dict[str, Any] | None:
    """Return the receipt in a video or an image that wan-mcp wrote; None if the file carries none.

    Raises:
        OSError: a file without the ending of a video cannot be read as an image.
        JobFailed: there is no ffmpeg to read a video.
    """
    text = _comment(path) if path.suffix.lower() in VIDEOS else _text_chunk(path)
    try:
        receipt = None if text is None else parse_json(text)
    except ValueError:  # a text of another program
        return None
    return receipt if isinstance(receipt, dict) else None


def _text_chunk(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()  # text may lie behind the pixels
        text = picture.info.get(RECEIPT_KEY) or picture.getexif().get(IMAGE_DESCRIPTION)
        if picture.format == "GIF" and isinstance(comment := picture.info.get("comment"), bytes):
            text = comment.decode(errors="replace")
    return text if isinstance(text, str) else None


def _comment(path: Path) -> str | None:
    run = ffmpeg.run("-v", "error", "-i", f"file:{path.name}", "-f", "ffmetadata", "-", folder=path.absolute().parent)
    text = run.stdout.decode(errors="replace")
    # https://ffmpeg.org/ffmpeg-formats.html#Metadata-1: '=', ';', '#', '\' and newlines are escaped by '\'.
    found = re.search(r"^comment=((?:\\.|[^\\\n])*)$", text, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    return None if found is None else re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)
