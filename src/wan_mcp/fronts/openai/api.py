"""The API as a whole: its operations, each with its form and its answers; routes and OpenAPI are made from them."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wan_mcp.errors import UserError
from wan_mcp.fronts.discretion import discreet, is_near
from wan_mcp.fronts.openai.answers import Answer
from wan_mcp.fronts.openai.bodies import Bodies, checked_query
from wan_mcp.fronts.openai.refusals import NO_REPETITION, ApiError, error_answer, of_user_error
from wan_mcp.fronts.openai.requests import Asked
from wan_mcp.fronts.openai.retries import Retries
from wan_mcp.schema.requests import Request as JobRequest
from wan_mcp.service.admission import NO_IMAGES
from wan_mcp.service.remix import Remix
from wan_mcp.service.service import JobService, JobView

__all__ = ["Call", "Operation", "answer"]

log = logging.getLogger(__name__)

CLIENT = "video API"
"""What the job table calls the client of these jobs."""

F = TypeVar("F", bound=BaseModel)


@dataclass(frozen=True)
class Call:
    """One request, and what it is answered from."""

    http: Request
    service: JobService
    bodies: Bodies
    retries: Retries

    def body(self, form: type[F]) -> AbstractAsyncContextManager[F]:
        """Provide the body as `form`, for as long as its pictures are needed."""
        return self.bodies.read(self.http, form)

    def query(self, form: type[F]) -> F:
        """Return the query as `form`."""
        return checked_query(self.http, form)

    @property
    def elsewhere(self) -> bool:
        """Whether the caller is on another machine."""
        return not is_near(self.http.scope)

    @property
    def urls(self) -> bool:
        """Whether the server fetches images from the web."""
        return self.service.admission.urls.allowed

    async def submit(self, request: JobRequest, asked: Asked, remix: Remix | None = None) -> JobView:
        """Queue the job of this call, or return the one that an earlier attempt has queued.

        Raises:
            ApiError: The request is refused, in this API's words.
        """
        request_id = self.retries.request_id(self.http, request)
        try:
            view = await self.service.submit(
                request,
                request_id,
                client=CLIENT,
                parent=remix.parent if remix else "",
                images=remix.images if remix else NO_IMAGES,
                elsewhere=self.elsewhere,
            )
        except UserError as error:
            raise of_user_error(error, asked.names) from error
        self.retries.note_job(request_id, view.job.id)
        return view

    def words(self, text: str) -> str:
        """Return a text as this client may read it: one elsewhere reads no paths of this machine."""
        return discreet(text, self.service.settings.home) if self.elsewhere else text


Handler = Callable[[Call], Awaitable[Answer | Response]]


@dataclass(frozen=True)
class Operation:
    """One thing that this API does."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answer: type[Answer] | tuple[str, ...]
    """What a successful call is answered with: a form, or media types of files."""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    refused: tuple[int, ...] = ()
    """Statuses of refusals, besides those of every operation."""


async def answer(operation: Operation, call: Call) -> Response:
    """Return the answer to a request, whatever happens."""
    try:
        found = await operation.handler(call)
        return found if isinstance(found, Response) else JSONResponse(found.model_dump(mode="json"))
    except ApiError as error:
        refusal = error
    except UserError as error:
        refusal = of_user_error(error, {})
    except Exception as error:  # a defect: its words are for the log
        log.exception("%s %s failed", operation.method, call.http.url.path)
        refusal = ApiError(500, f"The server has failed ({type(error).__name__}).", headers=NO_REPETITION)
    refusal.message = call.words(refusal.message)
    log.info("refused %s %s with %d", operation.method, call.http.url.path, refusal.status)
    return error_answer(refusal)
