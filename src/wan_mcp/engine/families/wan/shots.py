"""Videos of several shots: each goes on from the last frame of the one before it, and all become one file.

A finished shot is kept on the disk. A job that comes back, because its engine was killed or ended, goes on with the
first shot that is missing, and makes the same frames.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.media.input_videos import frames_of
from wan_mcp.media.kept_shots import KeptShots
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.plans import VideoPlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["make_shots", "write_shots"]

Make = Callable[[VideoPlan, int, Any], "NDArray[np.uint8]"]
"""Makes the frames of a shot from its plan, its number (from 1), and its first frame; None for the plan's own image."""


def make_shots(plan: VideoPlan, kept: KeptShots, make: Make, report: Reporter) -> None:
    """Make the shots of a plan that are not kept yet, and keep them.

    Raises:
        JobFailed: a shot cannot be made; with a code and a reason.
        OutOfSpace: the disk is full.
        JobCancelled, LeaseLost, EngineShutdown: from `report`.
    """
    shots = plan.in_shots()
    done = next((index for index in range(len(shots)) if kept.frames(index) is None), len(shots))
    report.skip(done)
    before = kept.frames(done - 1) if done else None
    for index in range(done, len(shots)):
        first = None if before is None else Image.fromarray(before[-1])
        frames = make(shots[index], index + 1, first)
        report.enter(Stage.WRITE, item=index + 1)
        kept.keep(index, frames)
        before = frames


def write_shots(plan: VideoPlan, kept: KeptShots, writer: VideoWriter, report: Reporter, home: Path) -> None:
    """Write the video that a plan extends, if any, and all its shots, which are kept, as one video.

    The first frame of a shot repeats the last one before it, if there is one, and is left out.

    Raises:
        OutOfSpace: the disk is full.
        JobFailed: ffmpeg cannot write the video, or the video that is extended is gone.
        JobCancelled, LeaseLost, EngineShutdown: from `report`.
    """
    if plan.extends is not None:
        with closing(frames_of(home, plan.extends)) as batches:
            for frames in batches:
                report.tell("the video before")
                writer.add(frames)
    count = len(plan.in_shots())
    for index in range(count):
        report.tell(f"shot {index + 1} of {count}")
        frames = _kept(kept, index)
        writer.add(frames[1:] if index or plan.extends is not None else frames)


def _kept(kept: KeptShots, index: int) -> "NDArray[np.uint8]":
    frames = kept.frames(index)
    assert frames is not None, "every shot was kept"
    return frames
