"""A real engine whose GPU is the CPU: `python tests/support/cpu_engine.py`, for `engine_command`.

The names of GPUs are only names to the job table, the locks and the fronts. So several real engines can run the
embedded model here, each under the name and the lock of another GPU. `AUTO_DEVICE` holds what auto means.
"""

import os

from wan_mcp.engine.worker.loop import Runner, run_engine
from wan_mcp.logs import log_to_stderr
from wan_mcp.settings import Settings


def build(settings: Settings) -> Runner:
    """Build the runner of the CPU."""
    from wan_mcp.engine.runner import build_runner

    return build_runner(settings.model_copy(update={"device": "cpu"}))


def main() -> None:
    """Be an engine."""
    settings = Settings()
    log_to_stderr(settings.log_level)
    run_engine(settings, build, lambda: os.environ.get("AUTO_DEVICE", "cpu").split(","))


if __name__ == "__main__":
    main()
