"""Adapters of requests: found in the allowed folders, checked by their headers, and hashed."""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from wan_mcp.errors import BadRequest
from wan_mcp.files import sha256_of
from wan_mcp.parsing import parse_json
from wan_mcp.schema.requests import LoraRequest
from wan_mcp.text import one_line, quoted
from wan_mcp.weights.lora_keys import other_kind

__all__ = ["LoraFiles"]

SUFFIX = ".safetensors"
METADATA = "__metadata__"
MAX_HEADER_BYTES = 100_000_000  # as the format's own readers allow


class LoraFiles:
    """The adapters on this machine: by name in one folder, by path below others."""

    def __init__(self, named: Path, folders: Iterable[Path], *, any_folder: bool = False) -> None:
        """Read paths in any folder with `any_folder`, for a person at their own command line."""
        self._named = named
        self._folders = tuple(folders)
        self._any_folder = any_folder
        self._hashes: dict[tuple[Path, int, int, int, int], str] = {}

    def find(self, lora: LoraRequest) -> Path:
        """Return the file that a request names.

        Raises:
            BadRequest: It is missing, outside the allowed folders, not a safetensors file, or an adapter of a kind that
                no model takes; the message says which.
        """
        if (lora.name is None) == (lora.path is None):
            raise BadRequest(f"a lora needs either a name (a file in {self._named}) or a path")
        file = self._by_name(lora.name) if lora.name is not None else self._by_path(lora.path or "")
        _require_safetensors(file)
        return file

    def sha256(self, file: Path) -> str:
        """Return a file's hash, computed again if the file has changed."""
        status = file.stat()
        # Not by the time of the last write alone: the program that writes can set it.
        key = (file, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if key not in self._hashes:
            self._hashes[key] = sha256_of(file)
        return self._hashes[key]

    def _by_name(self, name: str) -> Path:
        files = sorted(file for file in self._named.glob("*") if file.suffix.lower() == SUFFIX)
        there = {file.stem: file for file in files}
        file = {file.name: file for file in files}.get(name) or there.get(_stem(name))
        if file is None:
            has = f"available: {', '.join(there)}" if there else "the folder has none"
            raise BadRequest(f"no lora {quoted(name, 100)} in {self._named}; {one_line(has)}")
        return file

    def _by_path(self, path: str) -> Path:
        try:
            file = Path(path).expanduser().resolve()
            allowed = [folder.resolve() for folder in (self._named, *self._folders)]
            if not self._any_folder and not any(file.is_relative_to(folder) for folder in allowed):
                raise BadRequest(
                    f"the lora is outside the allowed folders ({', '.join(map(str, (self._named, *self._folders)))}); "
                    "copy it into one, or add its folder to WAN_MCP_LORA_DIRS"
                )
            if not file.is_file() and self._any_folder and Path(path).parent == Path.cwd():
                file = self._named / file.name  # at a command line, a bare file name means either folder
            if not file.is_file():
                raise BadRequest(f"no lora file {one_line(path[:200])}")
        except (OSError, ValueError, RuntimeError) as error:
            raise BadRequest(f"the lora {one_line(path[:200])} cannot be read: not a usable path") from error
        return file


def _stem(name: str) -> str:
    return name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name


def _require_safetensors(file: Path) -> None:
    """Check only the header: a pickle is never opened by anything that could run it."""
    try:
        with open(file, "rb", opener=_open_at_once) as content:  # Path.open takes no opener
            if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                raise BadRequest(f"the lora {one_line(file.name)} is not a file: a pipe, a device or a folder")
            (length,) = struct.unpack("<Q", content.read(8))
            header = parse_json(content.read(length)) if 0 < length <= MAX_HEADER_BYTES else None
    except (OSError, struct.error, ValueError) as error:
        raise _no_safetensors(file) from error
    if file.suffix.lower() != SUFFIX or not isinstance(header, dict):
        raise _no_safetensors(file)
    if kind := other_kind(key for key in header if key != METADATA):
        raise BadRequest(one_line(f"the lora {file.name} {kind}"))


def _open_at_once(name: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe, and without taking over a terminal."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _no_safetensors(file: Path) -> BadRequest:
    return BadRequest(
        f"the lora {one_line(file.name)} is not a safetensors file. Other formats can run code and are not supported; "
        "convert it to .safetensors"
    )
