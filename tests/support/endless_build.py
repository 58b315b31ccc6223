"""A build that goes on until the engine that started it ends it."""

import signal

from wan_mcp.engine.aot.child_process import exit_with_parent

if __name__ == "__main__":
    exit_with_parent()
    while True:
        signal.pause()
