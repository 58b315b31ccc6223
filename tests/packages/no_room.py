"""A build that finds a GPU without room for it."""

import sys

from wan_mcp.engine.aot.builder import NO_ROOM

if __name__ == "__main__":
    sys.exit(NO_ROOM)
