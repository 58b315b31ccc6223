"""Every error that this package raises on purpose.

    WanError
    ├── UserError              its text is shown to the caller: what was wrong and what to do
    │   ├── BadRequest         a value that is not allowed; the allowed ones are named
    │   ├── BadImage           an input image that cannot be used
    │   ├── UnknownModel       no manifest of that name, or none for that task
    │   ├── UnknownJob         no job of that id
    │   ├── UnreadableRow      a job's row that this version cannot understand
    │   ├── ConsentNeeded      a download larger than the owner lets jobs start unasked
    │   ├── DownloadNotAllowed the same, for a caller who may not agree to it
    │   ├── QueueFull          try again in about N seconds
    │   ├── QuotaReached       an owner has sent as much as one owner may
    │   ├── OutOfSpace         the disk has no room for another result
    │   ├── BrokenManifest     a manifest file that does not follow the schema
    │   ├── WeightsUnavailable a model's weights are incomplete on this machine and cannot be downloaded
    │   └── HomeUnusable       the home folder or the job table cannot be used
    ├── JobFailed              raised inside an engine: this job ends failed, with a code and a reason
    ├── JobCancelled           raised inside an engine: somebody asked for this job to stop
    ├── LeaseLost              raised inside an engine: another engine has claimed this job
    └── RankLost               raised inside an engine: another engine that shares this job does not go on

Foreign exceptions are translated where they are met, `from` the original. Whatever is not in
this tree is a defect: it goes to the log, and the caller reads only that something broke.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "BadImage",
    "BadRequest",
    "BrokenManifest",
    "ConsentNeeded",
    "DownloadNotAllowed",
    "HomeUnusable",
    "JobCancelled",
    "JobFailed",
    "LeaseLost",
    "OutOfSpace",
    "QueueFull",
    "QuotaReached",
    "RankLost",
    "UnknownJob",
    "UnknownModel",
    "UnreadableRow",
    "UserError",
    "WanError",
    "WeightsUnavailable",
    "about",
]


class WanError(Exception):
    """The root of all errors raised on purpose."""


class UserError(WanError):
    """An error whose text is written for the caller, a person or a model."""

    code: str = "refused"
    """A stable word for programs. Each API has its own status for it."""
    param: str | None = None
    """The parameter of a request that it is about, as `schema/requests.py` names it; None for none or several."""


class BadRequest(UserError):
    """A value is not allowed; the message names the allowed ones."""

    code = "bad_request"


class BadImage(UserError):
    """An input image is missing, unreadable, too large or outside the allowed folders."""

    code = "bad_image"


class UnknownModel(UserError):
    """No manifest has that name, or the model cannot do what was asked."""

    code = "unknown_model"


class UnknownJob(UserError):
    """No job has that id."""

    code = "unknown_job"


class UnreadableRow(UserError):
    """A job's row cannot be understood: a newer version has written it, or it is damaged."""

    code = "unreadable_job"


class ConsentNeeded(UserError):
    """A job's download is larger than the owner lets jobs start unasked. `facts` do not say how to consent."""

    code = "download_needs_consent"

    def __init__(self, model: str, size: int, facts: str, ways: str) -> None:
        super().__init__(f"{facts}. {ways}")
        self.model, self.size, self.facts = model, size, facts


class DownloadNotAllowed(UserError):
    """A download is larger than starts unasked, and the caller is an owner that may not agree to it."""

    code = "download_not_allowed"


class QueueFull(UserError):
    """Too many jobs wait already."""

    code = "queue_full"


class QuotaReached(UserError):
    """An owner has sent as many pictures as one owner may."""

    code = "quota_reached"


class OutOfSpace(UserError):
    """The disk that holds the home folder is nearly full."""

    code = "out_of_space"


class BrokenManifest(UserError):
    """A manifest file does not follow the schema; the message names the file and the key."""

    code = "broken_manifest"


class WeightsUnavailable(UserError):
    """A model's weights are incomplete on this machine and cannot be downloaded. `code` is the cause's."""

    code = "weights_unavailable"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HomeUnusable(UserError):
    """The home folder cannot be written, or its job table is damaged or from a newer version."""

    code = "home_unusable"


@contextmanager
def about(param: str) -> Iterator[None]:
    """Mark refusals that are raised inside as being about a parameter, unless they say so themselves."""
    try:
        yield
    except UserError as error:
        error.param = error.param or param
        raise


class JobFailed(WanError):
    """A job has failed. `code` is a stable word for programs, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class JobCancelled(WanError):
    """A job has stopped because its cancellation was requested."""


class LeaseLost(WanError):
    """The row says that this engine does not own this job any more: drop it without a trace."""


class RankLost(WanError):
    """Another rank of this job died, hangs or gave up: the attempt ends on all ranks."""
