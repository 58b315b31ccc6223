"""`wan-mcp studio`: the page in a browser, served by the running server of this home or by this process."""

import html
import os
import sys
import threading
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from wan_mcp.errors import UserError
from wan_mcp.files import atomic_file, writing_to
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.settings import Settings

__all__ = ["studio"]

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables of which one is set where a browser can open a window, except on macOS and Windows."""
MINUTES = 5
OPENING_S = 10.0  # that a command for a browser may take, which should return at once
PORT = 8000


def studio(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but a loopback address needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on. Default: 8000, or a free one if that is taken."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Open the studio page, signed in. Starts its server unless one of this home is running."""
    from wan_mcp.fronts.http.app import run_http
    from wan_mcp.fronts.http.servers import running_page

    settings: Settings = ctx.obj.model_copy(update={"http_page": True})
    if (url := running_page(settings.home)) is not None:
        words, opening = _invitation(settings, url, opens=browser)
        echo(f"The server is running already. {words}")
        opening.join(OPENING_S)
        return

    def show(url: str) -> None:
        words, _ = _invitation(settings, url, opens=browser)
        echo(f"{words} Ctrl-C stops the server; jobs continue.", err=True)

    run_http(settings, host, PORT if port is None else port, on_listening=show, any_port=port is None)


def _invitation(settings: Settings, url: str, *, opens: bool) -> tuple[str, threading.Thread]:
    """Open the page by a link that signs in once, from a file that only this user can read.

    Return where it is, in words, and the thread that opens it.

    The link's secret is in no command line: others could read it there before the browser uses it.
    """
    from wan_mcp.fronts.web.sessions import Sessions

    try:
        sessions = Sessions(settings.home, "")
        secret, page = sessions.make_link()
        link = f"{url}/sign-in?code={secret}"
        with writing_to(page.parent), atomic_file(page, private=True) as file:
            file.write_text(_forwarding(link), encoding="utf-8")
        shown, opened = link, page.as_uri()
    except UserError as error:
        echo(f"No link to sign in could be made: {error}", fg="yellow", err=True)
        shown = opened = url
    thread = threading.Thread(target=_open, args=(opened,) if opens and _has_display() else (), daemon=True)
    thread.start()
    return f"The studio, by a link that works once, within {MINUTES} minutes: {shown}", thread


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in DISPLAYS)


def _open(*addresses: str) -> None:
    for address in addresses:
        with suppress(webbrowser.Error, OSError):
            webbrowser.open(address)


def _forwarding(link: str) -> str:
    """Return a page that goes on to the link by itself."""
    safe = html.escape(link)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Wan studio</title>'
        f'<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url={safe}">'
        f'<p><a href="{safe}">Go on to the studio</a></p></html>\n'
    )
