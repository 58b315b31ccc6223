"""`wan-mcp models`: what there is to choose from."""

import json
from pathlib import Path

from tests.fixtures.command_line import Wan
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.settings import Settings


def test_the_table_has_every_model_with_its_licence_and_where_its_weights_are(wan: Wan) -> None:
    lines = wan("models", COLUMNS="250").stdout.splitlines()
    for name, manifest in Catalog(shipped_folder()).manifests.items():
        [place] = [number for number, line in enumerate(lines) if line.split()[:1] == [name]]
        assert manifest.licence.id in lines[place]
        assert [lines[place + number].split()[number == 0] for number in range(len(manifest.tasks))] == [
            *manifest.tasks
        ]
    mini = next(line for line in lines if line.startswith("wan-mini "))
    assert "in the package" in mini
    assert "4k+1, 5 to 33 frames at 8 fps" in mini


def test_in_a_narrow_terminal_every_word_stays_whole(wan: Wan) -> None:
    said, manifests = wan("models", COLUMNS="80").stdout, Catalog(shipped_folder()).manifests
    conditions = sum(bool(manifest.licence.conditions) for manifest in manifests.values())  # a line each, at the end
    assert max(map(len, said.splitlines()[:-conditions])) <= 80
    for name, manifest in manifests.items():
        assert f"{name}: {', '.join(manifest.tasks)}" in " ".join(said.split())
        assert f"licence {manifest.licence.id}" in " ".join(said.split())
    assert "weights in the package" in said


def test_json_has_the_manifests(wan: Wan) -> None:
    models = {model["name"]: model for model in json.loads(wan("models", "--json").stdout)}
    assert models["wan-mini"]["frames"]["fps"] == 8
    assert models["wan-mini"]["ready"] is True


def test_a_broken_manifest_is_shown_with_its_reason(wan: Wan, settings: Settings) -> None:
    folder = settings.home / "manifests"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('schema = 1\nname = "mine"\ncolour = "red"\n')
    run = wan("models")
    assert "wan-mini" in run.stdout
    assert "mine.toml" in run.stderr
    assert "unknown key 'colour'" in run.stderr
    assert wan("models", "check", folder / "mine.toml").returncode == 2


def test_the_styles_are_listed_with_what_they_add(wan: Wan) -> None:
    assert "noir: {prompt}, black and white" in wan("models", "--styles").stdout


def test_a_check_names_the_keys_that_are_ignored(wan: Wan, old_manifest: Path) -> None:
    run = wan("models", "check", old_manifest)
    *remarks, verdict = run.stdout.splitlines()
    assert (run.returncode, run.stderr) == (0, "")
    assert "'my-wan' is a valid manifest" in verdict
    keys = ["pipeline.experts.sigma_max", "pipeline.experts.sigma_min", "aot.block_class"]
    said = [f"manifest {old_manifest}: '{key}' has no effect and is ignored" for key in keys]
    assert all(remark.startswith(start) for remark, start in zip(remarks, said, strict=True))


def test_a_model_is_shown_by_its_name(here: Wan) -> None:
    for arguments in (["wan-mini"], ["show", "wan-mini"], ["WAN-Mini"]):
        run = here("models", *arguments)
        assert run.returncode == 0
        assert "square 128x128, landscape 160x96" in run.stdout
        assert "--guidance 1 to 12" in run.stdout
        assert "this machine: has enough memory" in run.stdout
    for arguments in (["wan-mini", "--json"], ["--json", "wan-mini"]):
        assert json.loads(here("models", *arguments).stdout)["name"] == "wan-mini"
    assert "did you mean wan-mini?" in here("models", "wan-mni").stderr
    assert here("models", "sora").returncode == 2
