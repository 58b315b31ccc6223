"""A program: the runner under a limit of the process's memory; prints what became of each job, as JSON.

In a process of its own, because the limit is for the process and what hits it may end that.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path

import psutil
import torch

from tests.fixtures.bench import MANIFESTS, TWO, Bench, changed, image_plan
from tests.support import tiny_models as models
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.errors import JobFailed

ROOM = 300 * 1024 * 1024
"""Bytes: enough for the threads and buffers of a tiny job, not for one tensor of the large one."""
LARGE = 16384


def main() -> None:
    folder = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    models.save_two_experts(folder / "embedded" / TWO)
    (folder / "home").mkdir()
    bench = Bench(folder / "home", folder / "embedded")
    bench.runner._settings = bench.settings.model_copy(update={"precision": "fp8", "compile": False})
    bench.catalog.manifests[TWO] = changed(MANIFESTS[TWO], quantization=Quantization(recipe="fp8-rowwise"))

    def picture() -> bytes:
        return Path(bench.run(image_plan(TWO)).artifacts[0].path).read_bytes()

    before = picture()
    limit = psutil.Process().memory_info().vms + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    said: dict[str, bool | str] = {"fits again": picture() == before}
    try:
        bench.run(image_plan(TWO, width=LARGE, height=LARGE))
    except JobFailed as failure:
        said |= {"code": failure.code, "advice": str(failure)}
    said["same after"] = picture() == before
    print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
