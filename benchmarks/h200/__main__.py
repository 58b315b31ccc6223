"""Measure everything: `python -m benchmarks.h200 [--gpus 0,1,2,3] [--only SECTION,…] [--tiny]`.

Each section is a process of its own; with several GPUs they run side by side, one to a GPU, but for the last: how long
a package takes to build is measured with nothing beside it. Results are gathered into one file every few seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.h200.table import output_rows
from benchmarks.records import RESULTS
from devkit.machine import describe

LIMIT_S = 560
ALONE = "package"
LOOK_S = 2.0


def sections(weights: Path, home: Path, transcript: Path) -> dict[str, list[str]]:
    """The sections by name, longest first and `ALONE` last: module and arguments."""
    return {
        "engine": ["engine", "--weights", str(weights), "--home", str(home), "--transcript", str(transcript)],
        "forwards": ["forwards"],
        "plain": ["plain"],
        "seed": ["seed"],
        "wan-mini": ["wan_mini"],
        "autoencoder": ["plain", "--autoencoder"],
        "exactness": ["forwards", "--exactness"],
        ALONE: ["forwards", "--package"],
    }


def gathered(work: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """All that the sections have measured by now."""
    parts = {}
    for file in sorted(work.glob("*.json")):
        try:
            parts[file.stem] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:  # half written
            continue
    facts = {name: part["facts"] for name, part in parts.items()}
    errors = [{"section": name} | error for name, part in parts.items() for error in part["errors"]]
    measured = [{"section": name} | each for name, part in parts.items() for each in part["measured"]]
    return {"hardware": machine, "rows": output_rows(measured), "measured": measured, "facts": facts, "errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "h200.json")
    parser.add_argument("--gpus", default="0", help="numbers of the GPUs to use, with commas between")
    parser.add_argument("--weights", type=Path, help="folder for 40 GB of weights, e.g. on a disk in memory")
    parser.add_argument("--home", type=Path, help="folder for the server's home, with 30 GB of converted weights")
    parser.add_argument("--only", default="", help="sections, with commas between")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    work = Path(mkdtemp(prefix="h200-"))
    machine = describe() | {"gpus": _gpus()}
    scratch = Path(mkdtemp(prefix="h200-files-"))
    weights, home = options.weights or scratch / "weights", options.home or scratch / "home"
    every = sections(weights, home, options.out.parent / "h200_server.md")
    chosen = options.only.split(",") if options.only else list(every)
    waiting, running, began = deque(chosen), dict[str, tuple[str, subprocess.Popen[bytes]]](), time.monotonic()
    while waiting or running:
        for gpu in options.gpus.split(","):
            if waiting and gpu not in running and not (waiting[0] == ALONE and running):
                name = waiting.popleft()
                running[gpu] = (name, _start(every[name], work / f"{name}.json", gpu, options.tiny))
        for gpu, (name, process) in list(running.items()):
            late = time.monotonic() - began > options.limit_s
            if process.poll() is not None or late:
                if late:
                    process.terminate()
                print(f"{name}: done after {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
                del running[gpu]
        if time.monotonic() - began > options.limit_s:
            waiting.clear()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(gathered(work, machine), indent=1) + "\n", encoding="utf-8")
        time.sleep(LOOK_S)


def _start(arguments: list[str], out: Path, gpu: str, tiny: bool) -> "subprocess.Popen[bytes]":
    module, *more = arguments
    command = [sys.executable, "-m", f"benchmarks.h200.{module}", "--out", str(out), *more]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": gpu}
    return subprocess.Popen(command + (["--tiny"] if tiny else []), env=environment)


def _gpus() -> list[str]:
    import torch

    versions = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return [f"{torch.cuda.get_device_name(n)}, {versions}" for n in range(torch.cuda.device_count())]


if __name__ == "__main__":
    main()
