"""What a stage writes down: losses over time, how long it took, on what, with which versions."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from devkit.machine import hardware, versions


class Report:
    """`<out>/<stage>.json`, rewritten at every entry so that a run cut short still leaves its numbers."""

    def __init__(self, out: Path, stage: str, device: torch.device) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / f"{stage}.json"
        self._begin = time.monotonic()
        self._content: dict[str, Any] = {
            "stage": stage,
            "hardware": hardware(device),
            "versions": versions(),
            "losses": [],
            "notes": [],
        }

    def add(self, **values: "float | str") -> None:
        entry = {name: value if isinstance(value, str) else round(value, 5) for name, value in values.items()}
        self._content["losses"].append({"seconds": self._seconds(), **entry})
        print(self._content["stage"], self._content["losses"][-1], file=sys.stderr, flush=True)  # noqa: T201
        self._write()

    def note(self, text: str) -> None:
        self._content["notes"].append(text)
        print(self._content["stage"], text, file=sys.stderr, flush=True)  # noqa: T201
        self._write()

    def finish(self, **results: Any) -> None:
        self._content |= {"seconds": self._seconds(), "results": results}
        print(self._content["stage"], "finished", self._seconds(), "s", results, file=sys.stderr, flush=True)  # noqa: T201
        self._write()

    def _seconds(self) -> float:
        return round(time.monotonic() - self._begin, 1)

    def _write(self) -> None:
        self._path.write_text(json.dumps(self._content, indent=1))
