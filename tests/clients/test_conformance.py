"""The protocol's official conformance suite against the HTTP server, in both eras.

Many of its scenarios need tools, prompts and resources of a test server, or features that this server does not offer.
They fail here as they must, and are named below; a failure of any other scenario is a fault of this server.
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
FIXTURES = {  # of the suite's own server: test_* tools and prompts, test:// resources
    *("tools-call-image", "tools-call-audio", "tools-call-embedded-resource", "tools-call-mixed-content"),
    *("tools-call-with-progress", "resources-read-text", "resources-read-binary", "resources-templates-read"),
    *("prompts-get-simple", "prompts-get-with-args", "prompts-get-embedded-resource", "prompts-get-with-image"),
}
NOT_OFFERED = {
    "2025-11-25": {
        *("logging-set-level", "tools-call-with-logging", "resources-subscribe", "resources-unsubscribe"),
        *("tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults", "elicitation-sep1330-enums"),
    },
    "2026-07-28": {
        "server-stateless",  # two of its checks need the tool test_missing_capability
        *(f"input-required-result-basic-{what}" for what in ("elicitation", "sampling", "list-roots")),
        *(f"input-required-result-{what}" for what in ("request-state", "multiple-input-requests", "multi-round")),
        *(f"input-required-result-{what}" for what in ("non-tool-request", "result-type", "tampered-state")),
        "input-required-result-capability-check",
    },
}
PASSES = {
    "2025-11-25": {"server-initialize": 2, "ping": 2, "completion-complete": 2, "tools-list": 3, "prompts-list": 2},
    "2026-07-28": {
        "server-stateless": 23,
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


@pytest.mark.parametrize("version", NOT_OFFERED)
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
    assert failed == FIXTURES | NOT_OFFERED[version], f"{summary}\n{ran.stderr[-2000:]}"
    assert {name: results[name][1] for name in PASSES[version]} == PASSES[version]
