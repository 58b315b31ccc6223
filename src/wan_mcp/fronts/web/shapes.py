"""The shapes of what the page sends and reads as JSON; times are Unix seconds, sizes pixels, amounts bytes."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from wan_mcp.catalog.memory_fit import Fit
from wan_mcp.schema.enums import JobState, Kind, Task
from wan_mcp.schema.jobs import MediaFacts
from wan_mcp.service.engine_status import EngineStatus
from wan_mcp.service.model_downloads import DownloadState

__all__ = [
    "Action",
    "ConnectAnswer",
    "Connection",
    "Crop",
    "DiskCard",
    "DownloadCard",
    "EnginesAnswer",
    "EstimateAnswer",
    "FileFormat",
    "Fitting",
    "Freed",
    "HealthAnswer",
    "InputAnswer",
    "JobCard",
    "JobDetail",
    "JobPage",
    "ModelsAnswer",
    "PhoneAnswer",
    "Problem",
    "Removed",
    "ResultFile",
    "SessionAnswer",
    "Shape",
    "Unreadable",
]


class Shape(BaseModel):
    """The base of all shapes."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)  # starting a server must not wait for it


class Action(Shape):
    """What the button next to an error does."""

    do: Literal["change", "get_model", "free_memory", "make_room", "sign_in", "remix", "retry"]
    """change: set these values in the composer; get_model: POST /api/models/MODEL/get; free_memory: POST
    /api/engines/free; make_room: go to where files can be deleted; sign_in: go to /sign-in; remix: put the job's
    settings into the composer; retry: send the same again."""
    label: str
    model: str | None = None
    values: dict[str, Any] = {}


class Problem(Shape):
    """Why a request is refused, or a job has failed."""

    error: str
    """A sentence for the person."""
    code: str
    action: Action | None = None


# Pictures.


class Crop(Shape):
    """How a picture fills a frame: this part of it is kept, and scaled."""

    width: int
    height: int
    """Of the frame."""
    left: float
    top: float
    right: float
    bottom: float
    """Of the kept part, in shares of the picture's width and height."""
    words: str | None
    """None if nothing changes."""


class InputAnswer(Shape):
    """A picture that was taken in. Its `id` can be sent as `image` or `last_image`."""

    id: str
    width: int
    height: int
    url: str
    notes: list[str]
    crop: Crop | None = None
    """For the frame that was asked for with ?width=…&height=…."""


# Jobs.


class FileFormat(Shape):
    """A result in one format; all but the first are made when they are first asked for."""

    name: str
    """In capitals, such as `GIF`."""
    url: str
    file: str
    """A name to save it under."""


class ResultFile(Shape, MediaFacts):
    """A result. `path` and `saved_as` are None for a browser on another machine."""

    uri: str
    url: str
    path: str | None
    saved_as: str | None
    """The same file in the output folder of the client that asked, if it has one."""
    formats: list[FileFormat]
    sheet_url: str | None
    poster_url: str | None


class JobCard(Shape):
    """A job as a card shows it."""

    id: str
    kind: Kind
    task: Task
    model: str
    state: JobState
    client: str
    owner: str
    """Whose it is: empty for the home's user."""
    kept: bool
    parent: str
    prompt: str | None
    what: str
    """What it makes, in words: `video 128x128, 17 frames at 8 fps (2.125 s)`."""
    sentence: str
    """Its state, in words."""
    stage: str | None
    step: int | None
    steps: int | None
    item: int
    items: int
    fraction: float
    """0…1."""
    eta_s: float | None
    """Seconds left at `at`."""
    at: float | None
    detail: str
    queue_position: int | None
    hindrance: str | None
    cancel_requested: bool
    crashes: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    """When the server deletes it because of its age; None if never."""
    width: int | None
    height: int | None
    seed: int | None
    count: int
    images: list[str]
    """URLs of its input pictures."""
    results: list[ResultFile]
    caption: str | None
    notes: list[str]
    problem: Problem | None


class JobDetail(JobCard):
    """A job with what would make it again."""

    request: dict[str, Any]
    """Parameters for POST /api/jobs, `kind` included."""
    receipt: Mapping[str, Any]
    """The plan with every gap filled, as in the result's metadata."""
    withheld: list[str] = []
    """Of `image` and `last_image`, those that `request` lacks because a page elsewhere may not use them."""


class Unreadable(Shape):
    """A row of the job table that this version cannot understand."""

    id: str
    state: str
    reason: str


class JobPage(Shape):
    """Some jobs, the newest first."""

    jobs: list[JobCard]
    unreadable: list[Unreadable]
    before: str | None
    """Send it as ?before= for older ones; None if these are all."""


# Estimates.


class Fitting(Shape):
    """A named size that fits this machine, with the most frames that do."""

    name: str
    width: int
    height: int
    frames: int


class EstimateAnswer(Shape):
    """What a job would be and take. Nothing is queued."""

    kind: Kind
    task: Task
    model: str
    what: str
    width: int | None
    height: int | None
    num_frames: int | None
    fps: float | None
    duration_s: float | None
    steps: int | None
    notes: list[str]
    seconds: float | None
    """Of the job by itself, with loading if needed; None while nothing similar was measured."""
    wait_s: float | None
    """Until it would begin; None if unknown."""
    jobs_ahead: int
    needed_bytes: int | None
    memory_bytes: int | None
    fits: bool
    fit: Fit | None
    misfit: str | None
    fitting: list[Fitting]
    """What would fit, if this does not."""
    action: Action | None
    download_bytes: int
    """What is missing of the model."""
    download_s: float | None
    """At the rate of the last large download; None if there was none."""
    download_folder: str | None
    download_free_bytes: int | None
    """Of the folder's disk."""
    download_needs_consent: bool
    """True if a job that does not say `download: true` is refused."""
    image_crop: Crop | None
    last_image_crop: Crop | None


# Models and engines.


class DownloadCard(Shape):
    """A download of a model's weights; also the data of the event `download`."""

    model: str
    state: DownloadState
    done_bytes: int
    total_bytes: int
    """0 until the hub has said."""
    rate: float | None
    """Bytes per second."""
    eta_s: float | None
    note: str
    error: str | None
    code: str | None


class DiskCard(Shape):
    """Free space, which may be of one disk."""

    free_bytes: int
    """Where models are kept."""
    home_free_bytes: int
    """Where results are kept."""


class ModelsAnswer(Shape):
    """Downloads, and what models take on the disk."""

    downloads: list[DownloadCard]
    used_bytes: dict[str, int]
    """By model; models may share files."""
    disk: DiskCard


class Removed(Shape):
    """What the removal of a model has freed."""

    freed_bytes: int


class EnginesAnswer(Shape):
    """The engines of this server: one for each device, in the order of the devices."""

    engines: list[EngineStatus]


class Freed(Shape):
    """Whether an engine was asked to end; if not, none runs."""

    asked: bool


class SessionAnswer(Shape):
    """Whether this browser has signed in."""

    required: bool
    """False where the server answers its own user without."""
    signed_in: bool


class PhoneAnswer(Shape):
    """Links that open the page on another device and sign it in once, within minutes."""

    links: list[str]
    """One for each address of this machine; empty if only this machine reaches the server."""


# Other programs.


class Connection(Shape):
    """What makes another program use this server."""

    id: str
    title: str
    where: str
    """The file or place that it belongs to."""
    language: Literal["json", "toml", "sh", "python"]
    text: str


class HealthAnswer(Shape):
    """Whether the server works."""

    version: str
    trouble: str | None
    """Why it does not; None if it does."""


class ConnectAnswer(Shape):
    """The configurations of other programs."""

    url: str
    needs_token: bool
    """True if YOUR_TOKEN in them has to be replaced."""
    connections: list[Connection]
