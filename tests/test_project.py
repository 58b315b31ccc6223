"""What the project's configuration names is there, and what tests share is where it belongs."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
OWN = {"wan_mcp", "tests", "devkit", "smallworld", "training", "benchmarks", "examples", "scripts", "hatch_build"}
WITH_OTHERS = {"triton": "torch", "pydantic_core": "pydantic", "mcp_types": "mcp", "tokenizers": "transformers"}
"""Modules that come with a declared distribution in the one version that fits it."""
NOT_HERE = {"cudnn": "nvidia-cudnn-frontend", "cutlass": "nvidia-cutlass-dsl"}
"""Modules of distributions that only some machines can install."""


@cache
def imported_by(file: Path) -> list[str]:
    """The full names of everything that a file imports, inside functions as well; relative names are resolved."""
    package = file.parent.relative_to(ROOT).parts
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            within = package[: len(package) + 1 - node.level] if node.level else ()
            module = [*within, *([node.module] if node.module else [])]
            found += [".".join([*module, name.name]) for name in node.names]
    return found


def is_test_module(name: str) -> bool:
    """Whether the name is a test module's, or of something in one."""
    parts = name.split(".")
    return parts[0] == "tests" and any(
        (TESTS / "/".join(parts[1:end])).with_suffix(".py").is_file() and parts[end - 1].startswith("test_")
        for end in range(2, len(parts) + 1)
    )


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normalized(requirement: str) -> str:
    """Return the name of the distribution that a requirement asks for, as indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def test_coverage_leaves_out_only_files_that_exist() -> None:
    omitted = project()["tool"]["coverage"]["run"]["omit"]
    assert omitted and [name for name in omitted if not (ROOT / name).is_file()] == []


def test_nothing_imports_from_a_test_module() -> None:
    files = [file for folder in ("tests", "benchmarks", "devkit") for file in (ROOT / folder).rglob("*.py")]
    found = {
        str(file.relative_to(ROOT)): wrong
        for file in files
        if (wrong := [name for name in imported_by(file) if is_test_module(name)])
    }
    assert found == {}, "what tests share belongs to tests/support or tests/fixtures"


@pytest.mark.parametrize(
    ("folders", "dev"),
    [(["src"], False), (["tests", "devkit", "smallworld", "training", "benchmarks", "scripts"], True)],
    ids=["src", "development"],
)
def test_every_distribution_that_is_imported_is_declared(folders: list[str], dev: bool) -> None:
    facts = project()
    declared = [*facts["project"]["dependencies"]]
    for extra in facts["project"]["optional-dependencies"].values():
        declared += extra
    declared += facts["dependency-groups"]["dev"] if dev else []
    names = {normalized(requirement) for requirement in declared}
    installed = packages_distributions()
    missing: dict[str, str] = {}
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        if "clients/scripts" in file.as_posix():  # they run in the environments of other clients
            continue
        for module in {name.split(".")[0] for name in imported_by(file)} - OWN - sys.stdlib_module_names:
            found = [WITH_OTHERS.get(module) or NOT_HERE.get(module) or "", *installed.get(module, [])]
            if not names & set(map(normalized, found)):
                missing[module] = str(file.relative_to(ROOT))
    assert missing == {}


def test_files_and_folders_are_tested_in_any_combination() -> None:
    chosen = ["tests/jobs/test_timings.py", "tests/test_text.py", "tests/jobs/test_store.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", "-k", "measured or units or claimed", *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout
