"""A package goes stale with every source that its arithmetic or its export depends on, and no source drops out."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import wan_mcp
from tests.fixtures.aot_packages import CPU, IN_PLAIN
from wan_mcp.engine.aot.cache_key import SOURCES, cache_key_of, hash_of_sources

ROOTS = ("wan_mcp.engine.transformer.block", "wan_mcp.engine.aot.compile_main")
"""What is compiled (`run_block`), and what compiles it."""
OPAQUE = {
    # Run inside the custom operators, which a package calls by name.
    "wan_mcp.engine.attention.selector",
    "wan_mcp.engine.attention.fused_qkv",
    "wan_mcp.engine.attention.block_router",
    "wan_mcp.engine.parallel.context_parallel",
    # Log lines, and from which GPU on the kernels are also tried in FP8: neither changes what they compute.
    "wan_mcp.logs",
    "wan_mcp.text",
    "wan_mcp.hardware.machine",
    # Of the compiling process: its share of memory, its end, the facts of the identity, and the form of the metadata,
    # whose changes raise `LAYOUT`.
    "wan_mcp.engine.aot.gpu_budget",
    "wan_mcp.engine.aot.child_process",
    "wan_mcp.engine.aot.cache_key",
    "wan_mcp.engine.aot.metadata",
}
"""Modules of ours that may change without making a package stale."""

EDIT_EACH = """
import json, sys
from importlib.util import find_spec
from pathlib import Path
import torch
from wan_mcp.engine.aot import cache_key

kind = cache_key.kind_from_dict(json.loads(sys.argv[1]))

def hash_now():
    for kept in vars(cache_key).values():
        if hasattr(kept, "cache_clear"):
            kept.cache_clear()
    try:
        return cache_key.cache_key_of(kind, torch.device("cpu")).hash
    except RuntimeError as error:
        return str(error)

found = {"untouched": hash_now(), "edited": {}, "renamed": {}}
for name in cache_key.SOURCES:
    file = Path(find_spec(name).origin)
    source = file.read_bytes()
    file.write_bytes(source + b"# edited")
    found["edited"][name] = hash_now()
    file.write_bytes(source)
    renamed = file.rename(file.with_name("renamed.py"))
    found["renamed"][name] = hash_now()
    renamed.rename(file)
found["restored"] = hash_now()
print(json.dumps(found))
"""


def test_each_source_counts_and_none_can_be_missing(tmp_path: Path) -> None:
    package = Path(wan_mcp.__file__).parent
    shutil.copytree(
        package, tmp_path / "wan_mcp", ignore=lambda _, names: [n for n in names if Path(n).suffix == ".pyc"]
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    kind = json.dumps(cache_key_of(IN_PLAIN, CPU).facts["kind"])
    run = subprocess.run(
        [sys.executable, "-c", EDIT_EACH, kind], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["untouched"] == found["restored"] == cache_key_of(IN_PLAIN, CPU).hash  # wherever it is installed
    assert len({found["untouched"], *found["edited"].values()}) == len(SOURCES) + 1
    for name, message in found["renamed"].items():
        assert f"The source of {name} cannot be read" in message


def test_the_order_of_sources_plays_no_part() -> None:
    assert hash_of_sources(SOURCES) == hash_of_sources(reversed(SOURCES))


@pytest.mark.parametrize(
    "name",
    ["wan_mcp.engine.transformer.gone", "wan_mcp.engine.gone.kernels", "wan_mcp.engine.transformer.block.gone", "sys"],
)
def test_a_module_without_a_source_is_an_error(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"The source of {name} cannot be read"):
        hash_of_sources((*SOURCES, name))


def test_every_module_that_a_block_or_its_export_reaches_is_a_source_or_known_to_be_opaque() -> None:
    reached: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            if name not in OPAQUE:
                waiting += imports_of(name)
    assert reached == {*SOURCES, *OPAQUE}
    assert not OPAQUE.intersection(SOURCES)


def imports_of(module: str) -> Iterator[str]:
    """The modules of ours that a module imports, in functions too; a package only where a name of its own is read."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{module} has a relative import"
            if is_ours(node.module):
                yield from (module_behind(node.module, alias.name) for alias in node.names)


def is_ours(name: str) -> bool:
    return name.split(".")[0] == "wan_mcp"


def module_behind(module: str, name: str) -> str:
    """The module that `from module import name` reads: a submodule of that name, or `module` itself."""
    spec = find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is not None and find_spec(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    return module
