"""From this API's forms to the requests that every front submits, and the names of parameters on the way back."""

import re
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest
from wan_mcp.fronts.openai.forms import CreateImage, CreateVideo, EditImage, PictureOf, Reference, RemixVideo
from wan_mcp.fronts.openai.ids import job_id_of
from wan_mcp.fronts.openai.refusals import ApiError, of_user_error
from wan_mcp.media.image_urls import is_url
from wan_mcp.media.store import MediaName
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.requests import ImageRequest, VideoRequest

__all__ = ["QUALITIES", "Asked", "image_request", "require_own", "video_parameters", "video_request"]

R = TypeVar("R", VideoRequest, ImageRequest)

SAME = ("model", "seed", "negative_prompt", "guidance_scale", "style", "lora")
"""Parameters that are called the same here and there."""
NAMES = {
    **{name: name for name in (*SAME, "prompt", "preset", "guidance_scale_2", "turbo", "num_frames", "strength")},
    **{name: name for name in ("frame", "last_image_frame")},
    "steps": "num_inference_steps",
    "resolution": "size",
    "duration_s": "seconds",
    "image": "input_reference",
    "last_image": "last_frame",
    "count": "n",
    "extend": "video",
    "request_id": "Idempotency-Key",
}
"""Our parameters, and what they are called here."""
QUALITIES = {"low": "draft", "medium": "standard", "high": "best", "hd": "best"}
OWN_URL = re.compile(
    r"https?://(?P<host>[^/?#]{1,255})/media/(?P<folder>videos|images)/(?P<file>[\w.-]{1,64})(?:\?[^#]*)?"
)
IMAGE_ID = re.compile(r"image_(?P<job>[0-9a-z]{20})-(?P<index>[0-9]{1,3})")


class Asked:
    """The parameters of a request as ours, and the names that the caller used for them."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self.names = dict(NAMES)

    def set(self, ours: str, value: Any, theirs: str | None = None) -> None:
        """Set a parameter that was given; `theirs` is its name here, if it has several."""
        if value is None:
            return
        if ours in self.parameters:
            first, second = self.names[ours], theirs or NAMES[ours]
            raise ApiError(
                400, f"'{first}' and '{second}' exclude each other; set one of them.", code="invalid_value",
                param=second,
            )  # fmt: skip
        self.parameters[ours] = value
        self.names[ours] = theirs or NAMES[ours]

    def as_request(self, kind: type[R]) -> R:
        """Return the request.

        Raises:
            ApiError: A value is not allowed.
        """
        try:
            return kind.of(self.parameters)
        except BadRequest as error:
            raise of_user_error(error, self.names) from error


def video_request(form: CreateVideo, http: HttpRequest, *, urls: bool = False) -> Asked:
    """Return the parameters of a new video; `urls` if the server fetches images from the web."""
    asked = video_parameters(form, http, urls=urls)
    asked.set("prompt", form.prompt)
    return asked


def video_parameters(form: CreateVideo | RemixVideo, http: HttpRequest, *, urls: bool = False) -> Asked:
    """Return the parameters of a video that a form sets, without its prompt."""
    asked = Asked()
    _common(form, asked)
    asked.set("preset", form.preset)
    for name in ("guidance_scale_2", "turbo", "num_frames"):
        asked.set(name, getattr(form, name))
    if form.seconds is not None:
        asked.set("duration_s", float(form.seconds))
    if (form.width is None) != (form.height is None):
        missing = "height" if form.height is None else "width"
        raise ApiError(
            400, f"'{missing}' is missing: width and height go together.", code="invalid_value", param=missing
        )
    if form.width is not None:
        asked.set("resolution", f"{form.width}x{form.height}", "width")
    asked.set("image", _picture(form.input_reference, "input_reference", http, urls=urls), "input_reference")
    asked.set("image", _picture(form.reference_url, "reference_url", http, urls=urls), "reference_url")
    asked.set("image", _picture(form.image_reference, "image_reference", http, urls=urls), "image_reference")
    asked.set("last_image", _picture(form.last_frame, "last_frame", http, urls=urls))
    asked.set("frame", form.frame)
    asked.set("last_image_frame", form.last_image_frame)
    return asked


def image_request(form: CreateImage | EditImage, http: HttpRequest, *, urls: bool = False) -> Asked:
    """Return the parameters of new or changed images; `urls` as in `video_request`."""
    asked = Asked()
    _common(form, asked)
    asked.set("prompt", form.prompt)
    asked.set("count", form.n)
    asked.set("preset", form.preset)
    if form.quality in QUALITIES:
        asked.set("preset", QUALITIES[form.quality], "quality")
    if isinstance(form, EditImage):
        asked.set("image", _picture(form.image, "image", http, urls=urls), "image")
        asked.set("image", _picture(form.images[0] if form.images else None, "images", http, urls=urls), "images")
        asked.set("frame", form.frame)
        asked.set("strength", form.strength)
    return asked


def _common(form: CreateVideo | RemixVideo | CreateImage, asked: Asked) -> None:
    for name in SAME:
        asked.set(name, getattr(form, name))
    asked.set("steps", form.num_inference_steps)
    if form.size and form.size.strip().lower() != "auto":
        asked.set("resolution", form.size)


def _picture(given: PictureOf, param: str, http: HttpRequest, *, urls: bool) -> str | None:
    """Return a picture as the job service reads it: a data URI, the wan:// address of a result, or a URL if it may be.

    Never a path: this is an API for URLs, and a path would be one of the server's machine.
    """
    if given is None:
        return None
    reference = Reference(image_url=given) if isinstance(given, str) else given
    if reference.file_id is not None:
        return _of_file_id(reference.file_id, param if isinstance(given, str) else f"{param}[file_id]")
    url, where = reference.image_url or "", param if isinstance(given, str) else f"{param}[image_url]"
    scheme = url.lstrip()[:8].partition(":")[0].lower()
    if scheme in ("data", "wan"):
        return url.strip()
    if (match := OWN_URL.fullmatch(url.strip())) is not None and match["host"] == http.headers.get("host", ""):
        return f"wan://{match['folder']}/{match['file']}"
    if urls and is_url(url):
        return url.strip()
    raise ApiError(
        400,
        f"'{where}' is not a picture that this server reads; send a data URI (data:image/png;base64,…), a file in a "
        "multipart body, or the URL or id of a result of this server.",
        code="invalid_image_url",
        param=where,
    )


def _of_file_id(file_id: str, param: str) -> str:
    if (match := IMAGE_ID.fullmatch(file_id)) is not None:
        return MediaName.of(match["job"], int(match["index"]), Kind.IMAGE).uri
    if (job_id := job_id_of(file_id)) is not None:
        return MediaName.of(job_id, 0, Kind.VIDEO).uri
    raise ApiError(
        400,
        f"No file '{file_id[:60]}': the ids of results are files here (image_… and video_…); send other pictures as a "
        "data URI, or as a file in a multipart body.",
        code="invalid_file_id",
        param=param,
    )


def require_own(form: CreateVideo | RemixVideo, model: Manifest) -> None:
    """Refuse values that other servers of this API let callers change, if they are not the model's own."""
    fps, pipeline = model.frames.fps if model.frames else None, model.pipeline
    every = (
        ("fps", fps, f"which makes {fps:g} frames a second" if fps else "which has no frame rate"),
        ("flow_shift", pipeline.flow_shift, _keeps("shift", pipeline.flow_shift)),
        ("boundary_ratio", pipeline.boundary_ratio, _keeps("boundary", pipeline.boundary_ratio)),
    )
    for name, own, why in every:
        given = getattr(form, name)
        if given is not None and given != own:
            words = f"{name} {given:g} is not allowed by '{model.name}', {why}; omit {name}."
            raise ApiError(400, words, code="invalid_value", param=name)


def _keeps(what: str, own: float | None) -> str:
    return f"which has no {what} to set" if own is None else f"whose {what} is {own:g}"
