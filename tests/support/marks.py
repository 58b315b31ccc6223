"""Read back whether files say that they were generated: by other programs, not by the code that wrote it."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from wan_mcp.media import ffmpeg

__all__ = ["EXIFTOOL", "TRAINED", "source_type", "source_types_by_exiftool"]

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
EXIFTOOL = shutil.which("exiftool")
PROPERTY = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def source_type(path: Path) -> str | None:
    """Return a file's digital source type: of a picture as Pillow finds its XMP, of a video as ffmpeg does."""
    packet = _of_video(path) if path.suffix in (".mp4", ".webm") else _of_picture(path)
    if packet is None:
        return None
    return ElementTree.fromstring(packet.decode().strip("\0")).findtext(f".//{PROPERTY}")


def source_types_by_exiftool(files: Mapping[str, Path]) -> dict[str, str | None]:
    """Return what exiftool says of each file."""
    assert EXIFTOOL is not None
    asked = [EXIFTOOL, "-json", "-n", "-XMP-iptcExt:DigitalSourceType", *map(str, files.values())]
    answer = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    found = {each["SourceFile"]: each.get("DigitalSourceType") for each in answer}
    return {name: found[str(file)] for name, file in files.items()}


def _of_picture(path: Path) -> bytes | None:
    with Image.open(path) as picture:
        picture.load()
        packet = picture.info.get("xmp")
    return packet.encode() if isinstance(packet, str) else packet


def _of_video(path: Path) -> bytes | None:
    run = ffmpeg.run("-v", "error", "-export_xmp", "1", "-i", str(path), "-f", "ffmetadata", "-")
    [_, found, after] = run.stdout.partition(b"xmp=")
    if not found:
        return None
    packet, _, _ = after.partition(b"</x:xmpmeta>")
    text = packet.replace(b"\\\n", b"\n").replace(b"\\=", b"=").replace(b"\\;", b";").replace(b"\\#", b"#")
    return text[text.index(b"<x:xmpmeta") :] + b"</x:xmpmeta>"
