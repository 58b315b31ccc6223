"""A real engine except for its models: the true loop, lock, table and meetings, and a runner that writes small files.

`python -m devkit.light_engine` is an engine without torch, for soaks that kill hundreds of them. Its settings come from
the environment, as those of `wan-mcp engine` do. It has each device that it is asked for. Its ranks of a shared job
wait for each other at every step, through files instead of a process group.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from wan_mcp.engine.worker.bare_runner import BareRunner
from wan_mcp.engine.worker.loop import run_engine
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import RankLost
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, Plan, VideoPlan
from wan_mcp.settings import Settings

__all__ = ["AUTO_DEVICES"]

STEP_S = 0.01
LOAD_S = 0.1
RANK_PATIENCE_S = 3.0
LOOK_S = 0.002
AUTO_DEVICES = ("cuda:0", "cuda:1", "cuda:2")
"""What the setting auto means to it."""


class LightRunner(BareRunner):
    """Runs a plan in a few hundredths of a second."""

    def __init__(self, settings: Settings) -> None:
        self._media = MediaStore(settings.home)
        self._precision = settings.precision
        self._loaded = LoadedModels()

    def loaded(self) -> LoadedModels:
        """Return the models that it would have in memory."""
        return self._loaded

    def run(self, job: Job, report: Reporter) -> str | None:
        """Go through the stages of a plan, and write a small file for each result."""
        return self._run(job, report, lambda step: None)

    def most_ranks(self, job: Job, most: int) -> int:
        """Return `most` for a video whose model it has."""
        shares = isinstance(job.plan, VideoPlan) and self._loaded.has(job.plan, self._precision)
        return most if shares else 1

    def run_shared(self, job: Job, report: Reporter, folder: Path, ranks: int) -> str | None:
        """Run a job whose steps all ranks do together.

        Raises:
            RankLost: another rank is silent.
        """
        return self._run(job, report, lambda step: _meet(folder, 0, ranks, step))

    def help(self, job: Job, folder: Path, rank: int, ranks: int, check: Callable[[], None]) -> None:
        """Do all steps of a job with the other ranks.

        Raises:
            RankLost: another rank is silent.
        """
        assert not isinstance(job.plan, CaptionPlan)
        for step in range(job.plan.count * (job.plan.steps + 1)):
            check()
            _meet(folder, rank, ranks, step)

    def load_ahead(self, job: Job, check: Callable[[], None]) -> None:
        """Have the model of a job that another engine runs."""
        check()
        self._load(job.plan)

    def _load(self, plan: Plan) -> None:
        if not self._loaded.has(plan, self._precision):
            time.sleep(LOAD_S)
            self._loaded = self._loaded.after(plan, self._precision)

    def _run(self, job: Job, report: Reporter, meet: Callable[[int], None]) -> str | None:
        plan = job.plan
        report.enter(Stage.LOAD)
        self._load(plan)
        if isinstance(plan, CaptionPlan):
            return "a picture"
        for item in range(1, plan.count + 1):
            report.enter(Stage.DENOISE, item=item)
            for step in range(plan.steps + 1):
                time.sleep(STEP_S)
                meet((item - 1) * (plan.steps + 1) + step)
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


def _meet(folder: Path, rank: int, ranks: int, step: int) -> None:
    """Wait until all ranks have come to a step."""
    until = time.monotonic() + RANK_PATIENCE_S
    try:
        (folder / f"step-{step}-{rank}").touch()
    except OSError as error:
        raise RankLost("the meeting is over") from error
    while not all((folder / f"step-{step}-{each}").exists() for each in range(ranks)):
        if time.monotonic() > until:
            raise RankLost(f"a rank did not come to step {step}")
        if not folder.is_dir():
            if step and rank:  # the first has had all it needs, and has closed the meeting
                return
            raise RankLost("the meeting is over")
        time.sleep(LOOK_S)


def main() -> None:
    """Be an engine."""
    settings = Settings()
    logging.basicConfig(level=settings.log_level)
    run_engine(settings, LightRunner, lambda: AUTO_DEVICES)


if __name__ == "__main__":
    main()
