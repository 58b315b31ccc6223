"""Downloads inside a job: progress, cancelling, switching them off, and the whole way from a client's call."""

import shlex
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from mcp import Client
from mcp.types import CallToolResult

from tests.fixtures.bench import Ear
from tests.fixtures.hub import FILES, LARGE, REPOSITORY, manifest_of
from tests.support.layouts import save_tiny, write_in_small
from tests.support.loopback import Fault, LoopbackHub
from tests.support.patience import PATIENCE_S
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.components.install import Installed, install
from wan_mcp.errors import JobCancelled, JobFailed
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings
from wan_mcp.weights.fetch import fetch
from wan_mcp.weights.hub import Hub

MANIFEST = manifest_of()
ENGINE = """
from wan_mcp.engine.worker.loop import run_engine
from wan_mcp.settings import Settings
def build(settings):
    from wan_mcp.engine.runner import build_runner
    return build_runner(settings)
run_engine(Settings(), build, lambda: ["cpu"])
"""


class Bench:
    """A running job of a model that is on the hub, as an engine has it."""

    def __init__(self, settings: Settings, hub: LoopbackHub) -> None:
        self.settings = settings
        self.hub = Hub(hub.endpoint, settings.home.parent / "cache", False)
        self.store = JobStore(Database(settings.database))

    def job(self, download_limit: int | None = None) -> Job:
        catalog = Catalog()
        catalog.manifests[MANIFEST.name] = MANIFEST
        request = VideoRequest(prompt="x", model=MANIFEST.name)
        self.store.submit(
            request, Planner(self.settings, catalog).plan(request), None, 99, download_limit=download_limit
        )
        job = self.store.claim("cpu")
        assert job is not None
        return job

    def install(self, ear: Ear, **changes: object) -> Installed:
        settings = self.settings.model_copy(update=changes)
        return install(MANIFEST, settings, ear, hub=self.hub, limit=ear.job.download_limit)


@pytest.fixture
def bench(settings: Settings, hub: LoopbackHub) -> Iterator[Bench]:
    hub.add(REPOSITORY, FILES)
    settings.home.mkdir(exist_ok=True)
    bench = Bench(settings, hub)
    yield bench
    bench.store.database.close()


def test_a_download_switched_off_is_refused_with_the_command_that_does_it(bench: Bench, hub: LoopbackHub) -> None:
    with Ear(bench.job(), bench.store, bench.settings) as ear, pytest.raises(JobFailed) as failure:
        bench.install(ear, auto_download=False)
    assert failure.value.code == "model_not_local"
    assert "wan-mcp pull tiny" in str(failure.value)
    assert not hub.requests
    with Ear(bench.job(), bench.store, bench.settings) as ear:
        bench.install(ear)
        bench.install(ear, auto_download=False)


def test_a_job_whose_caller_did_not_agree_to_its_download_fails_and_brings_nothing(
    bench: Bench, hub: LoopbackHub
) -> None:
    """The door counts by the manifest, which may say too little; the engine counts what the hub lists."""
    with Ear(bench.job(1000), bench.store, bench.settings) as ear, pytest.raises(JobFailed) as failure:
        bench.install(ear)
    assert failure.value.code == "download_needs_consent"
    assert not hub.file_requests()
    with Ear(bench.job(), bench.store, bench.settings) as ear:
        bench.install(ear)


def test_what_a_caller_agreed_to_is_known_to_every_engine_that_claims_the_job(bench: Bench) -> None:
    for limit in (None, 1000):
        job = bench.job(limit)
        bench.store.release(job)
        again = bench.store.claim("cpu")
        assert again is not None
        assert (again.id, again.attempt, again.download_limit) == (job.id, 2, limit)


def test_a_download_that_fails_fails_its_job_with_the_reason(bench: Bench, hub: LoopbackHub) -> None:
    hub.add(REPOSITORY, FILES, token="secret", gated=True)
    with Ear(bench.job(), bench.store, bench.settings) as ear, pytest.raises(JobFailed, match="HF_TOKEN") as failure:
        bench.install(ear)
    assert failure.value.code == "hub_gated"


def test_files_that_were_copied_are_read_once_more_in_sight_of_who_waits_and_may_be_stopped(bench: Bench) -> None:
    with Ear(bench.job(), bench.store, bench.settings) as ear:
        folder = bench.install(ear).folder
    for file in (folder / LARGE, folder / "vae/diffusion_pytorch_model.safetensors"):
        file.touch()
    ear = Ear(bench.job(), bench.store, bench.settings)
    ear.stop_at, ear.error = lambda ear: len(ear.details) == 2, JobCancelled
    with ear, pytest.raises(JobCancelled):
        bench.install(ear)
    assert ear.heard == [(Stage.CHECK, 1)]
    assert all(" of 515.0 kB at " in detail for detail in ear.details), ear.details
    with Ear(bench.job(), bench.store, bench.settings) as ear:
        bench.install(ear)
    assert len(ear.details) == 1, "the file that had been read before the cancel is not read again"
    with Ear(bench.job(), bench.store, bench.settings) as ear:
        bench.install(ear)
    assert ear.details == []


class Onlooker(threading.Thread):
    """Another process's view of a job in its download: waits for a detail, then cancels it."""

    def __init__(self, bench: Bench, job: Job, fault: Fault) -> None:
        super().__init__(daemon=True)
        self._database = Database(bench.settings.database)
        self._job, self._fault = job, fault
        self.seen: list[Progress] = []
        self.deadline_at = 0.0
        self.start()

    def run(self) -> None:
        store, watch = JobStore(self._database), self._database.watch()
        assert self._fault.held.wait(PATIENCE_S)
        while not self.seen or " of " not in self.seen[-1].detail:
            watch.wait(5)
            if (progress := store.get(self._job.id).progress) is not None:
                self.seen.append(progress)
        row = WorkerRegistry(self._database).get("cpu")
        self.deadline_at = row.deadline_at if row else 0.0
        store.cancel(self._job.id)
        watch.close()
        self._database.close()


def test_a_download_shows_in_the_job_renews_its_deadline_and_stops_when_cancelled(
    bench: Bench, hub: LoopbackHub
) -> None:
    fault = hub.fail(Fault(LARGE, hold_at=100_000))
    WorkerRegistry(bench.store.database).register("cpu", 0.0)
    job = bench.job()
    onlooker = Onlooker(bench, job, fault)
    with Ear(job, bench.store, bench.settings) as ear, pytest.raises(JobCancelled):
        bench.install(ear)
    onlooker.join(PATIENCE_S)
    assert not fault.expired.is_set()  # the answer that is being held is not waited for
    assert onlooker.seen[-1].stage is Stage.DOWNLOAD
    assert "of 515.0 kB" in onlooker.seen[-1].detail
    assert onlooker.deadline_at > time.time()
    hub.faults.clear()
    fault.go.set()
    with Ear(bench.job(), bench.store, bench.settings) as ear:
        weights = bench.install(ear)
    assert (weights.folder / LARGE).read_bytes() == FILES[LARGE]
    assert [r.range for r in hub.file_requests() if r.path.endswith(LARGE)][-1] is not None


@dataclass
class Distant:
    """A model on the hub, the settings of an engine that finds it there, and a download that stops until told to go."""

    settings: Settings
    model: str
    fault: Fault
    cache: Path

    @property
    def call(self) -> dict[str, object]:
        return {"prompt": "a red circle", "model": self.model, "resolution": "64x64", "num_frames": 5, "steps": 2} | {
            "download": True
        }

    async def started(self, client: Client) -> str:
        """A job whose download is being held; gives its id."""
        job = structured(await client.call_tool("generate_video", {**self.call, "wait_s": 0}))
        await run_sync(self.fault.held.wait, PATIENCE_S)
        return str(job["job_id"])

    async def downloading(self, client: Client, job_id: str) -> None:
        """Wait until a job shows that it downloads, which is being held."""
        shown = None
        while shown != ("running", "downloading"):
            job = structured(await client.call_tool("get_job", {"job_id": job_id, "wait_s": 0.1}))
            shown = job["status"], job["stage"]
            assert shown in (("running", "loading"), ("running", "downloading"))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with serving(self.settings) as service, Client(build_server(service)) as client:
            yield client


@pytest.fixture
def distant(settings: Settings, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distant:
    manifest = write_in_small("wan2.1-t2v-1.3b", settings.home)
    assert manifest.weights.repository is not None
    save_tiny(manifest, tmp_path / "tiny")
    hub.add(manifest.weights.repository, tmp_path / "tiny")
    fault = hub.fail(Fault("vae/*.safetensors", hold_at=1000, times=None))  # a read that is tried again is held, too
    for name, value in {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": ""}.items():
        monkeypatch.setenv(name, value)
    real = settings.model_copy(update={"engine_command": shlex.join([sys.executable, "-c", ENGINE])})
    return Distant(real, manifest.name, fault, tmp_path / "hf" / "hub")


def structured(answer: CallToolResult) -> dict[str, Any]:
    content: dict[str, Any] | None = answer.structured_content
    assert content is not None, answer
    return content


@pytest.mark.anyio
async def test_the_first_call_of_a_client_downloads_the_model_and_makes_the_video(distant: Distant) -> None:
    words: list[str] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        words.append(message or "")
        if words[-1].startswith("Downloading") and " of " in words[-1]:
            distant.fault.go.set()

    async with distant.client() as client:
        answer = await client.call_tool(
            "generate_video", {**distant.call, "wait_s": PATIENCE_S}, progress_callback=listen
        )
    assert structured(answer)["status"] == "succeeded", answer
    assert [word for word in words if word.startswith("Downloading")]
    assert (distant.cache / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers").is_dir()


@pytest.mark.anyio
async def test_a_download_holds_up_no_job_but_those_of_its_own_model(distant: Distant) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with distant.client() as client:
            first, second = [
                structured(await client.call_tool("generate_video", {**distant.call, "seed": seed, "wait_s": 0}))
                for seed in (1, 2)
            ]
            still = {"prompt": "a blue star", "steps": 2, "wait_s": PATIENCE_S}
            image = structured(await client.call_tool("generate_image", still))
            await distant.downloading(client, first["job_id"])
            waiting = structured(await client.call_tool("get_job", {"job_id": second["job_id"], "wait_s": 0}))
            distant.fault.go.set()
            ends = [
                structured(await client.call_tool("get_job", {"job_id": job["job_id"], "wait_s": PATIENCE_S}))
                for job in (first, second)
            ]
    assert image["status"] == "succeeded"
    assert (waiting["status"], waiting["queue_position"]) == ("queued", 1)
    assert [end["status"] for end in ends] == ["succeeded"] * 2
    assert ends[0]["finished_at"] < ends[1]["finished_at"]


@pytest.mark.anyio
async def test_an_engine_that_is_told_to_leave_gives_back_the_job_that_it_downloads_for(distant: Distant) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with distant.client() as client:
            job_id = await distant.started(client)
            database = Database(distant.settings.database)
            row = WorkerRegistry(database).get(distant.settings.device)
            engine = row.process() if row else None
            assert engine is not None
            engine.terminate()
            await run_sync(engine.wait, PATIENCE_S)
            distant.fault.go.set()
            end = structured(await client.call_tool("get_job", {"job_id": job_id, "wait_s": PATIENCE_S}))
            deaths = JobStore(database).get(job_id).crashes
            database.close()
    assert (end["status"], deaths) == ("succeeded", 0)


@pytest.mark.anyio
async def test_a_download_beside_other_jobs_can_be_cancelled(distant: Distant) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with distant.client() as client:
            job_id = await distant.started(client)
            await client.call_tool("cancel_job", {"job_id": job_id})
            end = structured(await client.call_tool("get_job", {"job_id": job_id, "wait_s": PATIENCE_S}))
    assert end["status"] == "cancelled"


@pytest.mark.anyio
async def test_a_client_sees_which_models_are_ready(settings: Settings, tmp_path: Path, hub: LoopbackHub) -> None:
    name = "wan2.1-t2v-1.3b"
    manifest = Catalog(shipped_folder()).get(name)
    assert manifest.weights.repository is not None

    async def look(changed: Settings) -> tuple[dict[str, bool], str]:
        async with serving(changed) as service, Client(build_server(service)) as client:
            answer = await client.call_tool("list_resolutions", {})
            details = await client.call_tool("list_resolutions", {"model": name})
        assert answer.structured_content is not None
        return {m["name"]: m["ready"] for m in answer.structured_content["models"]}, str(details.content)

    ready, words = await look(settings)
    assert (ready["wan-mini"], ready[name]) == (True, False)
    assert "not downloaded (its first job with download=true downloads them)" in words
    _, words = await look(settings.model_copy(update={"max_download_gb": 100}))
    assert "not downloaded (its first job downloads them)" in words
    _, words = await look(settings.model_copy(update={"auto_download": False}))
    assert f"not downloaded (run 'wan-mcp pull {name}')" in words
    save_tiny(manifest, tmp_path / "tiny")
    hub.add(manifest.weights.repository, tmp_path / "tiny")
    fetch(manifest, settings.home, lambda _: None, hub=Hub(hub.endpoint, tmp_path / "cache", False))
    ready, words = await look(settings)
    assert ready[name]
    assert "on this machine" in words
