"""What this API has and this server does not do, answered with what it does instead."""

from typing import NoReturn

from wan_mcp.fronts.openai.answers import Answer
from wan_mcp.fronts.openai.api import Call, Handler
from wan_mcp.fronts.openai.refusals import ApiError

__all__ = ["refusing"]


def refusing(what: str) -> Handler:
    """Return what answers an operation that is not supported; `what` says so, and what to do instead."""

    async def refuse(call: Call) -> Answer:
        return _refuse(what)

    return refuse


def _refuse(what: str) -> NoReturn:
    raise ApiError(400, what, code="not_supported")
