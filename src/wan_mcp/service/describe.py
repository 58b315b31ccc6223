"""Descriptions of jobs: the same sentence in results, progress notifications and lists."""

from wan_mcp.schema.enums import JobState, Kind, Stage
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import Plan, VideoPlan
from wan_mcp.service.service import JobView
from wan_mcp.text import duration, one_line, time_left

__all__ = ["fraction_of", "sentence", "stage_of", "what_it_is", "what_it_makes"]


def fraction_of(job: Job) -> float:
    """Return the finished share of a job, 0…1."""
    if job.state is JobState.SUCCEEDED:
        return 1.0
    return job.progress.fraction if job.progress else 0.0


def stage_of(job: Job) -> str | None:
    """Return the stage that a job's last report names, in the words of its kind: captioners do not denoise."""
    if job.progress is None:
        return None
    captions = job.plan.kind is Kind.CAPTION and job.progress.stage is Stage.DENOISE
    return "captioning" if captions else str(job.progress.stage)


def what_it_is(job: Job) -> str:
    """Describe what a job makes: `2 videos 128x128, 17 frames at 8 fps (2.125 s)`."""
    return what_it_makes(job.plan)


def what_it_makes(plan: Plan) -> str:
    """Describe what a job of this plan makes."""
    made = f"{plan.count} {plan.kind}s" if plan.count > 1 else str(plan.kind)
    if plan.shape is not None:
        made += f" {plan.shape.width}x{plan.shape.height}"
    if isinstance(plan, VideoPlan):
        made += f", {plan.total_frames} frames at {plan.fps:g} fps ({plan.duration_s:g} s)"
    return made


def sentence(view: JobView) -> str:
    """Describe a job's state in one sentence."""
    job = view.job
    match job.state:
        case JobState.QUEUED:
            ahead = (view.queue_position or 1) - 1
            again = " again, because its engine died" if job.crashes else ""
            place = "next to run" if ahead == 0 else f"{ahead} job{'s' if ahead > 1 else ''} ahead"
            waits = "" if view.hindrance is None else f"; it waits because {view.hindrance}"
            return f"Queued{again}: {place}{time_left(view.eta_s)}{waits}"
        case JobState.RUNNING if job.cancel_requested:
            return "Stopping after the current step"
        case JobState.RUNNING:
            return f"{_stage(job)}{time_left(view.eta_s)}"
        case JobState.SUCCEEDED:
            return f"Done in {duration((job.finished_at or 0.0) - (job.started_at or 0.0))}"
        case JobState.FAILED:
            return one_line(job.error.message) if job.error else "Failed"
        case JobState.CANCELLED:
            return "Cancelled"


def _stage(job: Job) -> str:
    progress, stage = job.progress, stage_of(job)
    if progress is None or stage is None:
        return "Starting"
    text = stage.capitalize()
    if progress.step is not None:
        text += f" step {progress.step}/{progress.steps}"
    if progress.items > 1:
        text += f", result {progress.item} of {progress.items}"
    if progress.detail:
        text += f" ({one_line(progress.detail)})"
    return text
