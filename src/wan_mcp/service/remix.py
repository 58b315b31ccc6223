"""Requests made from what was made before: from a job, or from the receipt in a file, with changes.

Without a change of model or preset, a remix keeps every value of the job, also those that the model
chose. With one, it keeps what the caller had asked for, and the new model fills the gaps with its own values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.errors import BadRequest
from wan_mcp.schema.changes import NEW_SEED, Changes
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.parameters import Parameters
from wan_mcp.schema.plans import InputImage, Plan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, Request, VideoRequest
from wan_mcp.service.admission import frame_of, named
from wan_mcp.service.elsewhere import require_nameable
from wan_mcp.service.repeatable_request import repeatable_request
from wan_mcp.text import quoted

__all__ = ["Remix", "of_job", "of_receipt"]

REQUESTS: dict[Kind, type[VideoRequest | ImageRequest | CaptionRequest]] = {
    Kind.VIDEO: VideoRequest,
    Kind.IMAGE: ImageRequest,
    Kind.CAPTION: CaptionRequest,
}
IMAGES = ("image", "last_image")
SHA256 = re.compile(r"[0-9a-f]{64}")
INSTEAD = (
    ("image", ("extend",)),
    ("extend", ("image", "frame", "last_image", "last_image_frame")),
    ("duration_s", ("num_frames",)),
    ("num_frames", ("duration_s",)),
    ("caption_type", ("prompt",)),
    ("length", ("prompt",)),
    ("check", ("pick",)),
    ("pick", ("check",)),
)
"""Parameters, and those that they stand instead of."""

_plan: TypeAdapter[Plan] = TypeAdapter(Plan)


@dataclass(frozen=True)
class Remix:
    """A request, and the images of it that are here already: those of the job that it was made from."""

    request: Request
    images: Mapping[str, InputImage] = field(default_factory=dict)
    """By how the request names each: see `admission.named`."""
    parent: str = ""
    """The id of the job."""


def of_job(
    job: Job,
    asked: Request | None,
    changes: Changes,
    catalog: Catalog,
    home: Path,
    *,
    elsewhere: bool = False,
    urls: bool = False,
) -> Remix:
    """Return the request of a job with changes.

    Args:
        job: The job.
        asked: What its caller asked for; None if that is unknown.
        changes: What is to be different.
        catalog: The models.
        home: The home folder.
        elsewhere: Whether the caller is on another machine, where images and paths of this one are not for use.
        urls: Whether the server fetches images from the web.

    Raises:
        BadRequest: a change is not allowed, nothing is changed in a job that has succeeded, or the caller is elsewhere
            and the job has an image that is not theirs.
    """
    given = changes.given()
    if not given and job.state is JobState.SUCCEEDED:
        raise BadRequest(
            "nothing to change: the same request and seed give the same result; "
            f"pass seed='{NEW_SEED}' for another one, or any other parameter"
        )
    words = repeatable_request(job.plan, catalog.manifests.get(job.plan.model), home)
    request = _changed(job.plan, words, asked, given)
    if elsewhere:
        require_nameable(request, urls=urls, job_id=job.id, given=given)
    return Remix(request, _images(job.plan, words, home), job.id)


def of_receipt(receipt: Mapping[str, Any], changes: Changes, catalog: Catalog, home: Path) -> Remix:
    """Return the request of a file's receipt with changes.

    A receipt names its input images and LoRAs by their content. Images are found in the home that made the file.

    Raises:
        BadRequest: the receipt cannot be understood, or an image is not here; the message says what to do.
    """
    given = changes.given()
    plan = _plan_of(receipt, home)
    words = repeatable_request(plan, catalog.manifests.get(plan.model), home)
    if getattr(plan, "extends", None) is not None and "extend" not in given:
        raise BadRequest("this file continues another video; pass extend, the job or the wan:// address of that one")
    missing = [name for name, image in plan.images.items() if name not in given and not (home / image.file).is_file()]
    if missing:
        raise BadRequest(f"the {missing[0]} of this file is not on this machine; pass {missing[0]}")
    return Remix(_changed(plan, words, None, given), _images(plan, words, home))


def _plan_of(receipt: Mapping[str, Any], home: Path) -> Plan:
    words = receipt.get("request")
    if not isinstance(words, dict):
        raise BadRequest("the file's receipt has no request; wan-mcp has not written it")
    words = dict(words)
    for name in IMAGES:
        if isinstance(image := words.get(name), dict):
            digest = str(image.get("sha256"))
            if not SHA256.fullmatch(digest):  # a file of others must not lead anywhere else
                raise BadRequest(f"the file's receipt cannot be understood: {name} has no hash")
            words[name] = image | {"file": f"media/inputs/{digest}.png", "source": f"wan://inputs/{digest}.png"}
    if isinstance(extends := words.get("extends"), dict):
        words["extends"] = extends | {"file": "", "source": ""}
    words["lora"] = [
        lora | {"file": str(home / "loras" / f"{lora.get('name')}.safetensors")}
        for lora in words.get("lora") or []
        if isinstance(lora, dict)
    ]
    try:
        return _plan.validate_python(words, extra="ignore")
    except ValidationError as error:
        raise BadRequest(f"the file's receipt cannot be understood: {quoted(error.errors()[0]['msg'], 200)}") from error


def _changed(plan: Plan, words: dict[str, Any], asked: Request | None, given: dict[str, Any]) -> Request:
    base = dict(words)
    if asked is not None and ("model" in given or "preset" in given):
        base = _asked_words(asked, plan, words)
    elif "image" in given and (asked is not None and getattr(asked, "resolution", None) is None):
        base.pop("resolution", None)  # it follows the image
    for name in IMAGES:
        if name in given:
            base.pop(frame_of(name), None)  # of another image
    for name, others in INSTEAD:
        if name in given:
            for other in others:
                base.pop(other, None)
    if "prompt" in given and plan.kind is Kind.CAPTION:
        base.pop("caption_type", None)
        base.pop("length", None)
    if given.get("count") == 1:
        base.pop("pick", None)  # there is nothing to pick from
    if given.get("seed") == NEW_SEED:
        base.pop("seed", None)
        given = {name: value for name, value in given.items() if name != "seed"}
    request: type[Parameters] = REQUESTS[plan.kind]
    made: Any = request.of(base | given)
    request_: Request = made
    return request_


def _asked_words(asked: Request, plan: Plan, words: dict[str, Any]) -> dict[str, Any]:
    """Return what the caller asked for, with what the plan knows better: long texts and images."""
    base = {name: value for name, value in asked.model_dump(mode="json").items() if value not in (None, [])}
    base.pop("kind", None)
    known = ("prompt", *IMAGES, "seed", "lora")
    base |= {name: words[name] for name in known if name in words and (name in base or name == "seed")}
    for frame in map(frame_of, IMAGES):
        base.pop(frame, None)
        base |= {frame: words[frame]} if frame in words else {}
    if "negative_prompt" in base:
        base["negative_prompt"] = getattr(plan, "negative_prompt", None) or " "
    return base


def _images(plan: Plan, words: Mapping[str, Any], home: Path) -> dict[str, InputImage]:
    return {
        named(words[name], words.get(frame_of(name))): image
        for name, image in plan.images.items()
        if name in words and (home / image.file).is_file()
    }
