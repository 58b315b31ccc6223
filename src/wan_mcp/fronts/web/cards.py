"""A job as the page shows it."""

from pathlib import Path
from typing import Any

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.memory_fit import smaller_sizes
from wan_mcp.errors import BadRequest
from wan_mcp.fronts.web.answers import MAKE_ROOM
from wan_mcp.fronts.web.shapes import Action, FileFormat, JobCard, JobDetail, Problem, ResultFile
from wan_mcp.media.store import CONVERSIONS, MediaName, MediaStore
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.service.admission import frame_of
from wan_mcp.service.describe import fraction_of, sentence, stage_of, what_it_is
from wan_mcp.service.elsewhere import may_be_named
from wan_mcp.service.queue import JobView
from wan_mcp.service.repeatable_request import repeatable_request
from wan_mcp.service.retention import expires_at
from wan_mcp.settings import Settings

__all__ = ["Cards", "input_url"]

TO_DOWNLOAD = ("model_not_local", "download_needs_consent", "hub_unreachable", "hub_rate_limited")
TOO_LARGE = ("out_of_memory", "too_large_for_device")
DISK_FULL = ("out_of_space", "write_failed")
ASKS_FOR_OTHERS = (
    "too_large_for_device",
    "bad_numbers",
    "input_missing",
    "last_image",
    "lora_broken",
    "lora_missing",
    "lora_unfit",
    "not_supported",
    "unknown_model",
)
"""The same request would fail again."""


def input_url(picture: str) -> str:
    """Return the address of an ingested picture, by its id."""
    return f"/api/inputs/{picture}"


class Cards:
    """Makes cards of jobs. Reads the media folder."""

    def __init__(self, media: MediaStore, catalog: Catalog, settings: Settings) -> None:
        self._media, self._catalog, self._settings = media, catalog, settings

    def card(self, view: JobView) -> JobCard:
        """Return a job as a card shows it."""
        return JobCard(**self._facts(view))

    def detail(self, view: JobView, *, near: bool) -> JobDetail:
        """Return a job with what would make it again; for a page elsewhere, without pictures that are not results."""
        plan = view.job.plan
        manifest = self._catalog.manifests.get(plan.model)
        request = repeatable_request(plan, manifest, self._media.home)
        receipt = plan.model_dump(mode="json", exclude={"tokens", "even_at"}, exclude_none=True)
        withheld = []
        for name, image in plan.images.items():
            if name not in request or may_be_named(request[name]):
                continue
            request.pop(frame_of(name), None)
            if near:  # by its hash, as the composer names pictures
                request[name] = image.sha256
            else:
                del request[name]
                receipt[name] = {"width": image.width, "height": image.height}
                withheld.append(name)
        return JobDetail(
            **self._facts(view), request={"kind": plan.kind.value, **request}, receipt=receipt, withheld=withheld
        )

    def _facts(self, view: JobView) -> dict[str, Any]:
        job, plan = view.job, view.job.plan
        progress = job.progress
        shows_stage = job.state in (JobState.RUNNING, JobState.FAILED) and progress is not None
        return {
            "id": job.id,
            "kind": plan.kind,
            "task": plan.task,
            "model": plan.model,
            "state": job.state,
            "client": job.client,
            "owner": job.owner,
            "kept": job.kept,
            "parent": job.parent,
            "prompt": plan.prompt if plan.kind is Kind.CAPTION else plan.prompt_asked,
            "what": what_it_is(job),
            "sentence": sentence(view),
            "stage": stage_of(job) if shows_stage else None,
            "step": progress.step if progress and shows_stage else None,
            "steps": progress.steps if progress and shows_stage else None,
            "item": progress.item if progress else 1,
            "items": progress.items if progress else plan.runs,
            "fraction": fraction_of(job),
            "eta_s": _eta(view),
            "at": job.updated_at if job.state is JobState.RUNNING else None,
            "detail": progress.detail if progress and shows_stage else "",
            "queue_position": view.queue_position,
            "hindrance": view.hindrance,
            "cancel_requested": job.cancel_requested,
            "crashes": job.crashes,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "expires_at": expires_at(job, self._settings),
            "width": plan.shape.width if plan.shape else None,
            "height": plan.shape.height if plan.shape else None,
            "seed": plan.seed,
            "count": plan.count,
            "images": [input_url(image.sha256) for image in plan.images.values()],
            "results": [self._file(artifact) for artifact in job.artifacts],
            "caption": job.caption,
            "notes": [*plan.notes, *job.notes],
            "problem": self._problem(job),
        }

    def _file(self, artifact: Artifact) -> ResultFile:
        sheet = poster = None
        formats: list[FileFormat] = []
        try:
            name = MediaName.parse(artifact.uri)
        except BadRequest:
            path, url = Path(artifact.path), ""
        else:
            path = self._media.path(name)
            url = _url(path)
            formats = _formats(path, name.kind)
            if name.kind is Kind.VIDEO:
                sheet, poster = (
                    _url(each) if each.is_file() else None
                    for each in (self._media.sheet(name), self._media.poster(name))
                )
        return ResultFile(
            **artifact.model_dump(exclude={"path", "check"}),  # what a check found is a note of the job
            path=str(path),
            url=url,
            formats=formats,
            sheet_url=sheet,
            poster_url=poster,
        )

    def _problem(self, job: Job) -> Problem | None:
        if job.state is not JobState.FAILED:
            return None
        if job.error is None:
            return Problem(error="The job failed, and nothing says why.", code="unknown")
        return Problem(error=job.error.message, code=job.error.code, action=self._action(job, job.error.code))

    def _action(self, job: Job, code: str) -> Action | None:
        """Return the one button that helps after this failure."""
        plan = job.plan
        manifest = self._catalog.manifests.get(plan.model)
        if code in TOO_LARGE and manifest is not None and plan.shape is not None:
            sizes = smaller_sizes(manifest, plan.shape)
            for name, frames in sizes.items():
                values: dict[str, Any] = {"resolution": name}
                if isinstance(plan, VideoPlan) and frames < plan.num_frames:
                    values["num_frames"] = frames
                return Action(do="change", label=f"Try {name}", model=plan.model, values=values)
        if code in TO_DOWNLOAD:
            return Action(do="get_model", label="Get the model", model=plan.model)
        if code in DISK_FULL:
            return MAKE_ROOM
        if code in ASKS_FOR_OTHERS:
            return Action(do="remix", label="Change its settings")
        return Action(do="retry", label="Try again")


def _formats(path: Path, kind: Kind) -> list[FileFormat]:
    endings = dict.fromkeys([path.suffix, *CONVERSIONS[kind]])
    endings.pop(".jpeg", None)  # the same as .jpg
    return [
        FileFormat(name=ending[1:].upper(), url=_url(path.with_suffix(ending)), file=f"{path.stem}{ending}")
        for ending in endings
    ]


def _eta(view: JobView) -> float | None:
    """Return the seconds left: of a running job at its last report, so that its card changes only with it."""
    job = view.job
    if job.state is JobState.RUNNING:
        return None if job.progress is None or job.progress.eta_s is None else round(job.progress.eta_s, 1)
    return None if view.eta_s is None else round(view.eta_s)


def _url(path: Path) -> str:
    return f"/media/{path.parent.name}/{path.name}"
