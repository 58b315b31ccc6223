"""Pull every plug for as long as you like: kill engines and fronts, then look for lost jobs and half files.

    python -m benchmarks.soak                            # 1,500 jobs of light engines, 300 kills of every kind
    python -m benchmarks.soak --storm --kills 200        # the real engine, killed over its jobs

The first writes benchmarks/results/soak.json: kills of starters, of losers of the start race, of ready engines and of
fronts with different settings, the jobs that were wrongly failed or stuck (none may be), and the time to recover.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from benchmarks.records import keep
from devkit.storm import Storm
from devkit.upheaval import Upheaval
from wan_mcp.settings import Settings


def main() -> None:
    """Run a soak and print what came of it; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storm", action="store_true", help="kill the real engine over its jobs instead")
    parser.add_argument("--jobs", type=int, default=1500, help="of light engines")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the results; by default benchmarks/results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        if arguments.storm:
            settings = Settings(home=Path(home), engine_idle_s=5)
            storm = anyio.run(Storm(settings, arguments.kills, arguments.seed).rage)
            print(f"{storm.engine_kills} engines and {storm.front_kills} fronts killed, {len(storm.jobs)} jobs")  # noqa: T201
            faults = storm.faults
        else:
            report = Upheaval(Path(home), arguments.jobs, arguments.kills, arguments.seed).rage()
            row = report.as_row() | {"seed": arguments.seed}
            print(row)  # noqa: T201
            keep("soak", [row], **({"folder": arguments.out} if arguments.out else {}))
            faults = report.faults
    for fault in faults:
        print(f"FAULT: {fault}")  # noqa: T201
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
