"""`python -m wan_mcp` is the command `wan-mcp`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which Python puts first: nothing is imported from it

from wan_mcp.fronts.cli import main

if __name__ == "__main__":
    main()
