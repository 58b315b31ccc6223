"""JSON answers of the page's API: what was asked for, or a sentence and the one button that helps."""

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wan_mcp.errors import ConsentNeeded, UserError
from wan_mcp.fronts.discretion import NOT_PATHS, hidden, is_near
from wan_mcp.fronts.identity import owner_of_request
from wan_mcp.fronts.web.shapes import Action, Problem
from wan_mcp.service.owners import HOME_USER
from wan_mcp.service.service import JobService
from wan_mcp.text import capitalized, in_bytes

__all__ = [
    "MAKE_ROOM",
    "SAFE_HEADERS",
    "Answers",
    "Endpoint",
    "Refusal",
    "problem_of",
    "require_home_user",
    "without_paths",
]

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
STATUSES = {
    "unknown_model": 404,
    "unknown_job": 404,
    "unreadable_job": 409,
    "broken_manifest": 409,
    "weights_unavailable": 409,
    "download_needs_consent": 409,
    "download_not_allowed": 403,
    "queue_full": 429,
    "quota_reached": 429,
    "out_of_space": 507,
    "home_unusable": 503,
}
"""By the code of an error; 400 for all others."""
MAKE_ROOM = Action(do="make_room", label="Free disk space")
INTERNAL = "Something broke in the server; its log says what. Jobs go on."


ADDRESSES = frozenset({"url", "sheet_url", "poster_url"})
"""Keys whose values are addresses on this server, which look like paths."""


def without_paths(value: Any, home: Path) -> Any:
    """Return a JSON value for a page elsewhere: without paths of the server's machine and pictures that others sent."""
    if isinstance(value, dict):
        kept = ADDRESSES | NOT_PATHS
        shown = {key: each if key in kept else without_paths(each, home) for key, each in value.items()}
        return shown | {
            key: empty for key, empty in (("path", None), ("saved_as", None), ("images", [])) if key in value
        }
    if isinstance(value, list):
        return [without_paths(each, home) for each in value]
    return hidden(value, home)


class Refusal(Exception):
    """An answer with another status than 200, and a sentence."""

    def __init__(self, status: int, code: str, words: str, action: Action | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.problem = Problem(error=words, code=code, action=action)


def require_home_user(request: Request) -> None:
    """Refuse what concerns all users of the server, such as a model's files, to those who only have jobs of theirs.

    Raises:
        Refusal: The caller is such a one.
    """
    if owner_of_request(request.scope) != HOME_USER:
        raise Refusal(
            403, "not_yours", "Only the user of this server's home may do this; it concerns everybody's jobs."
        )


def problem_of(error: UserError) -> tuple[int, Problem]:
    """Return the status and the words of an error for a caller."""
    code = type(error).code
    status = STATUSES.get(code, 400)
    words = str(error)
    action = MAKE_ROOM if status == 507 else Action(do="retry", label="Try again") if status in (429, 503) else None
    if isinstance(error, ConsentNeeded):
        words = f"{error.facts}. Get the model first"
        action = Action(do="get_model", label=f"Get {in_bytes(error.size)}", model=error.model)
    return status, Problem(error=capitalized(words), code=code, action=action)


class Answers:
    """Makes answers for near clients and for those elsewhere, who read no path of this machine."""

    def __init__(self, service: JobService) -> None:
        self._home = service.settings.home

    def json(self, request: Request, body: BaseModel, status: int = 200, **headers: str) -> Response:
        """Return an answer."""
        content = body.model_dump_json().encode() if is_near(request.scope) else self._discreetly(body)
        return Response(content, status, SAFE_HEADERS | headers, "application/json")

    def plain(self, body: BaseModel) -> Response:
        """Return an answer that is the same for clients elsewhere."""
        return Response(body.model_dump_json(), 200, SAFE_HEADERS, "application/json")

    def _discreetly(self, body: BaseModel) -> bytes:
        return json.dumps(without_paths(body.model_dump(mode="json"), self._home), ensure_ascii=False).encode()

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint whose errors are answers."""

        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Refusal as refusal:
                return self.json(request, refusal.problem, refusal.status)
            except UserError as error:
                status, problem = problem_of(error)
                return self.json(request, problem, status)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception:
                log.exception("%s %s failed", request.method, request.url.path)
                return self.json(request, Problem(error=INTERNAL, code="internal"), 500)

        return answer
