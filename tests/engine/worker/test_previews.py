"""Live previews are made only for those who look, and take a hundredth of the time at most."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fixtures.job_table import video_plan
from wan_mcp.engine.worker import previews as module
from wan_mcp.engine.worker.previews import Previews
from wan_mcp.media.previews import PreviewStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job

STEP_S, STEPS = 0.2, 2_000
FRAMES = np.zeros((1, 2, 2, 3), np.uint8)
JOB = Job(id="0" * 20, request_id=None, state=JobState.RUNNING, plan=video_plan(), created_at=0.0)


class Denoising(PreviewStore):
    """A job that is denoised in a time of the test's, and its previews, each of which takes so long."""

    def __init__(self, home: Path, frames_s: float, write_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(home)
        self.frames_s, self.write_s = frames_s, write_s
        self.now = self.written_s = 0.0
        self.made: list[float] = []
        monkeypatch.setattr(
            module, "time", SimpleNamespace(monotonic=lambda: self.now, thread_time=lambda: self.written_s)
        )

    def write(self, *arguments: Any) -> None:
        super().write(*arguments)
        self.written_s += self.write_s

    def run(self, *, looked_at: bool) -> None:
        previews = Previews(self, JOB)
        for _ in range(STEPS):
            self.now += STEP_S
            if looked_at:
                self.look(JOB.id)
            if previews.due():
                self.made.append(self.now)
                previews.show(FRAMES, (32, 32), self.frames_s)
                previews.write()


def test_nothing_is_made_while_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoising = Denoising(tmp_path, 0.001, 0.001, monkeypatch)
    denoising.run(looked_at=False)
    assert denoising.made == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("frames_s", "write_s", "apart_s"), [(0.0009, 0.010, 1.2), (0.05, 0.0, 5.0), (0.0, 0.05, 5.0), (0.5, 0.5, 100.0)]
)
def test_previews_take_a_hundredth_of_the_time_at_most(
    frames_s: float, write_s: float, apart_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoising = Denoising(tmp_path, frames_s, write_s, monkeypatch)
    denoising.run(looked_at=True)
    assert len(denoising.made) >= 3, "somebody looks"
    assert len(denoising.made) * (frames_s + write_s) <= 0.01 * (denoising.now + apart_s)
    assert np.diff(denoising.made).min() >= apart_s - STEP_S - 1e-6
