"""`wan-mcp cluster` with actors whose engines are fake ones: `python cluster_dispatcher.py MODULE:FUNCTION OPTIONS`."""

import sys

from wan_mcp.cluster import dispatcher
from wan_mcp.fronts.cli import main


def be(runner: str, options: list[str]) -> None:
    """Be the command."""
    dispatcher.RUNNER = runner
    sys.argv = ["wan-mcp", "cluster", *options]
    main()


if __name__ == "__main__":
    be(sys.argv[1], sys.argv[2:])
