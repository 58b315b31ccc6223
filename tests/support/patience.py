"""How long tests wait before they give up."""

__all__ = ["PATIENCE_S"]

PATIENCE_S = 240
"""Seconds. It ends a test that hangs and promises no speed: a machine that is busy with other work passes, too."""
