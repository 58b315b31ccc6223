"""What the clients' tests share: one installation for all of them, and each client's environment and story."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.clients.environments import node_environment, node_of, python_environment
from tests.clients.inspector import Inspector
from tests.clients.installation import Installation, Json, run_script
from tests.conftest import ending_engines
from tests.support.patience import PATIENCE_S

SCRIPT_S = 2 * PATIENCE_S  # of many calls
TRANSPORTS = ("stdio", "http")
MAKING = {"generate_video", "generate_image", "caption_image", "remix"}
TOOLS = MAKING | {"list_resolutions", "get_job", "list_jobs", "keep_job", "cancel_job", "delete_job"}
SDKS = ("mcp2", "mcp1")
CLIENTS = (*SDKS, "langchain")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is marked, and has time to build an environment."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("clients")
            item.add_marker(pytest.mark.timeout(600))


@dataclass(frozen=True)
class Connection:
    """One client on one transport."""

    client: str
    transport: str
    server: Json

    @property
    def process_per_call(self) -> bool:
        """Whether each call starts a server of its own."""
        return (self.client, self.transport) == ("langchain", "stdio")

    @property
    def short_wait_s(self) -> float:
        """A wait that is over before the story's long video is."""
        return 0.0 if self.process_per_call else 0.1

    def run(self, **task: object) -> tuple[int, Json]:
        """Let the client do something: its exit status and what it tells."""
        python = python_environment(self.client)
        return run_script(python, f"with_{self.client}.py", {"server": self.server, **task}, SCRIPT_S)

    def calls(self, *calls: tuple[str, Json]) -> list[Json]:
        """Call tools in one session: their answers."""
        status, document = self.run(do="calls", calls=calls)
        assert status == 0
        answers: list[Json] = document["answers"]
        return answers


Connect = Callable[[str, str], Connection]


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The one installation that all clients use."""
    installation = Installation(tmp_path_factory.mktemp("installation"))
    with ending_engines(installation.home):
        yield installation


@pytest.fixture(scope="session")
def http_server(installation: Installation) -> Iterator[Json]:
    """A front over HTTP that stays for all tests."""
    with installation.http() as server:
        yield server


@pytest.fixture(scope="session")
def connect(installation: Installation, http_server: Json) -> Connect:
    """`connect(client, transport)`."""

    def connecting(client: str, transport: str) -> Connection:
        return Connection(client, transport, http_server if transport == "http" else installation.stdio())

    return connecting


@dataclass(frozen=True)
class Story:
    """What a client went through (see scripts/story.py)."""

    connection: Connection
    told: Json
    fronts: int  # how many stdio servers it has started
    engines: list[int]  # which were there when it ended

    def answers(self) -> list[Json]:
        """All answers to calls of tools."""
        return [part for part in self.told.values() if isinstance(part, dict) and "tool" in part]

    def artifact(self, call: str) -> Json:
        """The file that a call has made."""
        [artifact] = self.told[call]["structured"]["artifacts"]
        assert isinstance(artifact, dict)
        return artifact


@pytest.fixture(scope="session")
def stories(installation: Installation, connect: Connect) -> Callable[[str, str], Story]:
    """`stories(client, transport)`: its story, which happens when it is first asked for."""

    @cache
    def story(client: str, transport: str) -> Story:
        connection = connect(client, transport)
        before = len(installation.fronts_started())
        status, told = connection.run(do="story", short_wait_s=connection.short_wait_s)
        assert status == 0
        return Story(connection, told, len(installation.fronts_started()) - before, installation.engines())

    return story


@pytest.fixture(
    params=[(client, transport) for client in CLIENTS for transport in TRANSPORTS],
    ids=lambda pair: "-".join(pair),
    scope="session",
)
def story(request: pytest.FixtureRequest, stories: Callable[[str, str], Story]) -> Story:
    """The story of each client on each transport."""
    return stories(*request.param)


@pytest.fixture(scope="session")
def inspector(installation: Installation, http_server: Json, tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; it brings the MCP Inspector and the Node that it needs")
    folder = node_environment("inspector", npm)
    if node_of(folder) is None:
        pytest.skip(f"npm has no Node 22 for this machine ({os.uname().sysname} {os.uname().machine})")
    return Inspector(folder, installation, http_server, tmp_path_factory.mktemp("inspector"))
