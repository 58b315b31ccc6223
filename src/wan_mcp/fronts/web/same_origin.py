"""Where a request to the page's API comes from: the page itself, or a program with the token.

A browser sends cookies, and comes from the user's own address, whichever page asks it to. So a page of another origin
is refused here even if it is one of this machine: `Origin` and `Sec-Fetch-Site` reveal it. A request that changes
something also needs a header that no form and no link can send.
"""

from starlette.requests import Request

from wan_mcp.fronts.web.answers import Refusal

__all__ = ["OWN_HEADER", "require_same_origin"]

OWN_HEADER = "X-Wan-Mcp"
"""The page sends it with every request that changes something; its value does not matter."""
READS = ("GET", "HEAD")


def require_same_origin(request: Request, *, form: bool = False) -> None:
    """Refuse a request that another page makes; a `form` of the page itself needs no header.

    Raises:
        Refusal: It does, or nothing proves that it does not.
    """
    headers = request.headers
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    own = origin is None or origin.partition("://")[2] == headers.get("host", "")
    if not own or (site is not None and site not in ("same-origin", "none")):
        raise Refusal(403, "other_origin", "Only the page of this server may use this address.")
    if form or request.method in READS or OWN_HEADER in headers or "authorization" in headers:
        return
    raise Refusal(403, "no_own_header", f"A request that changes something needs the header {OWN_HEADER}: page.")
