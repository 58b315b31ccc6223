"""What the project's configuration names is there: a file that moves takes its entry along."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_coverage_leaves_out_only_files_that_exist() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    omitted = configuration["tool"]["coverage"]["run"]["omit"]
    assert omitted and [name for name in omitted if not (ROOT / name).is_file()] == []
