"""Engines sign the results of jobs whose fronts have a certificate, and no trouble with it loses a result."""

from pathlib import Path

import anyio
import psutil
import pytest
from anyio.to_thread import run_sync

from tests.support.certificates import write_signing_pair
from tests.support.content_credentials import credentials_of
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import UserError
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import CaptionRequest, ImageRequest
from wan_mcp.service.engine_control import engines_of, stop_engine
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


async def made(service: JobService, **asked: int) -> Job:
    view = await service.submit(ImageRequest(prompt="a red star", **asked))
    with anyio.fail_after(PATIENCE_S):
        job = (await service.wait(view.job.id, PATIENCE_S)).job
    assert job.state is JobState.SUCCEEDED
    return job


async def test_a_job_is_signed_if_its_front_has_a_certificate_and_its_engine_the_same(
    settings: Settings, tmp_path: Path
) -> None:
    certificate, key = write_signing_pair(tmp_path, "own")
    signing = settings.model_copy(
        update={"c2pa_cert": certificate, "c2pa_key": key, "output_dir": tmp_path / "Results"}
    )
    async with serving(settings) as plain, serving(signing) as service:
        assert not (await made(plain)).notes
        job = await made(service, count=2)  # by an engine that was started without a certificate
        [note] = job.notes
        assert "not signed with content credentials: the engine that ran this job has no certificate" in note
        assert credentials_of(Path(job.artifacts[0].path), "image/png") is None

        [engine] = await run_sync(engines_of, settings.home)
        await run_sync(lambda: stop_engine(settings.home, engine, seconds=PATIENCE_S))
        job = await made(service, count=2)
        assert not job.notes
        for artifact in job.artifacts:
            found = credentials_of(Path(artifact.path), "image/png")
            assert found is not None
            assert (found["actions"], found["models"]) == (["c2pa.created"], [job.plan.model])
            assert artifact.bytes == len(content_of(artifact.path))
            assert artifact.saved_as is not None
            assert content_of(artifact.saved_as) == content_of(artifact.path)
        jpeg, media_type = await service.conversions.find(job.artifacts[0].uri.replace(".png", ".jpg"))
        found = credentials_of(jpeg, media_type)
        assert found is not None
        assert found["parents"] == ["parentOf"]
        caption = (await service.submit(CaptionRequest(image=job.artifacts[0].uri))).job
        assert caption.plan.engine is None or caption.plan.engine.credentials is None
        assert credentials_of(Path((await made(plain)).artifacts[0].path), "image/png") is None  # it did not ask

        secret = key.read_text()
        [engine] = await run_sync(engines_of, settings.home)
        assert secret not in str(psutil.Process(engine.pid).environ())
        key.chmod(0o644)  # what the next front reads is refused before there is a job
        with pytest.raises(UserError, match="chmod 600"):
            await made(service)
        for log in (settings.home / "logs").glob("*.log"):
            assert "PRIVATE KEY" not in log.read_text()
