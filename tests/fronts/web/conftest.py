"""The fixtures of these tests."""

from tests.fixtures.browser import browser, page, page_server, profile
from tests.fixtures.command_line import wan
from tests.fixtures.hub import hub, served
from tests.fixtures.mcp_server import connect, pace
from tests.fixtures.studio import studio, studio_site

__all__ = [
    "browser",
    "connect",
    "hub",
    "pace",
    "page",
    "page_server",
    "profile",
    "served",
    "studio",
    "studio_site",
    "wan",
]
