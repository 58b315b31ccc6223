"""The locks hold the versions that constraints.txt names, each with hashes; `make lock` writes them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([a-z0-9-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(file: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / file).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_every_locked_version_is_the_tested_one_and_has_hashes(name: str) -> None:
    tested, locked = pins("constraints.txt"), pins(f"locks/{name}.txt")
    assert {each: version for each, version in locked.items() if tested.get(each, version) != version} == {}
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / f"locks/{name}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert all("--hash=sha256:" in entry for entry in entries if entry.strip())
    assert "torch" not in locked


def test_what_is_needed_to_run_is_locked() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("dependencies = [")[2].partition("]\n")[0]
    needed = set(re.findall(r'^  "([a-z0-9-]+)', text, re.MULTILINE)) - {"torch"}
    assert needed
    assert needed <= pins("locks/run.txt").keys() <= pins("locks/dev.txt").keys() | pins("locks/build.txt").keys()
