"""A build that finds a GPU without room for it."""

import sys

from wan_mcp.engine.aot.builder import EXIT_NO_MEMORY

if __name__ == "__main__":
    sys.exit(EXIT_NO_MEMORY)
