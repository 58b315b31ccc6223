"""Run plans with plain diffusers: `python -m wan_mcp.engine.families.plain_main FACTS`, a file of JSON.

`wan-mcp bench` runs it while it holds the device's lock. Each line of standard output is a JSON object: how the model
is placed, then the seconds of each finished result, or why there is none. Results go to the folder of FACTS, as files
like those of jobs.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import TypeAdapter

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.engine.aot.child_process import exit_with_parent
from wan_mcp.engine.components.install import already_installed
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.device.out_of_memory import is_out_of_memory
from wan_mcp.engine.families.protocol import LoadContext, unsupported
from wan_mcp.engine.imports import library_imports
from wan_mcp.errors import WanError
from wan_mcp.logs import log_to_stderr
from wan_mcp.media.images import write_image
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.plans import ImagePlan, Plan, VideoPlan
from wan_mcp.settings import Settings
from wan_mcp.text import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("wan_mcp.engine.families.plain_main")  # it runs as `__main__`

PLANS: TypeAdapter[list[Plan]] = TypeAdapter(list[Plan])


def say(**facts: Any) -> None:
    """Print one line for the parent."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def load(context: LoadContext, plan: Plan) -> tuple[Any, str, Callable[[Any], dict[str, Any]]]:
    """Return what the module `plain` of the model's family returns.

    Raises:
        JobFailed: no pipeline of diffusers runs the plan, or the weights cannot be read.
    """
    family = context.manifest.pipeline.family
    with library_imports():
        import diffusers
        import transformers

        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        from wan_mcp.engine.families.image.plain import load_plain_image_model
        from wan_mcp.engine.families.wan.plain import load_plain_wan
    if family == "wan" and isinstance(plan, VideoPlan | ImagePlan):
        return load_plain_wan(context, plan)
    if isinstance(plan, ImagePlan):
        return load_plain_image_model(context, plan)
    raise unsupported(plan)


def write(pixels: "NDArray[np.uint8]", plan: VideoPlan | ImagePlan, name: MediaName, media: MediaStore) -> Path:
    """Write a result [frames, height, width, 3] as a job would, and return its file."""
    path = media.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(plan, VideoPlan):
        write_image(media, name, pixels[0], {}, plan.seed)
        return path
    writer = VideoWriter(media, name, (plan.width, plan.height), len(pixels), plan.fps, {})
    try:
        writer.add(pixels)
    except BaseException:
        writer.abandon()
        raise
    writer.finish(plan.seed)
    return path


def run(facts: dict[str, Any]) -> None:
    """Load the model, and make the result of each plan; a new one only begins if the last would have fitted in time."""
    until, settings, plans = time.monotonic() + facts["seconds"], Settings(), PLANS.validate_python(facts["plans"])
    device: Device = resolve_device(facts["device"], settings.threads)
    manifest = Catalog.of(settings.home).get(plans[0].model)
    weights = already_installed(manifest, settings, lambda: None)
    pipeline, placement, arguments = load(LoadContext(manifest, weights, device, "full", settings), plans[0])
    pipeline.set_progress_bar_config(disable=True)
    say(placement=placement, device=device.description, precision=device.precision, cuda=torch.version.cuda)
    media, last = MediaStore(Path(facts["folder"])), 0.0
    for number, plan in enumerate(plans):
        if isinstance(plan, VideoPlan | ImagePlan) and time.monotonic() + last < until:
            began = time.monotonic()
            generator = torch.Generator("cpu").manual_seed(plan.seed)
            with torch.no_grad():
                made = pipeline(**arguments(plan), generator=generator, output_type="np", return_dict=False)[0]
            made = np.asarray(made, np.float32)
            pixels: NDArray[np.uint8] = ((made[0] if made.ndim == 5 else made) * 255).round().astype(np.uint8)
            file = write(pixels, plan, MediaName.of(facts["job_id"], number, plan.kind), media)
            last = time.monotonic() - began
            say(number=number, seconds=last, file=str(file))


def main(file: str) -> None:
    """Run what the file asks for; whatever goes wrong is said to the parent."""
    exit_with_parent()
    log_to_stderr("WARNING")
    try:
        run(json.loads(Path(file).read_text(encoding="utf-8")))
    except WanError as error:
        say(error=str(error))
    except Exception as error:  # libraries raise anything, and it is the result of the comparison
        if not is_out_of_memory(error):
            log.exception("plain diffusers failed")
        say(error="it ran out of memory" if is_out_of_memory(error) else first_line(error))


if __name__ == "__main__":
    main(sys.argv[1])
