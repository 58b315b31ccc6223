"""The value of --shot: a shot written as its prompt."""

from wan_mcp.schema.requests import ShotRequest

__all__ = ["SHOT_OPTION", "parse_shot"]


def parse_shot(written: str) -> ShotRequest:
    """Return the shot of a prompt."""
    return ShotRequest(prompt=written)


SHOT_OPTION = {"parser": parse_shot, "metavar": "PROMPT"}
