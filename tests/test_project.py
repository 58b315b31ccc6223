"""What the project's configuration names is there, and what tests share is where it belongs."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"


def imported_by(file: Path) -> Iterator[str]:
    """The full names of everything that a file imports, inside functions as well; relative names are resolved."""
    package = file.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            within = package[: len(package) + 1 - node.level] if node.level else ()
            module = [*within, *([node.module] if node.module else [])]
            yield from (".".join([*module, name.name]) for name in node.names)


def is_test_module(name: str) -> bool:
    """Whether the name is a test module's, or of something in one."""
    parts = name.split(".")
    return parts[0] == "tests" and any(
        (TESTS / "/".join(parts[1:end])).with_suffix(".py").is_file() and parts[end - 1].startswith("test_")
        for end in range(2, len(parts) + 1)
    )


def test_coverage_leaves_out_only_files_that_exist() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    omitted = configuration["tool"]["coverage"]["run"]["omit"]
    assert omitted and [name for name in omitted if not (ROOT / name).is_file()] == []


def test_nothing_imports_from_a_test_module() -> None:
    files = [file for folder in ("tests", "benchmarks", "devkit") for file in (ROOT / folder).rglob("*.py")]
    found = {
        str(file.relative_to(ROOT)): wrong
        for file in files
        if (wrong := [name for name in imported_by(file) if is_test_module(name)])
    }
    assert found == {}, "what tests share belongs to tests/support or tests/fixtures"
