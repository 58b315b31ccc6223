"""Write this server into a host's file, and take it out again.

Nothing else in the file changes. What is written is read back before it replaces the file: if it does not say what the
file said before, with exactly this one change, the file stays as it is. The last change can be undone, by a copy of
the file that is kept next to it.
"""

import copy
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wan_mcp.errors import BadRequest, UserError
from wan_mcp.files import atomic_file, is_disk_full
from wan_mcp.fronts.hosts import json_members, toml_tables
from wan_mcp.fronts.hosts.registry import SERVER, Host
from wan_mcp.parsing import parse_toml

__all__ = ["Done", "HostFileUnusable", "backup_of", "configured", "set_up", "undo"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
BOM = "\ufeff"


class HostFileUnusable(UserError):
    """A host's file cannot be changed; the message says why."""


@dataclass(frozen=True)
class Done:
    """What was done to a host's file."""

    file: Path
    changed: bool
    backup: Path | None = None
    """The copy of the file as it was; None if there was no file, or nothing changed."""
    removed: bool = False
    """True if the file is gone again, as before it was made here."""
    restored: bool = False
    """True if the file has its former bytes again."""
    kept: tuple[str, ...] = ()
    """What a former entry had that stays in it."""


def backup_of(file: Path) -> Path:
    """Return where the copy of a file is, once it was changed."""
    return file.with_name(f"{file.name}.before-wan-mcp")


def configured(host: Host, file: Path, name: str = SERVER) -> bool:
    """Check whether a host's file has an entry of that name.

    Raises:
        HostFileUnusable: The file cannot be read.
    """
    text = _read(file)
    return text is not None and _at(_parsed(host, file, text), (*host.place, name)) is not None


def set_up(host: Host, file: Path, entry: dict[str, Any], name: str = SERVER) -> Done:
    """Write `entry` under `name`, and keep a copy of the file as it was.

    A former entry of this server keeps its other keys and variables.

    Raises:
        HostFileUnusable: The file cannot be read, understood or written.
        BadRequest: Another server has that name.
    """
    file = file.resolve()
    text = _read(file)
    path = (*host.place, name)
    before = {} if text is None or not text.strip(BOM + " \t\r\n") else _parsed(host, file, text)
    former = _at(before, path)
    wanted = entry if former is None else _merged(host, former, entry, name)
    if former == wanted:
        return Done(file, changed=False)
    expected = copy.deepcopy(before)
    _put(host, file, expected, path, wanted)
    changed = _with_entry(host, text or "", path, former, wanted)
    _require(host, changed, expected, file)
    backup = _backed_up(file) if text is not None else None
    _replace(file, text, changed)
    kept = () if former is None or "command" not in former else tuple(key for key in former if key not in entry)
    return Done(file, changed=True, backup=backup, kept=kept)


def undo(host: Host, file: Path, name: str = SERVER) -> Done:
    """Undo the last change that `set_up` made, or take the entry out if no copy of the file is there.

    Raises:
        HostFileUnusable: The file cannot be read, understood or written.
    """
    file = file.resolve()
    text, backup, path = _read(file), backup_of(file), (*host.place, name)
    if text is None:
        return Done(file, changed=False)
    now = _parsed(host, file, text)
    if _at(now, path) is None:
        return Done(file, changed=False)
    old_text = _read(backup)
    old: Any = {}
    with suppress(HostFileUnusable):
        old = _parsed(host, backup, old_text) if old_text is not None and old_text.strip(BOM + " \t\r\n") else {}
    former = _at(old, path)
    expected = copy.deepcopy(now)
    if former is None:
        del _at(expected, host.place)[name]
    else:
        _put(host, file, expected, path, former)
    if old_text is not None and _pruned(old, host.place) == _pruned(expected, host.place):
        _replace(file, text, old_text)
        backup.unlink()
        return Done(file, changed=True, restored=True)
    if old_text is None and not _pruned(expected, host.place):
        file.unlink()
        return Done(file, changed=True, removed=True)
    if former is not None:
        changed = _set(host, text, path, former)
    else:
        remove = toml_tables.without_table if host.form == "toml" else json_members.without_member
        changed = _edited(file, remove, text, path)
        if host.form == "toml" and not _at(expected, host.place):
            expected.pop(host.place[0], None)  # the table above had no header
    _require(host, changed, expected, file)
    _replace(file, text, changed)
    with suppress(FileNotFoundError):
        backup.unlink()
    return Done(file, changed=True)


def _read(file: Path) -> str | None:
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise HostFileUnusable(f"{file} is not text in UTF-8") from error
    except OSError as error:
        raise HostFileUnusable(f"{file} cannot be read: {error.strerror}") from error


def _parsed(host: Host, file: Path, text: str) -> dict[str, Any]:
    text = text.removeprefix(BOM)
    try:
        value = parse_toml(text) if host.form == "toml" else json_members.parse(text)
        if host.form == "json" and not json_members.is_strict(text):
            raise ValueError(f"it has comments or trailing commas, which {host.title} does not read")
    except ValueError as error:
        raise HostFileUnusable(f"{file} cannot be understood: {error}") from error
    if not isinstance(value, dict):
        raise HostFileUnusable(f"{file} cannot be understood: it is not an object")
    return value


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _put(host: Host, file: Path, whole: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for depth, key in enumerate(path[:-1], 1):
        whole = whole.setdefault(key, {})
        if not isinstance(whole, dict):
            raise HostFileUnusable(f"{file} cannot be understood: '{'.'.join(path[:depth])}' is not an object")
    whole[path[-1]] = value


def _merged(host: Host, former: Any, entry: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(former, dict) or not _is_ours(former):
        raise BadRequest(f"{host.title} has another server of the name '{name}'; choose one with --name")
    if "command" not in former:  # it was reached over HTTP
        return entry
    merged = former | entry
    variables = {**(former.get("env") or {}), **entry.get("env", {})}
    return merged | ({"env": variables} if variables else {})


def _is_ours(former: dict[str, Any]) -> bool:
    words = [former.get("command"), *(former.get("args") or [])]
    if any("wan-mcp" in word or "wan_mcp" in word for word in words if isinstance(word, str)):
        return True
    urls = [value for key in ("url", "httpUrl", "serverUrl") if isinstance(value := former.get(key), str)]
    return any(urlsplit(url).hostname in LOOPBACK for url in urls)


def _with_entry(host: Host, text: str, path: Sequence[str], former: Any, wanted: dict[str, Any]) -> str:
    """Set the entry; of a former one only the keys that differ, so that its other lines stay as they are."""
    if host.form == "toml" or not isinstance(former, dict) or "command" not in former:
        return _set(host, text, path, wanted)
    for key, value in wanted.items():
        if former.get(key) != value:
            text = _set(host, text, (*path, key), value)
    return text


def _set(host: Host, text: str, path: Sequence[str], value: Any) -> str:
    bom = BOM if text.startswith(BOM) else ""
    text = text.removeprefix(BOM)
    if host.form == "toml":
        return bom + toml_tables.with_table(text, path, value)
    return bom + (json_members.with_member(text if text.strip() else "{}\n", path, value))


def _edited(file: Path, change: Any, text: str, path: Sequence[str]) -> str:
    bom = BOM if text.startswith(BOM) else ""
    changed: str = change(text.removeprefix(BOM), path)
    return bom + changed


def _require(host: Host, text: str, expected: Any, file: Path) -> None:
    """Raise unless the text says what is expected: an unusual file stays as it is."""
    with suppress(HostFileUnusable):
        if _parsed(host, file, text) == expected:
            return
    raise HostFileUnusable(f"{file} is written in a way that wan-mcp cannot change safely")


def _pruned(value: dict[str, Any], place: Sequence[str]) -> dict[str, Any]:
    """Return the value without objects on the way to the entry that hold nothing."""
    value = copy.deepcopy(value)
    for depth in range(len(place), 0, -1):
        above = _at(value, place[: depth - 1])
        if isinstance(above, dict) and above.get(place[depth - 1]) == {}:
            del above[place[depth - 1]]
    return value


def _backed_up(file: Path) -> Path:
    try:
        with atomic_file(backup_of(file), durable=True) as copied:
            shutil.copy2(file, copied)
    except OSError as error:
        raise _unwritable(file, error) from error
    return backup_of(file)


def _replace(file: Path, before: str | None, after: str) -> None:
    try:
        with atomic_file(file, durable=True, replace=before is not None) as written:
            written.write_bytes(after.encode("utf-8"))
            if before is not None:
                shutil.copymode(file, written)
            if before is not None and not file.stat().st_mode & 0o200:
                raise PermissionError(13, "it may not be written")
            if _read(file) != before:
                raise HostFileUnusable(f"{file} was changed by another program just now; try again")
    except FileExistsError as error:
        raise HostFileUnusable(f"{file} was made by another program just now; try again") from error
    except OSError as error:
        raise _unwritable(file, error) from error


def _unwritable(file: Path, error: OSError) -> HostFileUnusable:
    why = "the disk is full" if is_disk_full(error) else (error.strerror or "the system refuses it")
    return HostFileUnusable(f"{file} cannot be written: {why}")
