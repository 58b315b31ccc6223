"""Pull every plug for as long as you like: kill engines and fronts, then look for lost jobs and half files.

python -m benchmarks.soak --kills 200
"""

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from devkit.storm import Storm
from wan_mcp.settings import Settings


def main() -> None:
    """Run a storm and print what came of it; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), engine_idle_s=5)
        report = anyio.run(Storm(settings, arguments.kills, arguments.seed).rage)
    print(f"{report.engine_kills} engines and {report.front_kills} fronts killed, {len(report.jobs)} jobs")  # noqa: T201
    for fault in report.faults:
        print(f"FAULT: {fault}")  # noqa: T201
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
