"""Refusals in the API's words: `{"error": {message, type, param, code}}` with an HTTP status.

What a request is refused for is decided elsewhere, in the words of the tools; here the words become the API's, and
`param` the name that the caller used. The official client repeats a request by itself after 408, 409, 429 and any 5xx,
so what a repetition cannot mend has another status, or the header that stops it.
"""

import re
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse

from wan_mcp.errors import UserError
from wan_mcp.fronts.openai.answers import ErrorAnswer, ErrorDetail
from wan_mcp.text import capitalized

__all__ = ["NO_REPETITION", "ApiError", "body_of", "error_answer", "of_form", "of_user_error"]

NO_REPETITION = {"x-should-retry": "false"}
"""The official client repeats nothing that is answered with this header."""
STATUSES: dict[str, tuple[int, str]] = {
    "unknown_model": (404, "model_not_found"),
    "unknown_job": (404, "not_found"),
    "download_needs_consent": (400, "download_needs_consent"),
    "download_not_allowed": (403, "download_not_allowed"),
    "queue_full": (429, "queue_full"),
    "quota_reached": (429, "quota_reached"),
    "out_of_space": (503, "insufficient_storage"),
    "home_unusable": (503, "unavailable"),
    "broken_manifest": (400, "invalid_model"),
    "bad_image": (400, "invalid_image"),
    "bad_request": (400, "invalid_value"),
}
"""By the code of an error, its status and this API's code."""
WORDS = (
    (re.compile(r"If the user agrees, call again with download=true, or run"), "To download it, run"),
    (re.compile(r", or ask for the job again with download=true"), ""),
    (re.compile(r"list_resolutions\(model='NAME'\)"), "GET /v1/models/NAME"),
    (re.compile(r"\blist_resolutions\b"), "GET /v1/models"),
    (re.compile(r"\blist_jobs\b"), "GET /v1/videos"),
)
"""What the tools call by name, as this API calls it."""
NOUNS = frozenset({"steps", "image", "count", "preset"})
"""Parameters whose names are also words: they are names where something is set or left out."""


class ApiError(Exception):
    """A refusal as this API answers it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})


def error_answer(error: ApiError) -> JSONResponse:
    """Return the answer that carries a refusal."""
    return JSONResponse(body_of(error), error.status, error.headers)


def body_of(error: ApiError) -> dict[str, object]:
    """Return the JSON of a refusal."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = "server_error" if error.status >= 500 else kinds.get(error.status, "invalid_request_error")
    detail = ErrorDetail(message=error.message, type=kind, param=error.param, code=error.code)
    return ErrorAnswer(error=detail).model_dump(mode="json")


def of_form(error: ValidationError, form: type[BaseModel]) -> ApiError:
    """Return the refusal of a body or a query that does not follow its form."""
    [first, *_] = error.errors(include_url=False, include_input=False)
    loc = [part for part in first["loc"] if not _is_branch(part)]
    param = _bracketed(loc) or None
    match first["type"]:
        case "missing":
            return ApiError(
                400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param
            )
        case "extra_forbidden":
            known = form.model_fields if len(loc) == 1 else {}
            more = f" {', '.join(known)} are known." if known else ""
            return ApiError(400, f"Unknown parameter: '{param}'.{more}", code="unknown_parameter", param=param)
    wrong_type = first["type"].endswith("_type") or first["type"].endswith("_parsing")
    code = "invalid_type" if wrong_type else "invalid_value"
    reason = first["msg"].removeprefix("Value error, ")
    where = f"Invalid value for '{param}'" if param else "Invalid request"
    message = f"{where}: {reason[:1].lower()}{reason[1:]}."
    return ApiError(400, message, code=code, param=param)


def of_user_error(error: UserError, names: Mapping[str, str]) -> ApiError:
    """Return a refusal of the planner or the job table; `names` are the caller's names for our parameters."""
    status, code = STATUSES.get(type(error).code, (500, None))
    message, ours = str(error), error.param
    if ours is None and type(error).code in ("unknown_model", "broken_manifest"):
        ours = "model"
    for pattern, word in WORDS:
        message = pattern.sub(word, message)
    for name, theirs in names.items():
        if name != theirs:
            message = _named(message, name, theirs)
    headers = {"Retry-After": "5"} if status == 429 else NO_REPETITION if status >= 500 else {}
    if message.partition(" ")[0] not in names.values():
        message = capitalized(message)
    return ApiError(status, message, code=code, param=names.get(ours, ours) if ours else None, headers=headers)


def _named(message: str, name: str, theirs: str) -> str:
    """Return a message that calls a parameter by the caller's name."""
    if name not in NOUNS:
        return re.sub(rf"\b{name}\b(?!')", theirs, message)
    message = re.sub(rf"^{name}(?= [-\d])|(?<=[Oo]mit ){name}\b", theirs, message)
    return re.sub(rf"^{name}(?=:)", theirs, message)


def _is_branch(part: int | str) -> bool:
    """Check whether a part of a place is pydantic's name for a branch of a union."""
    return isinstance(part, str) and (
        part in ("str", "float", "int") or "[" in part or "-" in part or part[:1].isupper()
    )


def _bracketed(loc: list[int | str]) -> str:
    head, *rest = [str(part) for part in loc] or [""]
    return head + "".join(f"[{part}]" for part in rest)
