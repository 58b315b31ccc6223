"""A certificate that cannot sign is refused by the commands that would sign with it."""

from pathlib import Path

from tests.fixtures.command_line import Wan
from tests.support.certificates import write_signing_pair


def test_no_server_starts_and_no_job_is_made_with_a_certificate_that_cannot_sign(
    here: Wan, wan: Wan, tmp_path: Path
) -> None:
    certificate, _ = write_signing_pair(tmp_path, "own")
    flags = ("--c2pa-cert", certificate, "--c2pa-key", tmp_path / "none.key")
    for run in (
        wan(*flags, "stdio"),
        here(*flags, "http", "--port", 0),
        here(*flags, "generate", "image", "a red star"),
        here(*flags, "generate", "image", "a red star", "--dry-run"),
        here("--c2pa-cert", certificate, "generate", "image", "a red star"),
    ):
        assert (run.returncode, run.stdout) == (2, ""), run.args
        assert "the key" in run.stderr or "set both" in run.stderr
    assert here("jobs").stdout == "no jobs yet\n"
