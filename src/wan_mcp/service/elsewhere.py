"""What a client on another machine may name in a request: no file of this machine, and no image of another client.

The one place of this rule: `JobService` applies it to whatever a front lets such a client send. What such a client
reads is the fronts' part (`fronts/discretion.py`).
"""

import re
from collections.abc import Collection

from wan_mcp.errors import BadRequest, about
from wan_mcp.media.image_urls import is_url
from wan_mcp.schema.requests import CaptionRequest, Request

__all__ = ["ImageNotSent", "may_be_named", "require_nameable"]

NAMEABLE = re.compile(r"\s*(data:|wan://(videos|images|uploads)/)", re.IGNORECASE)
"""Images that a client sends itself, and results; an upload is found only for its owner (`service/uploads.py`). Other
addresses lead to images that some client has sent."""
URL = re.compile(r"\s*(?!wan:|file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
SEND = "the image as a data URI, or the wan:// address of a result"


class ImageNotSent(BadRequest):
    """An image that the caller has to send: it is not here, or not for them."""


def may_be_named(image: str) -> bool:
    """Check whether a client elsewhere may use an image by this name."""
    return NAMEABLE.match(image) is not None


def require_nameable(
    request: Request,
    known: Collection[str] = (),
    *,
    urls: bool = False,
    job_id: str = "",
    given: Collection[str] = (),
) -> None:
    """Refuse a request of a client elsewhere that names what it may not use.

    Args:
        request: What is asked for.
        known: Images that a front answers for, as the request names them.
        urls: Whether the server fetches images from the web.
        job_id: The job that the request was made from, if any.
        given: The parameters of that job that the caller has changed.

    Raises:
        BadRequest: It does; the message says what to send.
    """
    for parameter in ("image", "last_image"):
        image: str | None = getattr(request, parameter, None)
        if not image or image in known or may_be_named(image) or (urls and is_url(image)):
            continue
        with about(parameter):
            if job_id and parameter not in given:
                raise ImageNotSent(
                    f"the {parameter} of job {job_id} was not sent by you, or you are not on the server's machine to "
                    f"use it again; pass {parameter}: {SEND}"
                )
            raise ImageNotSent(
                f"the {parameter} is {_what_it_names(image)}, and you are not on the server's machine; send {SEND}"
            )
    if not isinstance(request, CaptionRequest) and any(lora.path is not None for lora in request.lora):
        of_job = f" of job {job_id}" if job_id and "lora" not in given else ""
        with about("lora"):
            raise BadRequest(
                f"the lora{of_job} is a path, and you are not on the server's machine; "
                "use the name of one in the server's folder"
            )


def _what_it_names(image: str) -> str:
    if image.strip().lower().startswith("wan:"):
        return "one that a client has sent, or none"
    return "a URL" if URL.match(image) else "a path"
