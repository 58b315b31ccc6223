"""Odd images, odd calls and odd lines, from a seed: what a front must answer in words, whatever it is sent.

`python -m benchmarks.fuzz` goes on for as long as you like, `tests/faults` for some seconds. A fault is an image that
is refused with anything but a reason, a call that is answered as a defect of the server, or memory beyond the budget.
"""

import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mcp import Client, MCPError
from mcp.types import TextContent

from wan_mcp.errors import UserError
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.store import MediaStore
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

__all__ = ["fuzz_calls", "fuzz_images", "fuzz_lines"]

BUDGET_MB = 400
MAX_ANSWER = 3000  # characters of a refusal
SEEDS_OF_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 7, 10**400, -(10**400), 2**31 - 1, 2**31, 2**63, 2**64, 1.0, 0.5, -0.0, 1e308, -1e308, 5e-324, 1e22),
    *("1", "1.0", "-1", "1e3", " 2 ", "0x10", "1_000", "١٢", "9" * 5000, "nan", "inf", ""),
)
TEXTS: tuple[Any, ...] = (
    *(
        "",
        " ",
        "a star",
        "x" * 1_000_000,
        "\0",
        "\n",
        "\x1b]0;x\x07",
        "\u202e",
        "🔴",
        "{prompt}",
        "%s",
        "../../x",
        "null",
    ),
    *("square", "SQUARE (128x128)", "128*128", "16:9", "[128, 128]", "9" * 5000 + "x1", "128x", "draft", "wan-mini"),
    *("data:", "data:,", "data:image/png;base64,", "data:;base64,====", "file:", "file://[", "file:///%00", "wan://x"),
    *("~", "~root/x", "/", "//", "http://[", "C:\\x", "iVBORw0KGgo=", "/9j/4AAQSkZJRg==", "a" * 300 + ".png"),
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [None], [[]], {"name": None}, [{"name": "x", "scale": 1e308}])


def fuzz_images(count: int | None, seed: int, max_megapixels: float = 4) -> list[str]:
    """Ingest `count` odd images (without end if None); return the faults.

    Measures the memory of this process, so it should have done nothing else.
    """
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = InputImages(MediaStore(Path(folder)), [Path(folder)], 20, max_megapixels)
        file = Path(folder) / "image"
        for number, image in islice(enumerate(_odd_images(random.Random(seed))), count):
            file.write_bytes(image)
            try:
                inputs.take(str(file), [])
            except UserError:
                pass
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    return faults
                faults.append(f"image {number} of seed {seed}: {error!r}")
    peak = _peak_mb()
    if peak > BUDGET_MB:
        faults.append(f"the images took {peak:.0f} MB")
    return faults


def _peak_mb() -> float:
    """Return the largest memory of this process. On Linux getrusage's also counts the parent's, which forked it."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


async def fuzz_calls(settings: Settings, count: int | None, seed: int) -> list[str]:
    """Call the tools of a server with these settings `count` times with odd arguments; return the faults."""
    faults: list[str] = []
    chance = random.Random(seed)
    async with serving(settings) as service, Client(build_server(service)) as client:
        tools = {tool.name: list(tool.input_schema["properties"]) for tool in (await client.list_tools()).tools}
        for number in islice(iter(int, 1) if count is None else range(count), count):
            name, arguments = _odd_call(chance, tools)
            try:
                answer = await client.call_tool(name, arguments)
            except MCPError as error:
                faults.append(f"call {number} of seed {seed}: {name} {sorted(arguments)}: {error}")
                continue
            words = " ".join(block.text for block in answer.content if isinstance(block, TextContent))
            if "defect" in words or (answer.is_error and len(words) > MAX_ANSWER):
                faults.append(f"call {number} of seed {seed}: {name} {str(arguments)[:300]}: {words[:300]}")
    return faults


def fuzz_lines(settings: Settings, count: int | None, seed: int) -> list[str]:
    """Send `count` odd lines to a front that is a process, each before a ping; return the faults.

    A fault is a ping without an answer, an answer that is no JSON-RPC message, or a traceback in the log.
    """
    faults: list[str] = []
    chance = random.Random(seed)
    command = [sys.executable, "-m", "wan_mcp", "stdio"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, env=os.environ | settings.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as front,
    ):
        assert front.stdin is not None
        assert front.stdout is not None
        for number in islice(iter(int, 1) if count is None else range(count), count):
            line, ping = _odd_line(chance), f"after {number}"
            front.stdin.write(
                line + b"\n" + json.dumps({"jsonrpc": "2.0", "id": ping, "method": "ping"}).encode() + b"\n"
            )
            front.stdin.flush()
            try:
                while (answer := json.loads(front.stdout.readline())).get("id") != ping:
                    assert answer["jsonrpc"] == "2.0"
                    assert ("error" in answer) != ("result" in answer)
            except (ValueError, AssertionError, KeyError, AttributeError) as error:
                faults.append(f"line {number} of seed {seed}: {line[:300]!r}: {error!r}")
                if front.poll() is not None:
                    break
        front.stdin.close()
        front.wait()
        log.seek(0)
        said = log.read().decode(errors="replace")
    return faults + ([f"a traceback in the log: {said[-2000:]}"] if "Traceback" in said else [])


def _odd_line(chance: random.Random) -> bytes:
    """Return a damaged message, without line ends."""
    call = {"name": chance.choice(("get_job", "list_jobs", "nothing")), "arguments": {"job_id": "none"}}
    number: Any
    methods: tuple[tuple[str, Any], ...] = (
        ("tools/call", call),
        ("ping", {}),
        ("tools/list", {}),
        ("no/such", {}),
        ("initialize", {}),
    )
    method, parameters = chance.choice(methods)
    number = chance.choice((7, "x", None, 1.5, -1, [], 10**30))
    line = bytearray(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}).encode())
    for _ in range(chance.randint(0, 12)):
        at = chance.randrange(len(line) + 1)
        line[at : at + chance.randrange(4)] = chance.choice(
            (bytes([chance.randrange(256)]), b'"id":', b"null", b"{", b"[", b"\\ud83d")
        )
    return bytes(line).replace(b"\n", b" ")


def _odd_call(chance: random.Random, tools: dict[str, list[str]]) -> tuple[str, dict[str, Any]]:
    name = chance.choice(list(tools))
    given = {
        what: _odd_value(chance) for what in chance.sample(tools[name], chance.randint(0, min(4, len(tools[name]))))
    }
    if "prompt" in tools[name] and chance.random() < 0.8:
        given["prompt"] = "a star"
    if "wait_s" in tools[name] and not isinstance(given.get("wait_s"), str):
        given["wait_s"] = 0
    if chance.random() < 0.05:
        given[chance.choice(("", "x" * 100_000, "\n", "toolCallId", "self", "ctx"))] = _odd_value(chance)
    return name, given


def _odd_value(chance: random.Random) -> Any:
    return chance.choice(chance.choices((NUMBERS, TEXTS, OTHERS), (4, 4, 1))[0])


def _odd_images(chance: random.Random) -> Iterator[bytes]:
    """Yield damaged image files; most of the damage is in the metadata, not in the pixels."""
    whole = _whole_images()
    changes: list[Callable[[random.Random, bytearray], None]] = [_flip, _number, _cut, _repeat, _noise, _swap]
    while True:
        image = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            chance.choice(changes)(chance, image)
        if image.startswith(b"\x89PNG") and chance.random() < 0.7:
            image = _with_right_checksums(image)
        yield bytes(image)


def _whole_images() -> list[bytes]:
    from PIL import Image, ImageCms

    plain = Image.effect_noise((48, 32), 60).convert("RGB")
    other = plain.transpose(Image.Transpose.ROTATE_180)
    exif = Image.Exif()
    exif[0x112], exif[0x10F], exif[0x11A] = 6, "maker", 72.0
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    beside = {"exif": exif.tobytes(), "icc_profile": profile}
    made: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((plain, form, beside) for form in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")),
        *((plain, form, {"save_all": True, "append_images": [other]}) for form in ("PNG", "GIF", "WEBP", "TIFF")),
        *((plain.convert(mode), "PNG", {}) for mode in ("RGBA", "LA", "L", "1", "P", "I;16")),
        *((plain.convert(mode), "TIFF", {"compression": "tiff_lzw"}) for mode in ("CMYK", "F", "LAB", "I;16", "1")),
        *((plain, "TIFF", {"compression": kind}) for kind in ("jpeg", "packbits", "tiff_adobe_deflate")),
        *((plain.convert(mode), "JPEG", {"progressive": True}) for mode in ("CMYK", "L", "RGB")),
        *((plain.convert(mode), "BMP", {}) for mode in ("RGB", "P", "1", "RGBA")),
        (plain.convert("RGBA"), "WEBP", {"lossless": True}),
        (plain.convert("P"), "GIF", {"transparency": 0}),
    ]
    images = []
    for image, form, options in made:
        out = io.BytesIO()
        image.save(out, form, **options)
        images.append(out.getvalue())
    return images


def _place(chance: random.Random, image: bytearray) -> int:
    """A place in the file: as often in its first bytes as in all the rest."""
    return chance.randrange(min(len(image), chance.choice((64, 600, len(image)))) or 1)


def _flip(chance: random.Random, image: bytearray) -> None:
    if image:
        image[_place(chance, image)] ^= 1 << chance.randrange(8)


def _number(chance: random.Random, image: bytearray) -> None:
    place, kind = _place(chance, image), chance.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    image[place : place + size] = struct.pack(kind, chance.choice(SEEDS_OF_NUMBERS) & (256**size - 1))


def _cut(chance: random.Random, image: bytearray) -> None:
    start = _place(chance, image)
    del image[start : start + chance.choice((1, 2, 4, 12, 100, len(image)))]


def _repeat(chance: random.Random, image: bytearray) -> None:
    start = _place(chance, image)
    image[start:start] = image[start : start + chance.choice((1, 4, 12, 40, 1000))]


def _noise(chance: random.Random, image: bytearray) -> None:
    place = _place(chance, image)
    image[place : place + 16] = chance.randbytes(chance.randrange(17))


def _swap(chance: random.Random, image: bytearray) -> None:
    a, b = sorted((_place(chance, image), _place(chance, image)))
    image[a:b] = image[a:b][::-1] if b - a < 64 else image[b : b + b - a]


def _with_right_checksums(image: bytearray) -> bytearray:
    """Repair the checksums of a PNG, so that what is in its chunks is read."""
    at = 8
    while at + 12 <= len(image):
        end = at + 12 + int.from_bytes(image[at : at + 4], "big")
        if end > len(image):
            break
        image[end - 4 : end] = zlib.crc32(image[at + 4 : end - 4]).to_bytes(4, "big")
        at = end
    return image
