"""`wan-mcp pull`, as a person runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.hub import FILES, LARGE, REPOSITORY
from tests.support.loopback import Fault, LoopbackHub
from tests.support.patience import PATIENCE_S

MANIFEST = """
schema = 1
name = "tiny"
title = "Tiny"
summary = "A model of a test."
tasks = ["text-to-video"]
licence = { id = "Apache-2.0", conditions = "Be kind." }
weights = { repository = "acme/tiny", files = ["model_index.json", "vae/*", "transformer/*"], disk_bytes = 1 }
pipeline = { family = "wan" }
frames = { multiple = 4, minimum = 5, maximum = 9, default = 5, fps = 8 }
sizes = { multiple = 16, default = "small", named = [{ name = "small", width = 64, height = 64 }] }
"""


class Person:
    """Somebody at a command line, with a manifest of their own."""

    def __init__(self, root: Path, hub: LoopbackHub) -> None:
        self.home = root / "home"
        (self.home / "manifests").mkdir(parents=True)
        (self.home / "manifests" / "tiny.toml").write_text(MANIFEST, encoding="utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        variables = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(root / "hf"), "WAN_MCP_HOME": str(self.home)}
        self.environment = {**clean, **variables, "COLUMNS": "300"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "wan_mcp", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=self.environment)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and what else was said."""
        with self.start(*arguments) as process:
            output, words = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output, words


@pytest.fixture
def person(tmp_path: Path, hub: LoopbackHub) -> Person:
    hub.add(REPOSITORY, FILES)
    return Person(tmp_path, hub)


def test_a_pull_says_licence_and_what_came_and_prints_the_folder(person: Person) -> None:
    code, output, words = person.run("pull", "tiny")
    assert code == 0
    assert "licence Apache-2.0" in words
    assert "Be kind." in words
    assert "Downloaded 515.0 kB;" in words
    assert (Path(output.strip()) / LARGE).read_bytes() == FILES[LARGE]


def test_a_second_pull_says_that_all_is_here_and_whether_upstream_moved_on(person: Person, hub: LoopbackHub) -> None:
    _, first, _ = person.run("pull", "tiny")
    code, output, words = person.run("pull", "tiny")
    assert (code, output) == (0, first)
    assert "is already downloaded" in words
    assert "--update" not in words
    hub.add(REPOSITORY, FILES | {LARGE: b"new"})
    code, output, words = person.run("pull", "tiny")
    assert (code, output) == (0, first)
    assert f"changed {LARGE}" in words
    assert "wan-mcp pull tiny --update" in words
    code, output, words = person.run("pull", "tiny", "--update")
    assert code == 0
    assert (Path(output.strip()) / LARGE).read_bytes() == b"new"


def test_a_check_finds_damage_and_mends_it(person: Person) -> None:
    folder = Path(person.run("pull", "tiny")[1].strip())
    assert "All 4 files are intact" in person.run("pull", "tiny", "--verify")[2]
    (folder / LARGE).write_bytes(bytes(len(FILES[LARGE])))
    code, _, words = person.run("pull", "tiny", "--verify")
    assert code == 0
    assert f"Damaged, downloading again: {LARGE}" in words
    assert (folder / LARGE).read_bytes() == FILES[LARGE]


def test_a_pull_says_which_commit_of_which_repository_it_trusts(person: Person, hub: LoopbackHub) -> None:
    _, _, words = person.run("pull", "tiny")
    assert f"Trusting {hub.endpoint}/{REPOSITORY} at the newest commit of 'main', since the manifest pins none" in words
    assert "About 1 byte on the disk; only tensors (safetensors, GGUF) and texts, no pickles and no code" in words
    assert "4 files, " in words
    assert str(person.home / "weights") in words
    [commit] = hub.repositories[REPOSITORY].commits
    manifest = person.home / "manifests" / "tiny.toml"
    pinned = MANIFEST.replace('"acme/tiny",', f'"acme/tiny", revision = "{commit}",')
    manifest.write_text(pinned, encoding="utf-8")
    _, _, words = person.run("pull", "tiny", "--update")
    assert f"at {commit}, as the manifest says" in words


def test_a_pull_that_fails_says_why_in_a_sentence(person: Person, hub: LoopbackHub) -> None:
    hub.add(REPOSITORY, FILES, token="secret", gated=True)
    code, output, words = person.run("pull", "tiny")
    assert code != 0
    assert not output
    assert "accept its conditions" in words
    assert "Traceback" not in words


def test_an_unknown_model_is_named(person: Person) -> None:
    code, _, words = person.run("pull", "nobody")
    assert code != 0
    assert "no model 'nobody'" in words


def test_what_comes_with_the_package_needs_no_pull(person: Person, hub: LoopbackHub) -> None:
    code, output, _ = person.run("pull", "wan-mini")
    assert code == 0
    assert "nothing to pull" in output
    assert not hub.requests


def test_a_variant_is_a_model_whose_name_goes_on_with_it(person: Person, hub: LoopbackHub) -> None:
    for name, files in (("tiny-q4-k-m", "vae/*"), ("tiny-4step", "transformer/*")):
        changed = MANIFEST.replace('"tiny"', f'"{name}"', 1).replace(
            '["model_index.json", "vae/*", "transformer/*"]', f'["{files}"]'
        )
        (person.home / "manifests" / f"{name}.toml").write_text(changed, encoding="utf-8")
    code, output, words = person.run("pull", "tiny", "--variant", "Q4_K_M")
    assert code == 0
    assert "'tiny-q4-k-m'" in words
    assert [path.name for path in Path(output.strip()).iterdir()] == ["vae"]
    for model, variant, there in (
        ("tiny", "fp8", "available: 4step, q4-k-m"),
        ("wan-mini", "fp8", "it has no variants"),
    ):
        code, _, words = person.run("pull", model, "--variant", variant)
        assert code != 0
        assert f"no variant '{variant}'" in words
        assert there in words
        assert "WAN_MCP_PRECISION" in words


def test_ctrl_c_stops_a_pull_and_says_that_it_can_go_on(person: Person, hub: LoopbackHub) -> None:
    fault = hub.fail(Fault(LARGE, hold_at=1000))
    with person.start("pull", "tiny") as process:
        assert fault.held.wait(PATIENCE_S)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, words
    assert "wan-mcp pull tiny" in words
    assert "Traceback" not in words
    hub.faults.clear()
    fault.go.set()
    assert person.run("pull", "tiny")[0] == 0


def test_models_says_which_are_here(person: Person) -> None:
    assert "not downloaded, 1 byte" in next(
        line for line in person.run("models")[1].splitlines() if line.startswith("tiny")
    )
    person.run("pull", "tiny")
    after = next(line for line in person.run("models")[1].splitlines() if line.startswith("tiny"))
    assert "downloaded, " in after
    assert "not downloaded" not in after


def test_a_manifest_can_be_checked_before_it_is_used(person: Person, tmp_path: Path) -> None:
    good = person.home / "manifests" / "tiny.toml"
    assert person.run("models", "check", str(good))[0] == 0
    bad = tmp_path / "bad.toml"
    bad.write_text(MANIFEST.replace("fps = 8", "fsp = 8"), encoding="utf-8")
    code, _, words = person.run("models", "check", str(bad))
    assert code != 0
    assert "frames.fsp" in words
    assert "frames.fps" in words


SMI = """#!/bin/sh
[ "$1" = --id=1 ] && echo 143771 || exit 6
"""


def test_models_says_what_fits_the_gpu_of_the_settings_and_else_the_cpu(person: Person, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(SMI, encoding="utf-8")
    tool.chmod(0o755)
    person.environment["PATH"] = f"{tool.parent}:{person.environment['PATH']}"
    words = person.run("--device", "cuda:1", "models")[1]
    assert "GPU of 150.8 GB" in words
    assert "69.0 GB in bf16" in words
    assert "too large" not in words
    tool.write_text("#!/bin/sh\necho 24564, 8.9\n", encoding="utf-8")
    lines = person.run("--device", "cuda:0", "models")[1].split("wan2.2-t2v-a14b-4step")[1]
    assert "40.5 GB in fp8, one expert at a time" in " ".join(lines.split())
    tool.write_text(SMI, encoding="utf-8")
    for device in ("cpu", "cuda:2"):
        words = person.run("--device", device, "models")[1]
        assert "CPU of" in words
        assert "GB in fp32" in words
