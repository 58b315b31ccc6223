"""`python -m wan_mcp` is the command `wan-mcp`."""

from wan_mcp.fronts.cli import main

if __name__ == "__main__":
    main()
