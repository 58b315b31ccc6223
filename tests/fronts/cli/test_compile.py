"""`wan-mcp compile` where there is nothing to compile from."""

from pathlib import Path

import pytest

from tests.fixtures.command_line import Wan
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.wan.aot_targets import aot_targets
from wan_mcp.errors import BadRequest, JobFailed
from wan_mcp.settings import Settings
from wan_mcp.weights.lockfile import LockedFile, WeightsLock

MODEL = "wan2.2-t2v-a14b"
FILES = ("model_index.json", "transformer/config.json", "transformer_2/config.json")


def lock_with(settings: Settings, folder: Path, *present: str, content: str = "{}") -> None:
    """Have the model locked with only these files, all of which are there."""
    manifest = Catalog.of(settings.home).get(MODEL)
    files = {}
    for path in present:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
        facts = (folder / path).stat()
        files[path] = LockedFile(size=facts.st_size, sha256="0" * 64, etag="0", mtime_ns=facts.st_mtime_ns)
    weights = manifest.weights
    lock = WeightsLock(
        model=MODEL, repository=weights.repository or "", revision=weights.revision, patterns=weights.files,
        commit="0" * 40, folder=folder, files=files,
    )  # fmt: skip
    lock.write(manifest, settings.home)


def refused(settings: Settings) -> str:
    """What is said instead of compiling the model."""
    manifest = Catalog.of(settings.home).get(MODEL)
    with pytest.raises((BadRequest, JobFailed)) as refusal:
        aot_targets(manifest, settings, resolve_device("cpu"), "fp8")
    return str(refusal.value)


def test_compiling_a_model_without_its_configuration_names_the_missing_file_and_does_not_blame_torch(
    wan: Wan, settings: Settings, tmp_path: Path
) -> None:
    lock_with(settings, tmp_path / "weights", *FILES[1:])
    # On a CPU only what is asked for in FP8 has blocks of ours.
    run = wan("compile", MODEL, settings=settings.model_copy(update={"precision": "fp8"}))
    assert run.returncode == 2
    assert run.stderr.strip() == (
        f"files of '{MODEL}' are missing in {tmp_path / 'weights'}: {FILES[0]}; "
        f"bring the newest with: wan-mcp pull {MODEL} --update"
    )


def test_the_configuration_of_each_expert_is_needed(settings: Settings, tmp_path: Path) -> None:
    lock_with(settings, tmp_path / "weights", *FILES[:2])
    assert f"are missing in {tmp_path / 'weights'}: {FILES[2]};" in refused(settings)


def test_a_model_that_was_not_downloaded_is_named_with_the_command_that_fetches_it(settings: Settings) -> None:
    assert refused(settings) == (
        f"files of '{MODEL}' are not on this machine, or not all; bring them with: wan-mcp pull {MODEL}"
    )


def test_a_damaged_configuration_is_said_to_be_damaged(settings: Settings, tmp_path: Path) -> None:
    lock_with(settings, tmp_path / "weights", *FILES, content='{"num_layers"')
    assert refused(settings).startswith(f"The weights of '{MODEL}' in {tmp_path / 'weights'} cannot be loaded")
