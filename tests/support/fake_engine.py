"""Engines for tests: the true life of an engine process around a runner that only pretends, or misbehaves.

`python tests/support/fake_engine.py NAME` is an engine; the front starts it through `engine_command`.
What it makes is small but real: a picture is a PNG, a contact sheet a JPEG. A file called `pace`
in the home folder holds how many denoising steps it may do in all; without one it does not wait.
"""

import errno
import io
import logging
import math
import os
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wan_mcp.engine.worker.bare_runner import BareRunner
from wan_mcp.engine.worker.loop import Runner, run_engine
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import JobFailed
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, VideoPlan
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISBEHAVES_AT = 2  # the denoising step
STROLL_S = 0.06  # of each step, for those who want to catch the engine in the middle
LOST = threading.Event()
Trick = Callable[[Job], None]


class FakeStudio(BareRunner):
    """Goes through all stages of a plan and does `trick` in the middle."""

    def __init__(self, settings: Settings, trick: Trick, step_s: float = 0.0) -> None:
        self._media = MediaStore(settings.home)
        self._pace = settings.home / "pace"
        self._trick = trick
        self._step_s = step_s
        self._steps_done = 0
        self._loaded = LoadedModels()

    def loaded(self) -> LoadedModels:
        """What it pretends to have loaded."""
        return self._loaded

    def device_lost(self) -> bool:
        """By the trick of that name."""
        return LOST.is_set()

    def run(self, job: Job, report: Reporter) -> str | None:
        """Pretend to run a job's plan."""
        plan = job.plan
        if not self._loaded.has(plan, "auto"):
            report.enter(Stage.LOAD)
        self._loaded = self._loaded.after(plan, "auto")
        report.enter(Stage.ENCODE)
        if isinstance(plan, CaptionPlan):
            report.enter(Stage.DENOISE)
            self._trick(job)
            return f"a picture of {plan.image.width}x{plan.image.height}"
        for item in range(1, plan.runs + 1):
            report.enter(Stage.DENOISE, item=item)
            report.step(0, plan.steps)
            for step in range(1, plan.steps + 1):
                self._wait_for_leave(report)
                time.sleep(self._step_s)
                if step == MISBEHAVES_AT:
                    self._trick(job)
                self._steps_done += 1
                report.step(step, plan.steps)
                if report.previews.due():
                    report.previews.show(_frames(job.attempt), (plan.width, plan.height), 0.0)
            report.enter(Stage.DECODE, item=item)
            report.enter(Stage.WRITE, item=item)
            if item > plan.runs - plan.count:  # shots are one file
                report.add(self._write(job, plan, item - plan.runs + plan.count))
        return None

    def _wait_for_leave(self, report: Reporter) -> None:
        while self._pace.exists() and self._steps_done >= int(self._pace.read_text() or 0):
            report.check()
            time.sleep(0.005)

    def _write(self, job: Job, plan: VideoPlan | ImagePlan, item: int) -> Artifact:
        name = MediaName.of(job.id, item - 1, plan.kind)
        seed = plan.seed + item - 1
        path = self._media.path(name)
        video = isinstance(plan, VideoPlan)
        with whole(path) as temporary:
            temporary.write_bytes(_video(seed) if video else _png(plan.width, plan.height, seed))
        if video:
            with whole(self._media.sheet(name)) as temporary:
                temporary.write_bytes(_jpeg(seed))
        return Artifact(
            uri=name.uri,
            mime_type=name.mime_type,
            bytes=path.stat().st_size,
            width=plan.width,
            height=plan.height,
            frames=plan.total_frames if isinstance(plan, VideoPlan) else None,
            fps=plan.fps if isinstance(plan, VideoPlan) else None,
            duration_s=plan.duration_s if isinstance(plan, VideoPlan) else None,
            seed=seed,
            path=str(path),
        )


def _frames(attempt: int) -> "NDArray[np.uint8]":
    """Four frames of one colour, brighter with each attempt."""
    import numpy as np

    return np.full((4, 2, 2, 3), 60 * attempt, np.uint8)


def _video(seed: int) -> bytes:
    """The head of an mp4 and 120 kB that only this seed gives."""
    return b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + struct.pack(">I", seed) * 30_000


def _png(width: int, height: int, seed: int) -> bytes:
    row = b"\x00" + bytes((seed % 256, seed // 256 % 256, 128)) * width
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * height)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _jpeg(seed: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (64, 64), (seed % 256, 0, 128)).save(out, "JPEG")
    return out.getvalue()


def _raise(job: Job) -> None:
    raise ZeroDivisionError("a defect of the engine")


def _lose_the_device_once(job: Job) -> None:
    if job.crashes == 0:
        LOST.set()
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _fail(job: Job) -> None:
    raise JobFailed("out_of_memory", "The device has not enough memory for this size; choose a smaller one.")


def _lack_memory_on_the_first(job: Job) -> None:
    if job.device == "cuda:0":
        raise JobFailed("too_large_for_device", "This size needs more memory than the device has.")


def _exit(job: Job) -> None:
    sys.exit(3)


def _kill(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _abort(job: Job) -> None:
    os.abort()


def _kill_once(job: Job) -> None:
    if job.crashes == 0:
        _kill(job)


def _hang_once(job: Job) -> None:
    if job.crashes == 0:
        threading.Event().wait()


def _want_a_thread(job: Job, until: float = math.inf) -> None:
    if job.attempt <= until:
        threading.stack_size(1 << 47)  # more than any machine has: as if there were no threads
        try:
            threading.Thread(target=print).start()
        finally:
            threading.stack_size(0)


def _want_a_file(job: Job) -> None:
    if job.attempt == 1:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _print(job: Job) -> None:
    print("stray words on stdout", flush=True)  # noqa: T201
    os.write(1, b"and stray bytes\n")


TRICKS: dict[str, Trick] = {
    "works": lambda job: None,
    "strolls": lambda job: None,
    "raises": _raise,
    "fails": _fail,
    "lacks_memory_on_the_first": _lack_memory_on_the_first,
    "exits": _exit,
    "killed": _kill,
    "aborts": _abort,
    "killed_once": _kill_once,
    "hangs_once": _hang_once,
    "prints": _print,
    "lacks_threads": _want_a_thread,
    "lacks_threads_twice": lambda job: _want_a_thread(job, 2),
    "lacks_files_once": _want_a_file,
    "loses_its_device_once": _lose_the_device_once,
}


def build_strolling(settings: Settings) -> Runner:
    """Build a runner that can be caught in the middle, in a process without secrets."""
    assert not {"WAN_MCP_HTTP_TOKEN", "WAN_MCP_ON_DONE", "SOME_API_KEY"} & set(os.environ)
    return FakeStudio(settings, TRICKS["works"], STROLL_S)


def main(name: str) -> None:
    """Be the engine called `name`."""
    if name == "dies_at_start":
        raise ImportError("no module named 'torch'")
    settings = Settings()
    logging.basicConfig(level=settings.log_level)

    def build(settings: Settings) -> Runner:
        return FakeStudio(settings, TRICKS[name], STROLL_S if name == "strolls" else 0.0)

    run_engine(settings, build, lambda: os.environ.get("AUTO_DEVICE", "cpu").split(","))


if __name__ == "__main__":
    main(Path(sys.argv[1]).name)
