"""Build one package next to a running engine: `python -m wan_mcp.engine.aot.build_main HOME WANTED`, WANTED as JSON."""

import json
import logging
import os
import sys
from pathlib import Path

from wan_mcp.engine.aot.builder import EXIT_NO_MEMORY, NICENESS, BuildFailed, BuildRequest, InsufficientMemory, build
from wan_mcp.engine.aot.child_process import exit_with_parent
from wan_mcp.logs import log_to_stderr

log = logging.getLogger("wan_mcp.engine.aot.build_main")  # it runs as `__main__`


def main(home: str, wanted: str) -> int:
    """Build the package; return exit code 0 if it now exists, `EXIT_NO_MEMORY` to retry later, else 1."""
    exit_with_parent()
    log_to_stderr("INFO")
    os.nice(NICENESS)
    request = BuildRequest(**json.loads(wanted))
    try:
        build(request, Path(home), lambda words: log.info("package %s: %s", request.name, words))
    except InsufficientMemory as error:
        log.info("package %s is not built yet: %s", request.name, error)
        return EXIT_NO_MEMORY
    except (BuildFailed, OSError) as error:
        log.warning("package %s could not be built; blocks keep running eagerly: %s", request.name, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
