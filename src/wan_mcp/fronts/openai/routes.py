"""The routes of this API, for the HTTP front to mount."""

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wan_mcp.fronts.openai.api import Call, Operation, answer
from wan_mcp.fronts.openai.bodies import Bodies
from wan_mcp.fronts.openai.openapi import openapi_document
from wan_mcp.fronts.openai.operations import OPERATIONS
from wan_mcp.fronts.openai.retries import Retries
from wan_mcp.service.service import JobService

__all__ = ["api_routes"]

DOCUMENTS = ("/openapi.json", "/v1/openapi.json")
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def api_routes(service: JobService) -> list[Route]:
    """Return a route for each path; it answers all methods of that path."""
    bodies, retries = Bodies(service.settings, service.large_work), Retries()
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation

    def endpoint(operations: dict[str, Operation]) -> Endpoint:
        async def serve(request: Request) -> Response:
            operation = operations["GET" if request.method == "HEAD" else request.method]
            return await answer(operation, Call(request, service, bodies, retries))

        return serve

    document = openapi_document(OPERATIONS, token=bool(service.settings.http_token))

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    routes = [Route(path, endpoint(known), methods=list(known)) for path, known in by_path.items()]
    return [*routes, *(Route(path, openapi) for path in DOCUMENTS)]
