"""A creative session of ten steps through every client: from an idea to a file, kept or thrown away."""

import hashlib
from pathlib import Path

import pytest

from tests.clients.conftest import TOOLS, Connect
from tests.clients.inspector import Inspector
from tests.clients.installation import Installation, Json

CLIENTS = ("mcp1", "mcp2", "langchain", "fastmcp", "openai_agents", "pydantic_ai", "inspector")
MADE = ("image", "variation", "video", "extended", "remix")


@pytest.fixture(params=CLIENTS, scope="module")
def told(request: pytest.FixtureRequest, connect: Connect) -> Json:
    """What a client went through, all of it over one server."""
    if request.param == "inspector":
        inspector: Inspector = request.getfixturevalue("inspector")
        return inspector.session("http")
    status, told = connect(request.param, "http").run(do="session")
    assert status == 0
    return told


def test_every_step_of_a_session_leads_to_the_next(told: Json) -> None:
    assert {tool["name"] for tool in told["tools"]} == TOOLS
    assert "wan-mini" in told["idea"]["text"]
    made = {name: told[name]["structured"] for name in MADE}
    assert {name: facts["status"] for name, facts in made.items()} == dict.fromkeys(made, "succeeded")
    assert made["video"]["request"]["image"] == made["image"]["artifacts"][0]["uri"]
    assert told["film"]["sha256"] == _digest(made["video"])
    assert told["begun"]["structured"]["status"] in ("queued", "running")
    assert told["ended"]["structured"]["status"] == "cancelled"
    assert made["image"]["job_id"] in {job["job_id"] for job in told["found"]["structured"]["jobs"]}
    assert not told["deleted"]["is_error"]
    assert told["gone"]["is_error"]
    assert "list_jobs" in told["gone"]["text"]


def test_a_session_varies_extends_and_describes_what_it_has_made(told: Json) -> None:
    image, variation, video, extended, remix = (told[name]["structured"] for name in MADE)
    assert variation["request"] == image["request"] | {"seed": variation["seed"]}
    assert variation["seed"] != image["seed"]
    assert remix["parent"] == video["job_id"]
    assert remix["seed"] != video["seed"]
    assert extended["artifacts"][0]["frames"] > video["artifacts"][0]["frames"]
    assert told["caption"]["structured"]["caption"]


def test_a_session_leaves_one_engine(told: Json, installation: Installation) -> None:
    assert len(installation.engines()) == 1


def _digest(facts: Json) -> str:
    return hashlib.sha256(Path(facts["artifacts"][0]["path"]).read_bytes()).hexdigest()
