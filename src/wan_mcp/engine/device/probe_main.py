"""Say what torch knows about devices: `python -m wan_mcp.engine.device.probe_main SETTING`, one line of JSON.

`wan-mcp doctor` runs it. If an import fails, the last line of the traceback says what is wrong.
"""

import json
import sys
from typing import Any

import diffusers
import torch
import transformers

from wan_mcp.engine.device.device import auto_devices
from wan_mcp.jobs.devices import named
from wan_mcp.text import first_line

NOTHING_KNOWN: dict[str, Any] = {"name": None, "memory": None, "free": None, "fault": None}


def facts(setting: str) -> dict[str, Any]:
    """Return the versions, and what can be said about each device without using it for long."""
    return {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "for_gpus": torch.version.cuda is not None or torch.version.hip is not None,
        "mps": torch.backends.mps.is_available(),
        "gpus": torch.cuda.device_count(),
        "devices": {name: NOTHING_KNOWN | _of_gpu(name) for name in named(setting) or auto_devices()},
    }


def _of_gpu(name: str) -> dict[str, Any]:
    """Return what is known about a GPU, after a computation on it; the fault if it cannot compute."""
    try:
        torch.cuda.init()  # says why torch sees none
        index = int(name.partition(":")[2] or 0)
        if name == "cpu" or index >= torch.cuda.device_count():
            return {}
        device = torch.device("cuda", index)
        known: dict[str, Any] = {"name": torch.cuda.get_device_name(device)}
    except (AssertionError, RuntimeError) as error:
        return {"fault": first_line(error)}
    try:
        free, total = torch.cuda.mem_get_info(device)
        known |= {"memory": total, "free": free}
        ones = torch.ones(64, 64, device=device)
        torch.cuda.synchronize(device)
        if (ones @ ones).sum().item() != 64**3:
            known["fault"] = "it computes wrong sums"
    except RuntimeError as error:
        known["fault"] = first_line(error)
    return known


if __name__ == "__main__":
    print(json.dumps(facts(sys.argv[1])))  # noqa: T201
