"""Refusals of images that a client elsewhere cannot name, with a link by which the user can send one.

So an agent needs no tool to ask for a link: it names the user's file, and the answer says what to do.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.service.elsewhere import ImageNotSent
from wan_mcp.service.owners import owner_now
from wan_mcp.service.service import JobService
from wan_mcp.service.uploads import LINK_MINUTES

__all__ = ["offering_a_link"]


@asynccontextmanager
async def offering_a_link(service: JobService, places: Places) -> AsyncIterator[None]:
    """Add an upload link to a refusal of the block that is about an image which its client has to send."""
    try:
        yield
    except ImageNotSent as error:
        if places.base_url is None:
            raise
        link = await service.pictures.offer(owner_now())
        refusal = BadRequest(
            f"{error}. If only the user has it: ask them to open {places.base_url}{link.path} and send it "
            f"there (one picture, within {LINK_MINUTES} minutes); then call again with {error.param}='{link.address}'"
        )
        refusal.param = error.param
        raise refusal from error
