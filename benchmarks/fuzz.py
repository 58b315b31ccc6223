"""Send odd images and odd calls for as long as you like, and look for what is not answered in words.

python -m benchmarks.fuzz --images 100000 --calls 5000 --seed 1
"""

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from devkit.fuzz import fuzz_calls, fuzz_images
from wan_mcp.settings import Settings


def main() -> None:
    """Fuzz, and print the faults; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megapixels", type=float, default=50, help="limit of images; the front's own is 50")
    arguments = parser.parse_args()
    faults = fuzz_images(arguments.images, arguments.seed, arguments.megapixels)
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), image_dirs=(), engine_idle_s=5)
        faults += anyio.run(fuzz_calls, settings, arguments.calls, arguments.seed)
    print(f"{arguments.images} images and {arguments.calls} calls, {len(faults)} faults")  # noqa: T201
    for fault in faults:
        print(f"FAULT: {fault}")  # noqa: T201
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
