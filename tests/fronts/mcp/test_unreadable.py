"""Rows and files that cannot be understood, as clients meet them: each is said, and everything else goes on."""

import json
import sqlite3
from contextlib import closing

import anyio
import pytest

from tests.fixtures.mcp_server import Connect
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


def spoil(settings: Settings, job_id: str, assignment: str) -> None:
    with closing(sqlite3.connect(settings.database)) as raw:
        raw.execute(f"UPDATE jobs SET {assignment} WHERE id = ?", (job_id,))
        raw.commit()


async def test_unreadable_jobs_are_said_by_every_list_and_no_other_job_notices(
    settings: Settings, connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            done = [(await runner.call("generate_image", prompt=f"star {i}", steps=1)).job["job_id"] for i in range(3)]
            spoil(settings, done[0], "plan = json_set(plan, '$.task', 'text-to-3d')")
            spoil(settings, done[1], "state = 'queued', plan = '{'")
            listed = await runner.call("list_jobs")
            asked = await runner.call("get_job", job_id=done[1])
            waited = await runner.call("get_job", job_id=done[0], wait_s=PATIENCE_S)
            [gallery] = (await runner.client.read_resource("wan://gallery")).contents
            after = await runner.call("generate_image", prompt="another star", steps=1)
        async with connect(settings) as runner:  # a front that finds them when it starts
            again = await runner.call("generate_image", prompt="a last star", steps=1)
            cancelled = await runner.call("cancel_job", job_id=done[1])
    assert [job["job_id"] for job in listed.job["jobs"]] == [done[2]]
    assert set(listed.job["unreadable"]) == set(done[:2])
    assert all(f"job {bad} (" in listed.text for bad in done[:2])
    for answer, bad in ((asked, done[1]), (waited, done[0]), (cancelled, done[1])):
        assert answer.result.is_error
        assert f"job {bad}" in answer.text and "is unreadable: plan" in answer.text and "doctor --repair" in answer.text
    shown = json.loads(gallery.text)  # type: ignore[union-attr]
    assert [result["job_id"] for result in shown["results"]] == [done[2]]
    assert list(shown["unreadable"]) == [done[0]]
    assert after.job["status"] == again.job["status"] == "succeeded"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name = ", b"x = " + b"[" * 20_000, b"", None])
async def test_a_manifest_that_cannot_be_read_costs_only_its_own_model(
    settings: Settings, connect: Connect, content: bytes | None
) -> None:
    file = settings.home / "manifests" / "mine.toml"
    file.parent.mkdir(parents=True)
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    (settings.home / "manifests" / "gone.toml").symlink_to("nowhere.toml")
    async with connect(settings) as runner:
        listed = await runner.call("list_resolutions")
    assert "wan-mini" in [model["name"] for model in listed.job["models"]]
    assert str(file) in listed.job["broken"]["mine"]
    assert "gone" in listed.job["broken"]
