"""What holds for the source of all kernels in Triton, which only a GPU can run."""

import ast
from pathlib import Path

import pytest

import wan_mcp.engine

FILES = sorted(Path(wan_mcp.engine.__file__).parent.rglob("*_triton.py"))
SIZES = {"frames", "height", "width"}
FIXED = {"num_heads"}
"""Numbers that are the same for all results of a model."""


def launched(file: Path) -> list[tuple[str, set[str], set[str]]]:
    """Return the names of kernels, their arguments that are sizes, and what Triton does not specialize them on."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
            if isinstance(node, ast.FunctionDef) and ast.unparse(decorator).startswith("triton.jit"):
                names = {argument.arg for argument in node.args.args if argument.annotation is None}
                sizes = {name for name in names if name in SIZES or name.startswith("num_")} - FIXED
                options = decorator.keywords if isinstance(decorator, ast.Call) else []
                left = [set(ast.literal_eval(each.value)) for each in options if each.arg == "do_not_specialize"]
                found.append((node.name, sizes, left[0] if left else set()))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_kernels_are_compiled_once_for_all_sizes_of_results(file: Path) -> None:
    kernels = launched(file)
    assert kernels
    assert [(name, sizes - left) for name, sizes, left in kernels if not sizes <= left] == []
