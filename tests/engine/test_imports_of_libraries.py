"""What importing the large libraries costs a person who reads the engine's log, and an engine that starts."""

import logging
import subprocess
import sys

import pytest

from tests.support.patience import PATIENCE_S
from wan_mcp.engine.imports import EXPECTED, library_imports

LIBRARIES = ("torchao", "diffusers", "transformers", "peft")

IMPORT_FAMILIES = """
from wan_mcp.logs import log_to_stderr
log_to_stderr("WARNING")
from wan_mcp.engine.imports import library_imports
with library_imports():
    import wan_mcp.engine.families.caption.captioner
    import wan_mcp.engine.families.image.loader
    import wan_mcp.engine.families.wan.loader
import sys
sys.exit("torchao" not in sys.modules or "diffusers" not in sys.modules)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in which every warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_diffusers_and_torchao_are_imported_together_without_a_warning() -> None:
    done = run(IMPORT_FAMILIES)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("name", "words"), EXPECTED.items())
def test_only_the_expected_remarks_are_dropped_and_only_during_the_imports(
    name: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)  # some of these loggers hand nothing to the root's handlers
    try:
        with library_imports():
            logger.warning("before %s after", words)
            logger.warning("another")
            logger.getChild("more").warning(words)
        logger.warning(words)
    finally:
        logger.removeHandler(caplog.handler)
    assert sorted({(record.name, record.getMessage()) for record in caplog.records}) == sorted(
        [(name, "another"), (f"{name}.more", words), (name, words)]
    )


def test_an_engine_is_ready_before_a_large_library_but_torch_is_imported() -> None:
    done = run(f"import sys, wan_mcp.engine.runner; print([each for each in {LIBRARIES} if each in sys.modules])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
