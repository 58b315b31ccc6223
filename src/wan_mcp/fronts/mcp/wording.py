"""A job in words: its state, its files, and the next step with the id that it needs.

The same words are the text of a result and the `message` of its structure, because some hosts show their model only one
of the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wan_mcp.fronts.mcp.places import Places
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.service.describe import fraction_of, sentence, what_it_is
from wan_mcp.service.service import JobView
from wan_mcp.text import escaped, one_line

__all__ = ["Asked", "in_words"]

FOLLOW_S = 45
LINE_ENDS = "\n\t"  # a caption may have several lines
ENDS = {
    JobState.SUCCEEDED: "had already succeeded",
    JobState.FAILED: "had already failed",
    JobState.CANCELLED: "was already cancelled",
}


@dataclass(frozen=True)
class Asked:
    """What a call asked of a job, as far as its answer depends on it."""

    to_stop: bool = False
    had_ended: bool = False
    """True if the job had ended before the call."""
    preview: bool = False
    """True if a picture of the unfinished job was asked for."""
    to_keep: bool | None = None
    """Whether to keep it from now on; None if the call was about something else."""


def in_words(view: JobView, places: Places, asked: Asked) -> str:
    """Describe a job for the model that called: one fact a line, the next step at the end."""
    job = view.job
    lines = [*_state(view, asked)]
    if job.caption is not None:
        lines.append(f"Caption: {escaped(job.caption, keep=LINE_ENDS)}")
    lines += [_file(artifact, places) for artifact in job.artifacts]
    lines += [f"Note: {one_line(note)}." for note in (*job.plan.notes, *job.notes)]
    if job.plan.style is not None:
        lines.append(f"Style '{job.plan.style}' made the prompt: {one_line(job.plan.prompt)}")
    return "\n".join([*lines, *_next_step(job, places)])


def _state(view: JobView, asked: Asked) -> Iterable[str]:
    job = view.job
    if asked.to_stop and asked.had_ended:
        yield f"Job {job.id} {ENDS[job.state]}: there was nothing to stop."
    elif asked.to_stop and job.state in (JobState.SUCCEEDED, JobState.FAILED):
        yield f"Job {job.id} ended before it could be stopped."
    if asked.to_keep is not None:
        yield f"Job {job.id} is kept." if asked.to_keep else f"Job {job.id} may be deleted again."
    now = sentence(view)
    match job.state:
        case JobState.SUCCEEDED:
            yield f"Job {job.id} succeeded: {what_it_is(job)}."
        case JobState.FAILED:
            yield f"Job {job.id} failed ({job.error.code if job.error else 'unknown'}): {now}"
        case JobState.CANCELLED if not asked.to_stop or not asked.had_ended:
            yield f"Job {job.id} is cancelled."
        case JobState.QUEUED | JobState.RUNNING if not job.cancel_requested:
            done = f" {fraction_of(job):.0%} done." if fraction_of(job) >= 0.01 else ""
            words = now[0].lower() + now[1:]
            yield f"Job {job.id} is {words if job.state is JobState.QUEUED else f'running: {words}'}.{done}"


def _file(artifact: Artifact, places: Places) -> str:
    path = Path(artifact.path)
    also = [artifact.uri, f"seed {artifact.seed}"]
    if places.same_machine and (url := places.url_of(path)) is not None:
        also.insert(0, url)
    line = f"File: {places.best(path)} ({', '.join(also)})"
    if places.same_machine and artifact.saved_as is not None:
        line += f"; saved as {one_line(artifact.saved_as)}"
    sheet, _ = places.small_pictures(artifact)
    return line if sheet is None else f"{line}; its frames in one image: {places.best(sheet)}"


def _next_step(job: Job, places: Places) -> Iterable[str]:
    follow = f"get_job(job_id='{job.id}', wait_s={FOLLOW_S})"
    vary = f"remix(job_id='{job.id}', seed='new')"
    what = "path" if places.same_machine else "URL"
    give = f"Give the user the file's {what}." if len(job.artifacts) == 1 else f"Give the user the files' {what}s."
    match job.state:
        case JobState.SUCCEEDED if job.plan.kind is Kind.VIDEO:
            shows = "The image shows frames of the video in reading order."
            if len(job.artifacts) > 1:
                shows = "Each image shows frames of one video, with its number and seed above."
            yield f"{give} {shows} For a variation: {vary}. In words: caption_image(image='{_first(job)}')."
        case JobState.SUCCEEDED if job.plan.kind is Kind.IMAGE:
            yield f"{give} To animate it: generate_video(image='{_first(job)}', prompt=…). For a variation: {vary}."
        case JobState.SUCCEEDED:
            yield f"Give the user the caption. For another wording: {vary}. To picture it: generate_image(prompt=…)."
        case JobState.FAILED | JobState.CANCELLED:
            again = f"remix(job_id='{job.id}')"
            yield (
                f"It has ended and is not run again automatically. To try again: {again}, with changes if needed. "
                "Earlier jobs: list_jobs(query=…)."
            )
        case _ if job.cancel_requested:
            yield f"Job {job.id} is stopping; call get_job(job_id='{job.id}', wait_s=10) to see when it has stopped."
        case _:
            yield (
                f"It runs in the background: call {follow} for the result, cancel_job(job_id='{job.id}') to stop it."
            )


def _first(job: Job) -> str:
    return job.artifacts[0].uri if job.artifacts else ""
