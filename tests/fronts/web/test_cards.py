"""Cards of jobs whose results were checked, and of those that have failed."""

from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.fronts.web.cards import Cards
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact, Check, Job, JobError
from wan_mcp.service.queue import JobView
from wan_mcp.settings import Settings


def test_a_result_that_was_checked_has_a_card(tmp_path: Path) -> None:
    check = Check(captioner="wan-mini-caption", says="a red star", missing=("blue (star)",), score=0.5)
    artifact = Artifact(
        uri="wan://images/00000000000000000000-0.png", mime_type="image/png", bytes=1, width=8, height=8, seed=1,
        path=str(tmp_path / "media/images/00000000000000000000-0.png"), check=check,
    )  # fmt: skip
    file = Cards(MediaStore(tmp_path), Catalog(shipped_folder()), Settings(home=tmp_path))._file(artifact)
    assert (file.uri, file.width) == (artifact.uri, 8)


@pytest.mark.parametrize(
    ("code", "does"),
    [
        ("engine_died", "retry"),
        ("machine_short", "retry"),
        ("hub_unreachable", "get_model"),
        ("out_of_space", "make_room"),
        ("write_failed", "make_room"),
        ("lora_missing", "remix"),
        ("input_missing", "remix"),
        ("bad_numbers", "remix"),
        ("too_large_for_device", "remix"),  # the embedded model has no smaller size
    ],
)
def test_the_button_of_a_failed_job_does_what_can_help(code: str, does: str, tmp_path: Path) -> None:
    job = Job(
        id="j", request_id=None, state=JobState.FAILED, plan=video_plan(num_frames=5), created_at=0.0,
        error=JobError(code=code, message="It went wrong."),
    )  # fmt: skip
    problem = Cards(MediaStore(tmp_path), Catalog(shipped_folder()), Settings(home=tmp_path)).card(JobView(job)).problem
    assert problem is not None and problem.action is not None
    assert (problem.error, problem.action.do) == ("It went wrong.", does)
