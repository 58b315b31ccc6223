"""One job on several GPUs against one GPU, both in one run, on random weights of Wan2.2 A14B.

    python -m benchmarks.parallel                     # on a host with two or more GPUs
    python -m benchmarks.parallel --ranks 4           # on four of them
    python -m benchmarks.parallel --only forwards     # one section; see `sections.py`
    python -m benchmarks.parallel --tiny              # the same script on the CPU, with gloo

Each rank is a process. A section that fails is noted, and the next one runs. Results are written as they are found, to
benchmarks/results/parallel.json unless --out says otherwise; --tiny writes only where --out is given.
"""

import argparse
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.h200.measuring import Sheet
from benchmarks.parallel.model import RandomModel
from benchmarks.parallel.sections import SECTIONS
from benchmarks.records import RESULTS
from devkit.machine import hardware, versions
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.parallel.rank_group import joined_ranks

TIME_LIMIT = timedelta(minutes=3)
"""Of a collective: ranks wait while the first one runs a whole job alone."""


def be_rank(options: argparse.Namespace) -> None:
    """Measure all sections as one of the ranks."""
    on_gpu = torch.cuda.is_available() and not options.tiny
    device = resolve_device(f"cuda:{options.rank}" if on_gpu else "cpu", threads=0 if on_gpu else 1)
    folder: Path = options.folder
    home = folder / f"home{options.rank}"
    home.mkdir()
    first = options.rank == 0
    sheet = Sheet(options.out if first else folder / f"rank{options.rank}.json")
    sheet.fact("hardware", f"{options.ranks} x {hardware(device.torch)}")
    sheet.fact("versions", versions() | {"cuda": str(torch.version.cuda), "nccl": _nccl() if on_gpu else "none"})
    model = RandomModel(device, home, tiny=options.tiny)
    for name, section in SECTIONS.items():
        if options.only and name not in options.only:
            continue
        meeting = folder / name
        meeting.mkdir(exist_ok=True)
        joined = joined_ranks(meeting, options.rank, options.ranks, device.torch, TIME_LIMIT.total_seconds())
        with sheet.part(name), joined as group:
            section(sheet, group, model)


def _nccl() -> str:
    return ".".join(map(str, torch.cuda.nccl.version()))


def main() -> None:
    """Start the ranks and wait for them, or be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, help="how many GPUs; all of the host, or two processes if tiny")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        be_rank(options)
        return
    ranks = options.ranks or (2 if options.tiny else torch.cuda.device_count())
    if ranks < 2:
        parser.error("this compares several GPUs with one: there is only one here")
    with TemporaryDirectory() as folder:
        out = options.out or (Path(folder) / "parallel.json" if options.tiny else RESULTS / "parallel.json")
        command = [sys.executable, "-m", "benchmarks.parallel", *sys.argv[1:], "--folder", folder]
        command += ["--ranks", str(ranks), "--out", str(out)]
        processes = [
            subprocess.Popen([*command, "--rank", str(rank)], env=os.environ | {"NCCL_NVLS_ENABLE": "0"})
            for rank in range(ranks)
        ]
        codes = [process.wait() for process in processes]
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
