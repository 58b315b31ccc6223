"""The command `wan-mcp`."""

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    raise NotImplementedError
