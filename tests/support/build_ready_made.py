"""The build of a package for an engine, with a ready-made package in place of the compiler."""

import sys

from wan_mcp.engine.aot import build_main as build
from wan_mcp.engine.aot import builder as building

if __name__ == "__main__":
    building.COMPILE = "tests.support.ready_made_package"
    sys.exit(build.main(*sys.argv[1:]))
