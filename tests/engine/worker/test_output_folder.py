"""One result in an output folder: another disk, names that are taken, and a disk that does not answer."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.engine.worker import output_folder
from wan_mcp.engine.worker.output_folder import OutputFolder
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.turns import Asker
from wan_mcp.schema.jobs import Artifact, Job


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "jobs.db")
    yield database
    database.close()


@pytest.fixture
def result(tmp_path: Path) -> Artifact:
    file = tmp_path / "a-0.png"
    file.write_bytes(b"a result")
    return Artifact(uri="wan://images/x", mime_type="image/png", bytes=8, width=8, height=8, seed=1, path=str(file))


@pytest.fixture
def job(database: Database, tmp_path: Path) -> Job:
    store = JobStore(database, lambda: 1_795_867_200.0)
    return store.submit(video_request(), video_plan(), None, 9, asker=Asker(output_dir=str(tmp_path / "Results")))


def test_another_disk_gets_a_copy_and_a_second_attempt_finds_it(
    database: Database, job: Job, result: Artifact, tmp_path: Path, mount_disk: Callable[[int], Path]
) -> None:
    (tmp_path / "Results").symlink_to(mount_disk(64))
    first, note = OutputFolder(database, job).save(result)
    second, _ = OutputFolder(database, job).save(result)  # of an engine that did not live to write the row
    assert note is None
    assert first.saved_as == second.saved_as
    assert first.saved_as is not None
    assert Path(first.saved_as).read_bytes() == b"a result"
    assert not Path(first.saved_as).samefile(result.path)
    assert len(names(tmp_path / "Results")) == 1


@pytest.mark.parametrize("kind", ["file", "folder", "link", "broken link", "pipe"])
def test_nothing_that_has_the_name_is_overwritten_or_taken_for_the_result(
    database: Database, job: Job, result: Artifact, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "Results"
    saved, _ = OutputFolder(database, job).save(result)
    assert saved.saved_as is not None
    taken = Path(saved.saved_as)
    taken.unlink()
    match kind:
        case "file":
            taken.write_bytes(b"no match")
        case "folder":
            taken.mkdir()
        case "link":
            taken.symlink_to(result.path)
        case "broken link":
            taken.symlink_to(tmp_path / "nothing")
        case "pipe":
            os.mkfifo(taken)
    before = taken.lstat()
    saved, note = OutputFolder(database, job).save(result)
    assert note is None
    assert saved.saved_as == str(taken.with_stem(f"{taken.stem}-2"))
    assert taken.lstat() == before
    assert len(names(folder)) == 2


def test_a_disk_that_does_not_answer_is_not_waited_for(
    database: Database, job: Job, result: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "never")
    stuck = result.model_copy(update={"path": result.path})
    monkeypatch.setattr(output_folder, "PATIENCE_S", 0.05)
    monkeypatch.setattr(output_folder, "link_or_copy", lambda *_: (tmp_path / "never").read_bytes())
    saver = OutputFolder(database, job)
    saved, note = saver.save(stuck)
    assert saved == stuck
    assert note is not None
    assert "did not answer" in note
    assert saver.save(stuck) == (stuck, None)  # it is said once
    (tmp_path / "never").write_bytes(b"")  # lets the thread end
