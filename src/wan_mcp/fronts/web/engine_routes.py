"""The endpoints of the engines: what they do and hold, and the memory that they can free."""

from dataclasses import replace

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from wan_mcp.errors import UnknownJob
from wan_mcp.fronts.web.answers import Answers, require_home_user
from wan_mcp.fronts.web.shapes import EnginesAnswer, Freed
from wan_mcp.service.engine_status import engine_statuses
from wan_mcp.service.service import JobService

__all__ = ["EngineRoutes"]


class EngineRoutes:
    """The endpoints of the engines."""

    def __init__(self, service: JobService, answers: Answers) -> None:
        self._service, self._answers = service, answers

    async def show(self, request: Request) -> Response:
        """Return what each engine does, and the memory of its device."""
        engines = await self._service.engines()
        statuses = await run_sync(engine_statuses, engines, self._service.settings)
        shown = [
            each if each.job is None or await self._is_seen(each.job) else replace(each, job=None) for each in statuses
        ]
        return self._answers.json(request, EnginesAnswer(engines=shown))

    async def _is_seen(self, job_id: str) -> bool:
        """Check whether a job is one of the caller's."""
        try:
            await self._service.view(job_id)
        except UnknownJob:
            return False
        return True

    async def free(self, request: Request) -> Response:
        """Ask the idle engines to end, which frees their memory; the next job starts one again."""
        require_home_user(request)
        engines = await self._service.engines()
        return self._answers.json(request, Freed(asked=await run_sync(engines.free)))
