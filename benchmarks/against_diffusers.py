"""`wan-mcp bench` on this machine, for the results that the documentation shows.

    python -m benchmarks.against_diffusers            # wan-mini with quality, and TI2V-5B with random weights
    python -m benchmarks.against_diffusers --tiny     # the same script in a minute, on any CPU

The command itself runs, in a home that is removed afterwards. Random weights have the real size and the real times, but
show nothing, so their results are not compared. Writes `benchmarks/results/bench/MODEL-DEVICE.json`; `make docs` makes
the table of docs/gpu.md of all files there.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.real_weights import lock_weights, write_ti2v_5b
from benchmarks.records import RESULTS
from wan_mcp.catalog.catalog import Catalog, shipped_folder

SMALL, LARGE = "wan-mini", "wan2.2-ti2v-5b"
TINY = ("--frames", "5", "--steps", "2", "--runs", "2")


def run(model: str, home: Path, folder: Path, *options: str, note: str | None = None) -> None:
    """Run the command for a model, and keep its report under the device's name."""
    report = home / "report.json"
    command = [sys.executable, "-m", "wan_mcp", "bench", model, *options, "-o", str(report), "--force"]
    code = subprocess.run(command, env=os.environ | {"WAN_MCP_HOME": str(home)}, check=False).returncode
    if not report.exists():
        raise SystemExit(f"{model}: nothing was measured, exit code {code}; the log is above")
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    if note is not None:
        found["note"] = note
    device = re.sub(r"[^a-z0-9]+", "-", (found["hardware"]["device"] or "unknown").partition(",")[0].lower())
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{model}-{device}.json"
    file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny weights and few steps")
    parser.add_argument("--models", nargs="+", choices=[SMALL, LARGE], default=[SMALL, LARGE])
    parser.add_argument("--steps", default="8", help=f"of {LARGE}")
    parser.add_argument("--minutes", default="5", help=f"of {LARGE}")
    parser.add_argument("--out", type=Path, default=RESULTS / "bench")
    options = parser.parse_args()
    with TemporaryDirectory() as root:
        home = Path(root) / "home"
        home.mkdir()
        if SMALL in options.models:
            run(SMALL, home, options.out, "--quality", *(TINY if options.tiny else ("--runs", "8", "--minutes", "3")))
        if LARGE in options.models:
            folder = Path(root) / "snapshot"
            write_ti2v_5b(folder, tiny=options.tiny)
            lock_weights(Catalog(shipped_folder()).get(LARGE), folder, home)
            much = ("--steps", options.steps, "--runs", "3", "--minutes", options.minutes)
            few = (*TINY, "--resolution", "480p-landscape")
            run(LARGE, home, options.out, *(few if options.tiny else much), note="random weights")


if __name__ == "__main__":
    main()
