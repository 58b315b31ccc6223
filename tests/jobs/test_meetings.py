"""Engines agree to run a job together, and none waits long for one that died."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.jobs import meetings
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.meetings import Meeting, find_invitation, helpers, invite, sweep_meetings
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    store = JobStore(Database(tmp_path / "jobs.db"))
    store.submit(video_request(), video_plan(), None, 9)
    claimed = store.claim("cuda:0")
    assert claimed is not None
    return claimed


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meetings, "ACCEPT_S", 0.3)
    monkeypatch.setattr(meetings, "BEGIN_S", 0.3)


class Engine(threading.Thread):
    """An idle engine: accepts what it is invited to."""

    def __init__(self, home: Path, device: str) -> None:
        super().__init__()
        invitation = find_invitation(home, device)
        assert invitation is not None
        self._accept: Callable[[], Any] = invitation.accept
        self.place: Any = "none yet"
        self.start()

    def run(self) -> None:
        self.place = self._accept()


def test_engines_that_accept_get_their_ranks_in_the_order_of_the_invitation(tmp_path: Path, job: Job) -> None:
    meeting = invite(tmp_path, job, ["cuda:2", "cuda:1"])
    engines = {device: Engine(tmp_path, device) for device in ("cuda:1", "cuda:2")}
    meeting = meeting.begin("cuda:0", ["cuda:2", "cuda:1"])
    assert meeting.devices == ("cuda:0", "cuda:2", "cuda:1")
    meeting.start(3)
    for engine in engines.values():
        engine.join()
    assert {device: engine.place for device, engine in engines.items()} == {"cuda:2": (1, 3), "cuda:1": (2, 3)}


def test_an_engine_that_is_not_needed_goes_back_to_the_queue(tmp_path: Path, job: Job) -> None:
    meeting = invite(tmp_path, job, ["cuda:1", "cuda:2"])
    engines = [Engine(tmp_path, device) for device in ("cuda:1", "cuda:2")]
    meeting.begin("cuda:0", ["cuda:1", "cuda:2"]).start(2)
    for engine in engines:
        engine.join()
    assert [engine.place for engine in engines] == [(1, 2), None]


def test_an_engine_that_does_not_answer_is_not_waited_for_long(tmp_path: Path, job: Job) -> None:
    meeting = invite(tmp_path, job, ["cuda:1", "cuda:2"])
    engine = Engine(tmp_path, "cuda:2")
    assert meeting.begin("cuda:0", ["cuda:1", "cuda:2"]).devices == ("cuda:0", "cuda:2")
    meeting.close()
    engine.join()
    assert engine.place is None


def test_an_engine_whose_inviter_died_goes_back_to_the_queue_and_does_not_accept_again(
    tmp_path: Path, job: Job
) -> None:
    invite(tmp_path, job, ["cuda:1"])
    engine = Engine(tmp_path, "cuda:1")
    began = time.monotonic()
    engine.join(10)
    assert engine.place is None
    assert time.monotonic() - began < 10
    assert find_invitation(tmp_path, "cuda:1") is None


def test_an_invitation_is_for_those_that_it_names(tmp_path: Path, job: Job) -> None:
    assert find_invitation(tmp_path, "cuda:1") is None
    invite(tmp_path, job, ["cuda:1"])
    assert find_invitation(tmp_path, "cuda:2") is None
    found = find_invitation(tmp_path, "cuda:1")
    assert found is not None
    assert found.job == job.id


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"devices": 3}', '{"devices": ["cuda:1"], "job": 5}', '{"devices": ' + "[" * 5000],
    ids=range(6),
)
def test_what_is_no_invitation_is_passed_over(tmp_path: Path, job: Job, content: str) -> None:
    meeting = invite(tmp_path, job, ["cuda:1"])
    (meeting.folder / meetings.INVITED).write_text(content)
    assert find_invitation(tmp_path, "cuda:1") is None


def test_only_the_owner_may_enter_a_meeting(tmp_path: Path, job: Job) -> None:
    assert invite(tmp_path, job, ["cuda:1"]).folder.stat().st_mode & 0o077 == 0


def test_meetings_of_jobs_that_do_not_run_are_swept(tmp_path: Path, job: Job) -> None:
    meeting = invite(tmp_path, job, ["cuda:1"])
    sweep_meetings(tmp_path, lambda: {job.id})
    assert meeting.folder.is_dir()
    sweep_meetings(tmp_path, set)
    assert not meeting.folder.exists()


def test_engines_help_from_the_beginning_of_a_job_to_the_end_of_that_attempt(tmp_path: Path, job: Job) -> None:
    meeting = Meeting(invite(tmp_path, job, ["cuda:1"]).folder, job.id, ("cuda:0", "cuda:1"))
    assert helpers(tmp_path, [job]) == {}
    meeting.start(2)
    assert helpers(tmp_path, [job]) == {"cuda:1": job}
    assert helpers(tmp_path, [job.model_copy(update={"attempt": 2})]) == {}
    assert helpers(tmp_path, [job.model_copy(update={"state": JobState.QUEUED})]) == {}


def test_a_meeting_that_begins_during_a_sweep_stays(tmp_path: Path, job: Job) -> None:
    invite(tmp_path, job.model_copy(update={"id": "ended"}), ["cuda:1"])
    begun: list[Path] = []

    def running() -> set[str]:
        begun.append(invite(tmp_path, job, ["cuda:1"]).folder)
        return set()  # as it was before that job was claimed

    sweep_meetings(tmp_path, running)
    assert [*(tmp_path / meetings.FOLDER).iterdir()] == begun
