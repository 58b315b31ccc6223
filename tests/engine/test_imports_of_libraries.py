"""What importing the large libraries costs a person who reads the engine's log, and an engine that starts."""

import logging
import subprocess
import sys
from pathlib import Path

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
    import wan_mcp.engine.families.wan.pipeline
import sys
from wan_mcp.engine.imports import LATER
print("torchao" in sys.modules, "diffusers" in sys.modules, [each for each in LATER if each in sys.modules])
"""
USE_WHAT_CAME_LATER = """
import warnings
warnings.simplefilter("ignore")  # diffusers' schedulers use numpy in ways that it warns of
import torch, transformers.loss.loss_for_object_detection as losses, diffusers.loaders.lora_base as loras
from diffusers import FlowMatchEulerDiscreteScheduler, LMSDiscreteScheduler
print(isinstance(torch.nn.Linear(1, 1), loras.BaseTunerLayer), "peft" in sys.modules)
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
layer = Linear(torch.nn.Linear(4, 4), adapter_name="a", config=LoraConfig(), r=2)
print(isinstance(layer, loras.BaseTunerLayer))
FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True).set_timesteps(4)
scheduler = LMSDiscreteScheduler()
scheduler.set_timesteps(4)
print(scheduler.get_lms_coefficient(1, 1, 0) < 0)
print(*losses.linear_sum_assignment([[2, 1], [1, 3]])[1])
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in which every warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_libraries_are_imported_without_a_warning_and_without_what_they_may_never_use() -> None:
    done = run(IMPORT_FAMILIES + USE_WHAT_CAME_LATER)
    assert (done.returncode, done.stderr) == (0, "")
    imported, plain, adapted, *scipy = done.stdout.splitlines()
    assert imported == "True True []"
    assert (plain, adapted) == ("False False", "True")
    assert scipy == ["True", "1 0"]


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


def test_a_name_of_a_placeholder_that_was_not_expected_is_the_real_one() -> None:
    done = run("""
from wan_mcp.engine.imports import library_imports
with library_imports():
    import scipy.integrate
    from peft.tuners.tuners_utils import BaseTunerLayer
    print(isinstance(0, BaseTunerLayer))
    from scipy.stats import norm
import scipy.stats
print(norm is scipy.stats.norm, norm.cdf(0.0), scipy.integrate.quad(abs, -1, 1)[0])
""")
    assert (done.stdout, done.stderr) == ("False\nTrue 0.5 1.0\n", "")


def test_the_code_of_another_package_imports_the_real_libraries(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(
        "from scipy.optimize import linear_sum_assignment\n"
        "def targets(*given):\n"
        "    return [linear_sum_assignment.__module__]\n"
    )
    done = run(f"""
import sys
from types import SimpleNamespace
sys.path.insert(0, {str(tmp_path)!r})
from wan_mcp.engine.families.registry import aot_targets
family = SimpleNamespace(name="outside", package="outside 1.0", aot_targets="outside:targets")
print(aot_targets(SimpleNamespace(family=family), None, None, "full"))
""")
    assert (done.stdout, done.stderr) == ("['scipy.optimize._lsap']\n", "")


def test_an_engine_is_ready_before_a_large_library_but_torch_is_imported() -> None:
    done = run(f"import sys, wan_mcp.engine.runner; print([each for each in {LIBRARIES} if each in sys.modules])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
