"""`wan-mcp doctor`: says what is broken and what to do, and repairs the job table."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.command_line import Wan
from tests.fixtures.job_table import spoil
from tests.support.distributions import Site
from wan_mcp.engine.aot.compiler_check import compiler_fingerprint, default_compiler
from wan_mcp.fronts.cli.checks.home import check_home
from wan_mcp.settings import Settings


@pytest.fixture
def proved(settings: Settings) -> None:
    """The compiler is taken as proved: tests/engine/aot/test_compiler_check.py really proves it, which takes long."""
    known = settings.home / "packages" / "compiler.json"
    known.parent.mkdir(parents=True)
    known.write_text(json.dumps(compiler_fingerprint(default_compiler())))


def bad(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("BAD")]


@pytest.mark.usefixtures("proved")
def test_a_sound_installation_has_nothing_bad_and_ignored_keys_of_a_manifest_are_mentioned(
    wan: Wan, settings: Settings, old_manifest: Path
) -> None:
    wan("generate", "image", "a red star")
    run = wan("doctor")
    assert (bad(run.stdout), run.returncode) == ([], 0), run.stderr
    for word in (
        "torch",
        "diffusers",
        "ffmpeg",
        "CPU",
        str(settings.home),
        "GB free",
        "job table",
        "compiler",
        "pid",
        "wan-mini",
    ):
        assert word in run.stdout
    [said] = [line for line in run.stdout.splitlines() if "aot.block_class" in line]
    assert said.startswith("ok  manifest: ")
    assert str(old_manifest) in said


@pytest.mark.usefixtures("proved")
def test_a_mistyped_variable_a_bad_certificate_an_ffmpeg_that_does_not_run_and_a_broken_family_are_found(
    wan: Wan, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site")
    site.add_sound("ltx")
    site.add("broken", "raise RuntimeError('half installed')")
    run = wan(
        "doctor",
        WAN_MCP_HOMEE="x",
        WAN_MCP_C2PA_CERT="/no/such.pem",
        WAN_MCP_C2PA_KEY="/no/such.key",
        IMAGEIO_FFMPEG_EXE=str(tmp_path / "nowhere"),
        PYTHONPATH=str(tmp_path / "site"),
    )
    assert run.returncode == 1
    assert "ok  family: ltx, from family-ltx 2.5" in run.stdout.splitlines()
    found = bad(run.stdout)
    assert len(found) == 4
    for words in (
        ["content credentials: the certificate /no/such.pem cannot be read"],
        ["WAN_MCP_HOMEE", "did you mean WAN_MCP_HOME?"],
        ["IMAGEIO_FFMPEG_EXE"],
        ["BAD family: the family 'broken' of family-broken 2.5 cannot be used: RuntimeError: half installed"],
    ):
        assert [line for line in found if all(each in line for each in words)], words


def test_a_torch_that_does_not_import_is_found(wan: Wan, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise ImportError('libcudart is missing')")
    run = wan("doctor", PYTHONPATH=str(tmp_path / "broken"))
    assert run.returncode == 1
    [found] = bad(run.stdout)
    assert "libcudart is missing" in found


def test_a_home_that_cannot_be_written_is_found(wan: Wan, settings: Settings) -> None:
    settings.home.write_text("a file where the folder should be")
    run = wan("doctor")
    assert run.returncode == 1
    assert str(settings.home) in bad(run.stdout)[0]
    assert "Traceback" not in run.stderr


@pytest.mark.usefixtures("proved")
def test_a_damaged_job_table_is_found_and_repaired(wan: Wan, settings: Settings) -> None:
    spoil(settings.database)
    commands = [("jobs",), ("generate", "image", "a red star")]
    for command in commands:
        refused = wan(*command)
        assert refused.returncode == 2
        assert "doctor --repair" in refused.stderr
    found = wan("doctor")
    assert found.returncode == 1
    assert "doctor --repair" in bad(found.stdout)[0]
    assert wan("doctor", "--repair").returncode == 0
    for command in commands:
        assert wan(*command).returncode == 0


def test_unreadable_jobs_are_listed_and_named_by_doctor(wan: Wan, settings: Settings) -> None:
    job_id = json.loads(wan("generate", "image", "a red star", "--json").stdout)["id"]
    with closing(sqlite3.connect(settings.database)) as raw:
        raw.execute("UPDATE jobs SET plan = json_set(plan, '$.task', 'text-to-3d')")
        raw.commit()
    run = wan("jobs")
    assert (f"job {job_id} (succeeded) is unreadable" in run.stdout, run.returncode) == (True, 0), run.stderr
    assert json.loads(wan("jobs", "list", "--json").stdout)[0]["id"] == job_id
    run = wan("jobs", "show", job_id)
    assert ("is unreadable" in run.stderr, "Traceback" in run.stderr, run.returncode) == (True, False, 2)
    [finding] = [finding for finding in check_home(settings) if not finding.good]  # doctor itself takes long
    assert job_id in finding.says and "text-to-video" in finding.says
