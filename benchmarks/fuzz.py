"""Send odd images, calls, lines and rows for as long as you like, and look for what is not answered in words.

    python -m benchmarks.fuzz --images 100000 --calls 5000 --lines 100000 --rows 20000 --seed 1

`tests/faults/test_fuzz.py` does some seconds of each, and in CI a minute.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from devkit.fuzz import fuzz_calls, fuzz_images, fuzz_lines
from devkit.fuzz_rows import fuzz_rows
from wan_mcp.settings import Settings


def main() -> None:
    """Fuzz, and print the faults; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megapixels", type=float, default=50, help="limit of images; the front's own is 50")
    arguments = parser.parse_args()
    seed = arguments.seed
    faults = fuzz_images(arguments.images, seed, arguments.megapixels)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "calls", image_dirs=(), engine_idle_s=5)
        faults += anyio.run(fuzz_calls, settings, arguments.calls, seed)
        faults += fuzz_lines(settings.model_copy(update={"home": Path(folder) / "lines"}), arguments.lines, seed)
        of_rows = settings.model_copy(update={"home": Path(folder) / "rows", "device": "cpu"})
        faults += anyio.run(fuzz_rows, of_rows, arguments.rows, seed)
    counts = ", ".join(f"{getattr(arguments, what)} {what}" for what in ("images", "calls", "lines", "rows"))
    print(f"{counts}: {len(faults)} faults")  # noqa: T201
    for fault in faults:
        print(f"FAULT: {fault}")  # noqa: T201
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
