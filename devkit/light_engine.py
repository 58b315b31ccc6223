"""A real engine except for its models: the true loop, lock and table, and a runner that only writes small files.

`python -m devkit.light_engine` is an engine without torch, for soaks that kill hundreds of them. Its settings come from
the environment, as those of `wan-mcp engine` do.
"""

import logging
import time

from PIL import Image

from wan_mcp.engine.worker.loop import run_engine
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import CaptionPlan, ImagePlan
from wan_mcp.settings import Settings

STEP_S = 0.01


class LightRunner:
    """Runs a plan in a few hundredths of a second."""

    def __init__(self, settings: Settings) -> None:
        self._media = MediaStore(settings.home)

    def machine(self) -> None:
        """Return nothing: it has no device."""

    def loaded(self) -> LoadedModels:
        """Return no models: it loads none."""
        return LoadedModels()

    def device_lost(self) -> bool:
        """Return false: it has no device to lose."""
        return False

    def needs_download(self, job: Job) -> bool:
        """Return false: it needs no weights."""
        return False

    def download(self, job: Job, report: Reporter) -> None:
        """Do nothing: it is never asked to."""

    def run(self, job: Job, report: Reporter) -> str | None:
        """Go through the stages of a plan, and write a small file for each result."""
        plan = job.plan
        report.enter(Stage.LOAD)
        if isinstance(plan, CaptionPlan):
            return "a picture"
        for item in range(1, plan.count + 1):
            report.enter(Stage.DENOISE, item=item)
            for step in range(plan.steps + 1):
                time.sleep(STEP_S)
                report.step(step, plan.steps)
            report.enter(Stage.WRITE, item=item)
            name = MediaName.of(job.id, item - 1, plan.kind)
            path = self._media.path(name)
            with whole(path) as temporary:
                if isinstance(plan, ImagePlan):
                    shade = (plan.seed % 256, 0, 128)
                    Image.new("RGB", (plan.width, plan.height), shade).save(temporary, "PNG")
                else:
                    temporary.write_bytes(f"{plan.prompt} {plan.seed}\n".encode() * 500)
            report.add(
                Artifact(
                    uri=name.uri,
                    mime_type=name.mime_type,
                    bytes=path.stat().st_size,
                    width=plan.width,
                    height=plan.height,
                    seed=plan.seed + item - 1,
                    path=str(path),
                )
            )
        return None

    def close(self) -> None:
        """Do nothing: it has no processes and no memory to free."""


def main() -> None:
    """Be an engine."""
    settings = Settings()
    logging.basicConfig(level=settings.log_level)
    run_engine(settings, LightRunner, lambda: ["cpu"])


if __name__ == "__main__":
    main()
