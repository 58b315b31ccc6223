"""What was measured, as rows and as a table: `python -m benchmarks.h200.table [h200.json]`.

`make docs` writes the table of the kept results into `docs/engine.md`.
"""

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["RESULT", "output_rows", "table"]

RESULT = Path(__file__).parents[1] / "results" / "h200.json"

EAGER, RECIPE, OURS, TURBO = "diffusers, bf16", "torchao FP8, compiled", "ours", "ours, turbo"
GOALS = {
    ("forward", "480x832x81", EAGER, OURS): 1.8,
    ("forward", "480x832x81", RECIPE, OURS): 1.3,
    ("forward", "720x1280x81", EAGER, OURS): 1.6,
    ("forward", "720x1280x81", RECIPE, OURS): 1.3,
    ("forward", "720x1280x81", EAGER, TURBO): 2.4,
    ("video, 4 steps", "480x832x81", EAGER, OURS): 1.8,
    ("video, 4 steps", "720x1280x81", EAGER, OURS): 1.6,
    ("VAE decode", "480x832x81", EAGER, OURS): 1.8,
    ("VAE decode", "720x1280x81", EAGER, OURS): 1.8,
    ("image, 8 steps", "720x1280x1", EAGER, OURS): 1.8,
}


def output_rows(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each of ours beside each baseline of the same row and shape."""
    found = {(each["row"], each["shape"], each["who"]): each["s"] for each in measured}
    return [
        {
            "row": row if who == OURS else f"{row}, turbo",
            "shape": shape,
            "baseline": baseline,
            "baseline_s": found[row, shape, baseline],
            "ours_s": seconds,
            "ratio": round(found[row, shape, baseline] / seconds, 3),
            "goal": GOALS.get((row, shape, baseline, who)),
        }
        for (row, shape, who), seconds in found.items()
        for baseline in (EAGER, RECIPE)
        if who in (OURS, TURBO) and (row, shape, baseline) in found
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    head = ["| what | height x width x frames | against | theirs | ours | ratio |", "|---|---|---|---|---|---|"]
    return "\n".join(head + [_line(row) for row in rows])


def _line(row: dict[str, Any]) -> str:
    start = f"| {row['row']} | {row['shape']} | {row['baseline']} "
    return f"{start}| {row['baseline_s']:.2f} s | {row['ours_s']:.2f} s | {row['ratio']:.2f} |"


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULT
    print(table(json.loads(file.read_text(encoding="utf-8"))["rows"]))  # noqa: T201
