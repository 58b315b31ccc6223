"""Removed manifest keys of 0.1.0: they are ignored with a remark, so that old manifests stay usable.

Only keys that never changed a result belong here; others are errors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RETIRED_KEYS", "Retired", "drop_retired"]


@dataclass(frozen=True)
class Retired:
    """A key that is no longer part of a manifest, or one value of a key that is."""

    key: str
    """Path from the top of the file, with dots. The path leads through every table of an array."""
    why: str
    """Explanation and advice; the end of the remark."""
    value: str | None = None
    """The only value that is retired; None for all."""
    siblings: tuple[str, ...] = ()
    """Keys of the same table that mean nothing without it."""


_BOUNDARY = "pipeline.boundary_ratio alone sets where the second expert takes over; delete the key"

RENAMED_TABLES = {"quantisation": "quantization"}
"""Tables of 0.1.0 under another name, which stays a synonym."""

RETIRED_KEYS = (
    Retired("pipeline.experts.sigma_max", _BOUNDARY),
    Retired("pipeline.experts.sigma_min", _BOUNDARY),
    Retired("aot.block_class", "the block's class follows from the weights; delete the table [aot]"),
    Retired(
        "aot.package_sha256",
        "packages built elsewhere are no longer loaded, because each machine builds its own; delete the table [aot]",
    ),
    Retired(
        "quantization.recipe",
        "no weights are quantized to int8; 'fp8-rowwise' and 'gguf' are allowed, or delete the table [quantization]",
        value="int8",
        siblings=("exclude",),
    ),
)


def drop_retired(content: dict[str, Any]) -> list[str]:
    """Remove retired keys from a manifest's content, in place, and tables that are empty without them.

    Tables with an old name get their new one.

    Returns:
        One remark for each retired key that was there, as the end of a sentence that names the file.
    """
    for old, new in RENAMED_TABLES.items():
        if old in content and new not in content:
            content[new] = content.pop(old)
    remarks = []
    for retired in RETIRED_KEYS:
        *path, key = retired.key.split(".")
        tables = [table for table in _tables(content, path) if key in table and retired.value in (None, table[key])]
        for table in tables:
            for name in (key, *retired.siblings):
                table.pop(name, None)
        if tables:
            said = f"'{retired.key}'" if retired.value is None else f"'{retired.key}' = \"{retired.value}\""
            remarks.append(f"{said} has no effect and is ignored: {retired.why}")
            if path and not content[path[0]]:
                del content[path[0]]
    return remarks


def _tables(content: object, path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the tables at a path; none where the content has another form, which the schema then refuses."""
    if isinstance(content, list):
        for each in content:
            yield from _tables(each, path)
    elif isinstance(content, dict):
        if not path:
            yield content
        elif path[0] in content:
            yield from _tables(content[path[0]], path[1:])
