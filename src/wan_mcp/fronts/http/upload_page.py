"""The page behind an upload link: one field for one picture, and what became of it. It needs no script and no token."""

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse

__all__ = ["upload_page"]

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:8vh auto;padding:0 1rem}"
    "input[type=file]{display:block;box-sizing:border-box;width:100%;padding:4rem 1rem;margin:1rem 0;"
    "border:2px dashed;border-radius:.75rem;font:inherit}"
    "button{font:inherit;padding:.6rem 1.4rem;border-radius:.5rem;cursor:pointer}"
    "[role=alert]{border-left:.3rem solid #c62828;padding-left:.8rem}"
)
HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send the form without its origin
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
FORM = (
    '<form method="post" enctype="multipart/form-data">'
    '<label for="picture">Drop the picture here, or choose it. It goes to this server only ({limit} at most).</label>'
    '<input id="picture" name="picture" type="file" accept="image/*,video/*" required>'
    "<button>Send</button></form>"
)


def upload_page(title: str, words: str = "", *, status: int = 200, limit: str | None = None) -> HTMLResponse:
    """Return the page with a title and words; with the form if there is a `limit`, when the words are a problem."""
    said = f"<p{' role=alert' if limit else ''}>{escape(words)}</p>" if words else ""
    form = FORM.format(limit=escape(limit)) if limit else ""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{said}{form}</main></body></html>"
    )
    return HTMLResponse(html, status, HEADERS)
