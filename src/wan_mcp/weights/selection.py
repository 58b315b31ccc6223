"""The selection of a repository's files: those that the manifest names, and never one that can run code."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import WeightsUnavailable
from wan_mcp.weights.hub import Listing, RemoteFile

__all__ = ["wanted", "wanted_of"]

# Data that is only ever parsed; everything else stays on the hub, above all what Python unpickles or imports.
PLAIN = {".safetensors", ".gguf", ".json", ".txt", ".model", ".jinja"}
TENSORS = {".safetensors", ".gguf"}
# The same tensors once more, in another precision or of an average: `model.fp16.safetensors` beside
# `model.safetensors`, `model.fp16-00001-of-00002.safetensors`, `model.safetensors.index.fp16.json`.
TWIN = re.compile(
    r"(?P<stem>.+?)(\.safetensors\.index)?\.(?P<twin>fp16|bf16|fp32|fp8\w*|int8|ema|non_ema)(-\d+-of-\d+)?\.(safetensors|json)"
)
SHARD = re.compile(r"(?P<stem>.+?)(-\d+-of-\d+)?\.safetensors")
PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def wanted(manifest: Manifest, listing: Listing) -> tuple[RemoteFile, ...]:
    """Return the files that the manifest requests.

    Raises:
        WeightsUnavailable: One of its patterns matches nothing, or only pickles.
    """
    patterns = manifest.weights.files or ("*",)
    chosen = {file.path: file for pattern in patterns for file in _matching(manifest, listing, pattern)}
    if not any(_suffix(file) in TENSORS for file in chosen.values()):
        raise _nothing(manifest, listing, "*.safetensors", listing.files)
    return tuple(chosen[path] for path in sorted(chosen))


def wanted_of(manifest: Manifest, listing: Listing) -> tuple[RemoteFile, ...]:
    """Return those of some files that the manifest requests; nothing is wrong if others of them are missing."""
    patterns = manifest.weights.files or ("*",)
    chosen = {file.path: file for pattern in patterns for file in _found(listing, pattern)}
    return tuple(chosen[path] for path in sorted(chosen))


def _found(listing: Listing, pattern: str) -> list[RemoteFile]:
    stems = _stems(listing)
    return [
        file
        for file in listing.files
        if fnmatchcase(file.path, pattern) and _suffix(file) in PLAIN and not _is_twin(file.path, stems, pattern)
    ]


def _matching(manifest: Manifest, listing: Listing, pattern: str) -> list[RemoteFile]:
    found = _found(listing, pattern)
    if not found:
        folder = PurePosixPath(pattern).parent
        raise _nothing(
            manifest, listing, pattern, (file for file in listing.files if PurePosixPath(file.path).parent == folder)
        )
    return found


def _stems(listing: Listing) -> set[str]:
    """Return the stems of the tensor files without a mark."""
    plain = (file.path for file in listing.files if not TWIN.fullmatch(file.path))
    return {match["stem"] for path in plain if (match := SHARD.fullmatch(path))}


def _is_twin(path: str, stems: set[str], pattern: str) -> bool:
    """Check whether a file duplicates files without its mark, and the pattern does not name that mark."""
    match = TWIN.fullmatch(path)
    return match is not None and match["stem"] in stems and f".{match['twin']}" not in pattern


def _nothing(manifest: Manifest, listing: Listing, pattern: str, beside: Iterable[RemoteFile]) -> WeightsUnavailable:
    pickles = [file.path for file in beside if _suffix(file) in PICKLED]
    if pickles:
        return WeightsUnavailable(
            "weights_pickled",
            f"{listing.repository} has these weights of '{manifest.name}' only as pickles "
            f"({', '.join(pickles[:3])}). Loading a pickle runs whatever code its author "
            "put there, so they are never downloaded. Name a repository with safetensors in the manifest.",
        )
    return WeightsUnavailable(
        "weights_incomplete",
        f"{listing.repository} at commit {listing.commit[:12]} has no file '{pattern}' that '{manifest.name}' needs; "
        "correct 'files', 'repository' or 'revision' in its manifest.",
    )


def _suffix(file: RemoteFile) -> str:
    return PurePosixPath(file.path).suffix.lower()
