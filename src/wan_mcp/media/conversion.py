"""Results in other formats: a video as GIF, WebM or animated WebP, an image as JPEG or WebP.

A conversion is made from the finished file, which stays as it is, and carries the same receipt and the same mark. The
same result always gives the same bytes with the same ffmpeg and Pillow. Pillow is imported where it is used.
"""

import json
import logging
import re
import shutil
import subprocess
from pathlib import Path

from wan_mcp.errors import BadRequest, JobFailed, OutOfSpace, UserError
from wan_mcp.media import ffmpeg
from wan_mcp.media.containers import with_gif_extensions, with_webp_metadata
from wan_mcp.media.content_credentials import UNSIGNABLE, ContentCredentials
from wan_mcp.media.generated_mark import DIGITAL_SOURCE_TYPE, XMP
from wan_mcp.media.images import IMAGE_DESCRIPTION
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import CONVERSIONS, EXTENSIONS, MIME_TYPES
from wan_mcp.schema.enums import Kind
from wan_mcp.text import first_line, last_line

__all__ = ["convert", "require_encoder"]

log = logging.getLogger(__name__)

PILLOW_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
IMAGE_QUALITY = 95
ENCODERS = {".gif": "gif", ".webm": "libvpx-vp9", ".webp": "libwebp_anim"}
RGB = "scale=in_color_matrix=bt709:in_range=tv:flags=accurate_rnd+full_chroma_int+bicubic,format=rgb24"
"""To RGB by the matrix that videos say they have: the encoders of GIF and WebP would take the numbers for BT.601."""
PALETTE = "split[all][some];[some]palettegen=stats_mode=diff[palette];[all][palette]paletteuse=dither=sierra2_4a"
MAX_GIF_FPS = 50  # players slow down a GIF whose frames are shown for less than two hundredths of a second
FILLED = ("No space left on device", "Disk quota exceeded")
OPTIONS = {
    ".gif": ["-vf", f"fps=fps='min(source_fps,{MAX_GIF_FPS})',{RGB},{PALETTE}", "-loop", "0"],
    # The number of threads and of columns is part of what the encoder makes of the frames.
    ".webm": [
        *("-crf", "24", "-b:v", "0", "-deadline", "good", "-cpu-used", "4", "-pix_fmt", "yuv420p"),
        *("-threads", "4", "-tile-columns", "2", "-row-mt", "0"),
        *("-metadata", f"DIGITAL_SOURCE_TYPE={DIGITAL_SOURCE_TYPE}"),
        *("-metadata", "major_brand=", "-metadata", "minor_version=", "-metadata", "compatible_brands="),
    ],
    ".webp": ["-vf", RGB, "-quality", "90", "-compression_level", "4", "-loop", "0"],
}


def convert(source: Path, target: Path, ending: str, credentials: ContentCredentials | None = None) -> str | None:
    """Write a result to another file, in the format that `ending` says; the result's own ending means a copy.

    `target` is where to write, under whatever name. With `credentials`, a conversion is signed. Returns a note if it
    could not be.

    Raises:
        UserError: it cannot be converted; the message says why.
        OutOfSpace: the disk is full.
        OSError: the result cannot be read, or the target cannot be written.
    """
    ending = ending.lower()
    if ending == source.suffix:
        shutil.copyfile(source, target)
        return None
    if source.suffix == ".mp4":
        _convert_video(source, target, ending)
    else:
        _convert_image(source, target, ending)
    return None if credentials is None else _sign(credentials, source, target, ending)


def require_encoder(kind: Kind, ending: str) -> None:
    """Check that results of a kind can be converted to the format that `ending` says.

    Raises:
        BadRequest: the ffmpeg that is used lacks the encoder, or there is none.
    """
    encoder = ENCODERS.get(ending.lower()) if kind is Kind.VIDEO else None
    if encoder is None:
        return
    try:
        known = ffmpeg.run("-encoders").stdout.decode(errors="replace")
    except JobFailed as error:
        raise BadRequest(f"a {ending.lower()} needs ffmpeg. {error}") from error
    if not re.search(rf"^ \S+ +{re.escape(encoder)} ", known, re.MULTILINE):
        raise BadRequest(
            f"the ffmpeg that is used has no encoder {encoder}, which {ending.lower()} needs; "
            "choose .mp4, or unset IMAGEIO_FFMPEG_EXE"
        )


def _sign(credentials: ContentCredentials, source: Path, target: Path, ending: str) -> str | None:
    """Sign a conversion in place, as one of its result; return a note if that is not possible."""
    kind = Kind.VIDEO if source.suffix == f".{EXTENSIONS[Kind.VIDEO]}" else Kind.IMAGE
    media_type = CONVERSIONS[kind][ending]
    try:
        if media_type in UNSIGNABLE:
            raise UserError(f"C2PA has no place in {ending} files")
        data = credentials.signed(target, media_type, parent=(source, MIME_TYPES[kind]))
    except Exception as error:  # also a defect of the library: a conversion without a signature is better than none
        reason = str(error) if isinstance(error, UserError) else first_line(error)
        log.warning("a conversion was not signed: %s", reason)
        return f"not signed with content credentials: {reason}"
    target.write_bytes(data)
    return None


def _convert_image(source: Path, target: Path, ending: str) -> None:
    from PIL import Image

    receipt, kind = read_receipt(source), PILLOW_FORMATS[ending]
    with Image.open(source) as picture:
        exif = Image.Exif()
        if receipt is not None:
            exif[IMAGE_DESCRIPTION] = _in_ascii(receipt)
        options = {"subsampling": 0} if kind == "JPEG" else {"method": 6}
        picture.convert("RGB").save(target, kind, quality=IMAGE_QUALITY, exif=exif, xmp=XMP, **options)


def _convert_video(source: Path, target: Path, ending: str) -> None:
    format_ = ending.removeprefix(".")
    # The video comes by standard input and leaves under a name without meaning: all users can read command lines.
    command = ffmpeg.command(
        *("-v", "error", "-i", "pipe:0", "-map", "0:v:0", "-c:v", ENCODERS[ending], *OPTIONS[ending]),
        *("-map_metadata", "0", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-f", format_),
        *("-y", f"file:{target.name}"),
    )
    with source.open("rb") as video:
        run = ffmpeg.started(command, stdin=video, folder=target.absolute().parent)
    if run.returncode != 0:
        raise _reason(run, source, format_)
    if ending == ".webm":
        return
    receipt = read_receipt(source)
    written = "" if receipt is None else _in_ascii(receipt)
    if ending == ".gif":
        target.write_bytes(with_gif_extensions(target.read_bytes(), written.encode(), XMP))
    else:
        target.write_bytes(with_webp_metadata(target.read_bytes(), _exif(written), XMP))


def _in_ascii(receipt: object) -> str:
    """Return a receipt as JSON in ASCII, which EXIF and the comments of GIF hold."""
    return json.dumps(receipt, sort_keys=True)


def _exif(description: str) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[IMAGE_DESCRIPTION] = description
    return exif.tobytes()


def _reason(run: subprocess.CompletedProcess[bytes], source: Path, format_: str) -> UserError:
    said = run.stderr.decode(errors="replace")
    if any(words in said for words in FILLED):
        return OutOfSpace(f"no space left to convert {source.name}; free some and try again")
    why = last_line(said.splitlines()) or f"ffmpeg exited with code {run.returncode}"
    return UserError(f"{source.name} cannot be converted to {format_}: {why}")
