"""Icons of the server and of what it offers: tiny drawings as data URIs, for hosts that show them.

A modern client reads the server's icon with every result, so none is larger than a few hundred bytes.
"""

from urllib.parse import quote

from mcp.types import Icon

__all__ = ["CAPTION", "IMAGE", "JOB", "LIST", "SERVER", "VIDEO"]


def _icon(drawing: str) -> Icon:
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>{drawing}</svg>"
    return Icon(src=f"data:image/svg+xml,{quote(svg, safe=_PLAIN)}", mime_type="image/svg+xml", sizes=["any"])


_PLAIN = "/:=,;'"
_LINES = "fill='none' stroke='#f83' stroke-width='2'"

SERVER = _icon(
    "<rect width='24' height='24' rx='7' fill='#f83'/><path d='M5 8l4 8 3-7 3 7 4-8' fill='none' stroke='#210'/>"
)
VIDEO = _icon(f"<path d='M3 5h18v14H3zM10 9v6l5-3z' {_LINES}/>")
IMAGE = _icon(f"<path d='M3 5h18v14H3zM3 17l6-6 8 8' {_LINES}/>")
CAPTION = _icon(f"<path d='M4 7h16M4 12h16M4 17h9' {_LINES}/>")
JOB = _icon(f"<path d='M12 3a9 9 0 1 0 .1 0zM12 7v5l4 2' {_LINES}/>")
LIST = _icon(f"<path d='M4 6h2M9 6h11M4 12h2M9 12h11M4 18h2M9 18h11' {_LINES}/>")
