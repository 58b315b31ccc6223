"""A program of the owner's is told of every job that has ended: at least once, by one front, without holding it up."""

import base64
import hmac
import json
import logging
import os
import ssl
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from tests.support.certificates import write_web_pair
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import OutOfSpace
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.notices import Notices, key_of
from wan_mcp.logs import log_to_stderr
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import ImageRequest
from wan_mcp.service import on_done
from wan_mcp.service.done_command import run_command
from wan_mcp.service.service import JobService, serving
from wan_mcp.service.webhook import post, secret_file
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
DANGEROUS = "a $(touch X) `touch X`; touch X\n'\" red star"


@dataclass
class Receiver:
    """A web server of the owner's."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    """What it answers next; 204 when there is nothing left."""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    async def until(self, count: int) -> None:
        """Wait for so many notices."""

        def wait() -> bool:
            with self.news:
                return self.news.wait_for(lambda: len(self.received) >= count, PATIENCE_S)

        assert await anyio.to_thread.run_sync(wait)


@contextmanager
def receiving(ssl_pair: tuple[Path, Path] | None = None) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.news:
                receiver.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                receiver.news.notify_all()
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if ssl_pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*ssl_pair)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if ssl_pair is None else "https"
    receiver.url = f"{scheme}://127.0.0.1:{server.server_port}/done?secret=1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for that a test does not mean."""
    monkeypatch.setattr(on_done, "LOOK_S", 0.05)
    monkeypatch.setattr(on_done, "PAUSES_S", (0.05, 0.05))


def telling(settings: Settings, target: str) -> Settings:
    return settings.model_copy(update={"on_done": target})


async def finished(service: JobService, prompt: str = "a red star") -> str:
    view = await service.submit(ImageRequest(prompt=prompt))
    assert (await service.wait(view.job.id, PATIENCE_S)).job.state.final
    return view.job.id


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for is in the table
            await anyio.sleep(0.02)


def due(settings: Settings) -> list[str]:
    database = Database(settings.database)
    try:
        return [each.job_id for each in Notices(database).due(key_of(settings.on_done), 1e12)]
    finally:
        database.close()


def verify(home: Path, headers: dict[str, str], body: bytes) -> None:
    """Check a signature as the specification of Standard Webhooks says."""
    key = base64.b64decode(secret_file(home).read_text().strip().removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


async def test_a_url_gets_a_signed_notice_that_names_no_file_of_this_machine(
    settings: Settings, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    settings = telling(settings, receiver.url)
    caplog.set_level(logging.INFO)
    log_to_stderr("INFO")  # as every front
    async with serving(settings) as service:
        job_id = await finished(service)
        await receiver.until(1)
    [(headers, body)] = receiver.received
    verify(settings.home, headers, body)
    assert headers["webhook-id"] == job_id
    notice = json.loads(body)
    assert (notice["type"], notice["data"]["job_id"], notice["data"]["prompt"]) == (
        "job.succeeded",
        job_id,
        "a red star",
    )
    assert notice["data"]["files"][0]["media"] == f"/media/images/{job_id}-0.png"
    assert str(settings.home) not in body.decode()
    assert stat.S_IMODE(secret_file(settings.home).stat().st_mode) == 0o600
    assert due(settings) == []
    assert "secret=1" not in caplog.text


async def test_a_notice_is_repeated_until_it_arrives(settings: Settings, receiver: Receiver) -> None:
    receiver.statuses += [500, 302]
    settings = telling(settings, receiver.url)
    async with serving(settings) as service:
        job_id = await finished(service)
        await receiver.until(3)
        await until(lambda: not due(settings))
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {job_id}
    assert len({body for _, body in receiver.received}) == 1


@pytest.mark.parametrize("statuses", [[500] * 9, [410]])
async def test_a_notice_that_never_arrives_is_given_up(
    settings: Settings, receiver: Receiver, statuses: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses += statuses
    settings = telling(settings, receiver.url)
    async with serving(settings) as service:
        await finished(service)
        await until(lambda: not due(settings))
    assert len(receiver.received) == (3 if len(statuses) > 1 else 1)
    assert "is given up" in caplog.text
    assert "secret=1" not in caplog.text


async def test_a_notice_outlives_the_front_that_owes_it(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = telling(settings, receiver.url)
    monkeypatch.setattr(on_done, "PAUSES_S", (0.0,) * 1000)
    monkeypatch.setattr(on_done, "SETTLES_S", 0.0)
    receiver.statuses += [503] * 100_000
    async with serving(settings) as service:
        job_id = await finished(service)
        await receiver.until(1)
    assert due(settings) == [job_id]
    receiver.statuses.clear()
    async with serving(settings):
        await until(lambda: not due(settings))


async def test_one_notice_that_cannot_be_made_or_has_an_odd_row_costs_no_other(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = on_done.notice_of

    def notice(job: Job, *, paths: bool) -> bytes:
        if job.plan.prompt_asked == "a defect":
            raise IndexError("nobody expects this")
        return whole(job, paths=paths)

    monkeypatch.setattr(on_done, "notice_of", notice)
    settings = telling(settings, receiver.url)
    receiver.statuses += [503]
    async with serving(settings) as service:
        odd = await finished(service)
        await receiver.until(1)
        with closing(Database(settings.database)) as database, database.write() as connection:
            connection.execute("UPDATE notices SET attempts = -100, next_at = 0 WHERE job = ?", (odd,))
        defective = await finished(service, "a defect")
        other = await finished(service)
        await receiver.until(3)
        await until(lambda: due(settings) == [defective])
        assert service.trouble is None
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {odd, other}


async def test_a_front_that_ends_waits_for_the_notices_that_it_can_still_send(
    settings: Settings, receiver: Receiver
) -> None:
    async with serving(telling(settings, receiver.url)) as service:
        await finished(service)
    await receiver.until(1)
    assert due(telling(settings, receiver.url)) == []


async def test_of_several_fronts_one_sends(settings: Settings, receiver: Receiver) -> None:
    settings = telling(settings, receiver.url)
    async with serving(settings), serving(settings), serving(settings) as service:
        for number in range(3):
            await finished(service, f"star {number}")
        await receiver.until(3)
        await until(lambda: not due(settings))
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == len(receiver.received) == 3


async def test_when_the_front_that_sends_ends_another_goes_on(settings: Settings, receiver: Receiver) -> None:
    settings = telling(settings, receiver.url)
    may_end = anyio.Event()

    async def first_front() -> None:
        async with serving(settings) as first:
            await finished(first)
            await may_end.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first_front)
        await receiver.until(1)  # it has the lock
        async with serving(settings) as second:
            await finished(second)
            await receiver.until(2)
            may_end.set()
            told = await finished(second)
            await receiver.until(3)
    assert receiver.received[2][0]["webhook-id"] == told


async def test_jobs_of_fronts_without_the_setting_are_not_told_of(settings: Settings, receiver: Receiver) -> None:
    async with serving(settings) as quiet, serving(telling(settings, receiver.url)) as service:
        await finished(quiet)
        told = await finished(service)
        await receiver.until(1)
    assert [headers["webhook-id"] for headers, _ in receiver.received] == [told]


async def test_a_command_reads_the_notice_and_is_run_by_no_shell(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN_MCP_ON_DONE", "itself")
    script = tmp_path / "my command.py"
    script.write_text(
        "import json, os, sys\n"
        "notice = sys.stdin.read()\n"
        "print(notice, 'WAN_MCP_ON_DONE' in os.environ)\n"
        "open(sys.argv[1], 'w').write(json.dumps([sys.argv[1:], notice]))\n"
    )
    written = tmp_path / "out.json"
    settings = telling(settings, f"{sys.executable} '{script}' {written} '$(touch X)' ';'")
    async with serving(settings) as service:
        job_id = await finished(service, DANGEROUS)
        await until(lambda: not due(settings))
    arguments, notice = json.loads(written.read_text())
    assert arguments == [str(written), "$(touch X)", ";"]
    told = json.loads(notice)
    assert told["data"]["prompt"] == DANGEROUS
    assert await anyio.Path(told["data"]["files"][0]["path"]).is_file()
    printed = (settings.home / "logs" / "on-done.log").read_text()
    assert job_id in printed
    assert printed.endswith("False\n")
    assert "X" not in {name for _, _, names in os.walk(tmp_path) for name in names}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nowhere/at-all", "cannot be started: No such file"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "exit code 3"),
        (f"{sys.executable} -c 'import os; os.kill(os.getpid(), 9)'", "signal 9"),
    ],
)
async def test_a_command_that_fails_says_why(tmp_path: Path, command: str, why: str) -> None:
    assert why in (await run_command(command, b"{}" * 100_000, tmp_path) or "")


async def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    child = "import signal, time; signal.signal(15, signal.SIG_IGN); open('{0}', 'w').write('x'); time.sleep(1000)"
    mark = tmp_path / "started"
    command = f'{sys.executable} -c "{child.format(mark)}"'
    with anyio.fail_after(PATIENCE_S):
        assert "did not end" in (await run_command(command, b"{}", tmp_path, limit_s=0.2) or "")


@pytest.mark.parametrize("spoilt", ["not base64 !", None], ids=["odd", "folder"])
async def test_a_secret_that_cannot_be_read_is_a_failure_with_the_usual_pauses(
    settings: Settings, receiver: Receiver, caplog: pytest.LogCaptureFixture, spoilt: str | None
) -> None:
    settings = telling(settings, receiver.url)
    file = secret_file(settings.home)
    settings.home.mkdir()
    if spoilt is None:
        file.mkdir()
    else:
        file.write_text(spoilt)
    async with serving(settings) as service:
        job_id = await finished(service)
        await until(lambda: not due(settings))
    tries = [record.getMessage() for record in caplog.records if job_id in record.getMessage()]
    assert [("trying again" in said, "is given up" in said) for said in tries] == [(True, False)] * 2 + [(False, True)]
    assert all("remove the file to get a new one" in said for said in tries)
    assert receiver.received == []


async def test_what_cannot_even_be_noted_is_tried_again_after_a_pause(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    noted = Notices.end

    def end(notices: Notices, job_id: str) -> None:
        if len(failures) < 2:
            failures.append(job_id)
            raise OutOfSpace("the disk is full")
        noted(notices, job_id)

    monkeypatch.setattr(Notices, "end", end)
    monkeypatch.setattr(on_done, "PAUSES_S", (0.4,))
    settings = telling(settings, receiver.url)
    async with serving(settings) as service:
        await finished(service)
        await receiver.until(1)
        began = anyio.current_time()
        await until(lambda: not due(settings))
    assert len(receiver.received) == 3
    assert anyio.current_time() - began > 0.7  # two pauses, not two looks


async def test_a_receiver_whose_certificate_the_environment_trusts_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_web_pair(tmp_path, "receiver")
    with receiving(ssl_pair=(certificate, key)) as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        assert "CERTIFICATE" in (await post(url, "id", b"{}", tmp_path) or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        assert await post(url, "id", b"{}", tmp_path) is None
    assert len(receiver.received) == 1


async def test_a_receiver_that_is_not_there_is_a_failure_in_words(tmp_path: Path) -> None:
    assert "ConnectError" in (await post("http://127.0.0.1:9/x", "id", b"{}", tmp_path) or "")


@pytest.mark.parametrize("value", ["ftp://x/y", "http://", "https:///x", "say 'unfinished", "http://a b/"])
def test_what_is_neither_a_command_nor_a_url_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(ValidationError):
        Settings(on_done=value)


def test_engines_do_not_get_the_setting() -> None:
    assert not [name for name in Settings(on_done="https://a.example/?secret").environment() if "ON_DONE" in name]
