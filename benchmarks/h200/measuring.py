"""Taking times, and writing each down at once: a run that is cut short keeps what it had."""

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

__all__ = ["Sheet", "run_section", "seconds"]


class Sheet:
    """What one section measured, in a file of its own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._content: dict[str, Any] = {"measured": [], "facts": {}, "errors": []}
        self._write()

    def measured(self, row: str, shape: str, who: str, taken: list[float], **more: Any) -> None:
        """The seconds of one row for one contender."""
        self._content["measured"].append(
            {"row": row, "shape": shape, "who": who, "s": round(statistics.median(taken), 5)}
            | {"all_s": [round(each, 5) for each in taken]}
            | more
        )
        print(row, shape, who, self._content["measured"][-1]["s"], file=sys.stderr, flush=True)  # noqa: T201
        self._write()

    def fact(self, name: str, value: Any) -> None:
        """Whatever else is worth knowing."""
        self._content["facts"][name] = value
        print(name, str(value)[:200], file=sys.stderr, flush=True)  # noqa: T201
        self._write()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of a section, which may fail without taking the others along."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._content["errors"].append(
                {
                    "part": name,
                    "error": f"{type(error).__name__}: {error}"[:500],
                    "trace": traceback.format_exc()[-2500:],
                }
            )
            print(f"{name} failed: {error}"[:300], file=sys.stderr, flush=True)  # noqa: T201
        self._content["facts"][f"seconds of {name}"] = round(time.perf_counter() - began, 1)
        self._write()

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self._content, indent=1), encoding="utf-8")


def run_section(about: str | None, parts: Mapping[str, Callable[[Sheet, bool], None]]) -> None:
    """Be a section's command line: measure its first part, or that of a flag like --exactness; tiny or not."""
    first, *others = parts
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    for name in others:
        parser.add_argument(f"--{name}", dest="part", action="store_const", const=name, help=f"only the {name}")
    parser.set_defaults(part=first)
    options = parser.parse_args()
    sheet = Sheet(options.out)
    with sheet.part(options.part):
        parts[options.part](sheet, options.tiny)


def seconds(call: Callable[[], Any], times: int, warm_up: int = 1) -> list[float]:
    """How long `call` takes on the device, each of `times`."""
    with torch.no_grad():
        return _seconds(call, times, warm_up)


def _seconds(call: Callable[[], Any], times: int, warm_up: int) -> list[float]:
    taken = []
    for number in range(warm_up + times):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm_up:
            taken.append(time.perf_counter() - began)
    return taken
