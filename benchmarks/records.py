"""Where the results of benchmarks are kept."""

import json
from pathlib import Path
from typing import Any

from devkit.machine import describe

__all__ = ["RESULTS", "keep"]

RESULTS = Path(__file__).parent / "results"


def keep(name: str, rows: list[dict[str, Any]], folder: Path = RESULTS) -> Path:
    """Write the rows of a benchmark, with the machine that they were measured on, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=2) + "\n", encoding="utf-8")
    return file
