"""What a job says if the process that should sign its results has not the certificate that it asks for."""

from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan
from wan_mcp.engine.worker.signatures import Signatures
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import EngineSettings
from wan_mcp.settings import Settings

UNSIGNED = Artifact(uri="wan://videos/a.mp4", path="a.mp4", mime_type="video/mp4", bytes=1, width=8, height=8, seed=1)


@pytest.mark.parametrize(
    ("device", "way_out"), [("cuda:0", "end it with 'wan-mcp engine stop'"), ("cuda:0@box-1a2b3c", "'wan-mcp cluster'")]
)
def test_the_note_names_the_process_that_lacks_the_certificate(device: str, way_out: str, tmp_path: Path) -> None:
    plan = video_plan().model_copy(update={"engine": EngineSettings(credentials="ab" * 32)})
    job = Job(id="0" * 20, request_id=None, state=JobState.RUNNING, plan=plan, created_at=0.0, device=device)
    signatures = Signatures(Settings(home=tmp_path), job)
    same, note = signatures.sign(UNSIGNED)
    assert (same, note is not None and "no certificate" in note and way_out in note) == (UNSIGNED, True)
    assert ("engine stop" in (note or "")) == ("@" not in device)
    assert signatures.sign(UNSIGNED) == (UNSIGNED, None), "one note a job"
