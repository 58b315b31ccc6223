"""The protocol's official conformance suite against the HTTP server, in both eras.

Many of its scenarios need tools, prompts and resources of a test server, or features that this server does not offer.
They fail here as they must, and are listed with their reasons in docs/conformance.md; a failure of any other is
a fault of this server.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.environments import node_environment, node_of
from tests.clients.installation import Json, client_environment
from tests.support.patience import PATIENCE_S

SUITE = Path("node_modules/@modelcontextprotocol/conformance/dist/index.js")
SUMMARY = re.compile(r"^\s*([✓✗]) ([\w-]+)(?:: (\d+) passed, (\d+) failed| \()", re.MULTILINE)
LIST = Path(__file__).parents[2] / "docs" / "conformance.md"
LISTED = re.compile(r"^\| `([\w-]+)` \| (both|[\d-]+) \| (?:fixture|not offered): \S", re.MULTILINE)
PASSES = {
    "2025-11-25": {"server-initialize": 2, "ping": 2, "completion-complete": 2, "tools-list": 3, "prompts-list": 2},
    "2026-07-28": {
        "server-stateless": 26,
        "caching": 8,
        "sep-2164-resource-not-found": 4,
        "http-header-validation": 14,
    },
}


@pytest.fixture(scope="module")
def suite() -> list[str]:
    """The command of the suite."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; it brings the conformance suite and the Node that it needs")
    folder = node_environment("conformance", npm)
    node = node_of(folder)
    if node is None:
        pytest.skip(f"npm has no Node 22 for this machine ({os.uname().sysname} {os.uname().machine})")
    return [str(node), str(folder / SUITE), "server"]


def expected_to_fail(version: str) -> set[str]:
    """The scenarios that the documentation lists for a version."""
    return {name for name, of in LISTED.findall(LIST.read_text(encoding="utf-8")) if of in ("both", version)}


@pytest.mark.parametrize("version", PASSES)
def test_the_server_fails_no_scenario_that_applies_to_it(
    suite: list[str], http_server: Json, version: str, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [*suite, "--url", http_server["url"], "--requirements", version, "-o", str(tmp_path)],
        env={**client_environment(), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    _, _, summary = ran.stdout.partition("=== SUMMARY ===")
    scored, _, others = summary.partition("Not scored for")
    unscored = {name for _, name, *_ in SUMMARY.findall(others)}
    results = {name: (mark, int(passed or 0)) for mark, name, passed, _ in SUMMARY.findall(scored)}
    failed = {name for name, (mark, _) in results.items() if mark == "✗"} - unscored
    assert failed == expected_to_fail(version), f"{summary}\n{ran.stderr[-2000:]}"
    assert {name: results[name][1] for name in PASSES[version]} == PASSES[version]


def test_the_skills_pass_their_scenarios(suite: list[str], http_server: Json, tmp_path: Path) -> None:
    ran = subprocess.run(
        [*suite, "--url", http_server["url"], "--scenario", "sep-2640-skills-enumeration", "-o", str(tmp_path)],
        env={**client_environment(), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    passed = re.search(r"Passed: (\d+)/(\d+), (\d+) failed", ran.stdout)
    assert passed is not None, ran.stdout[-2000:]
    assert (int(passed[1]) >= 20, passed[3]) == (True, "0"), ran.stdout[-3000:]
