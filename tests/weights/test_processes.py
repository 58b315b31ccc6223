"""Pulls in processes of their own: what the environment says, what kill -9 leaves, what two at once do."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.hub import FILES, LARGE, REPOSITORY, Puller
from tests.support.loopback import Fault
from tests.support.patience import PATIENCE_S
from wan_mcp.weights.installed import installed_weights, is_installed

# Fetches as an engine does, with the hub of the environment, and says every look in a line.
CHILD = """
import sys
from pathlib import Path
from wan_mcp.errors import WeightsUnavailable
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.weights.fetch import fetch
assert "huggingface_hub" not in sys.modules and "torch" not in sys.modules
manifest = Manifest.model_validate_json(sys.argv[1])
try:
    fetched = fetch(manifest, Path(sys.argv[2]), lambda download: print(download.done, flush=True))
    print("came", fetched.came)
except WeightsUnavailable as error:
    print(error.code, error)
"""


@contextmanager
def pulling(puller: Puller, **environment: str) -> Iterator[subprocess.Popen[str]]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables |= {"HF_ENDPOINT": puller.hub.endpoint, "HF_HOME": str(puller.root), **environment}
    arguments = [puller.manifest.model_dump_json(by_alias=True), str(puller.home)]
    command = [sys.executable, "-c", CHILD, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        try:
            yield process
        finally:
            process.kill()


def last_line(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE_S)
    return output.splitlines()[-1]


def test_a_pull_that_was_killed_goes_on_where_it_was(puller: Puller) -> None:
    fault = puller.hub.fail(Fault(LARGE, hold_at=300_000))
    rest = len(FILES["vae/diffusion_pytorch_model.safetensors"]) + len(FILES["model_index.json"]) + 2
    with pulling(puller) as process:
        assert process.stdout is not None
        assert any(int(line) == 300_000 + rest for line in process.stdout)
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
    assert not is_installed(puller.manifest, puller.home)
    fault.go.set()
    with pulling(puller) as process:
        came = int(last_line(process).removeprefix("came "))
    assert len(FILES[LARGE]) - 300_000 <= came < len(FILES[LARGE])
    weights = installed_weights(puller.manifest, puller.home)
    assert weights is not None
    assert weights.folder.is_relative_to(puller.root / "hub" / "models--acme--tiny")
    assert (weights.folder / LARGE).read_bytes() == FILES[LARGE]


def test_two_pulls_at_once_bring_every_byte_once(puller: Puller) -> None:
    fault = puller.hub.fail(Fault(LARGE, hold_at=300_000))
    with pulling(puller) as first:
        assert fault.held.wait(PATIENCE_S)
        with pulling(puller) as second:
            assert second.stdout is not None
            second.stdout.readline()
            fault.go.set()
            came = [int(last_line(process).removeprefix("came ")) for process in (first, second)]
    assert sum(came) == sum(size for size in (3000, len(FILES[LARGE]), len(FILES["model_index.json"]), 2))
    assert sum(r.path.endswith(LARGE) for r in puller.hub.file_requests()) == 1


def test_a_connection_that_falls_silent_is_given_up_and_resumed(puller: Puller) -> None:
    puller.hub.fail(Fault(LARGE, hold_at=300_000))
    with pulling(puller, HF_HUB_DOWNLOAD_TIMEOUT="1") as process:
        assert last_line(process).startswith("came")
    assert [r.range for r in puller.hub.file_requests() if r.path.endswith(LARGE)] == [None, "bytes=300000-"]


def test_the_token_of_the_environment_is_used(puller: Puller) -> None:
    puller.hub.add(REPOSITORY, FILES, token="secret")
    with pulling(puller, HF_TOKEN="secret") as process:
        assert last_line(process).startswith("came")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_asks_nobody_and_says_so(puller: Puller, variable: str) -> None:
    with pulling(puller, **{variable: "1"}) as process:
        assert last_line(process).startswith("hub_offline")
    assert not puller.hub.requests
    assert puller.pull().came > 0
    with pulling(puller, **{variable: "1"}) as process:
        assert last_line(process) == "came 0"


def test_a_cache_of_its_own_is_used_and_a_read_only_one_is_told(puller: Puller, tmp_path: Path) -> None:
    cache = tmp_path / "elsewhere"
    with pulling(puller, HF_HUB_CACHE=str(cache)) as process:
        assert last_line(process).startswith("came")
    assert (cache / "models--acme--tiny" / "snapshots").is_dir()
    (tmp_path / "file").write_text("")
    puller.home.joinpath("weights", "tiny.lock.json").unlink()
    with pulling(puller, HF_HUB_CACHE=str(tmp_path / "file" / "cache")) as process:
        assert last_line(process).startswith("cache_unusable")
