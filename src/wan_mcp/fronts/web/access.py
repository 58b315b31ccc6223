"""Who may use the page: near browsers as other clients, and those that have signed in where a token is required.

The page's cookie opens the page, its API and the media, and nothing else: programs send the token itself.
"""

from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from wan_mcp.errors import UserError
from wan_mcp.fronts.identity import IDENTITY, STRANGER, Identity
from wan_mcp.fronts.web.answers import SAFE_HEADERS, Answers
from wan_mcp.fronts.web.same_origin import require_same_origin
from wan_mcp.fronts.web.sessions import Sessions
from wan_mcp.fronts.web.shapes import Action, Problem, SessionAnswer
from wan_mcp.fronts.web.shell import PAGE_HEADERS, Shell
from wan_mcp.service.owners import HOME_USER
from wan_mcp.service.service import JobService
from wan_mcp.service.tokens import Tokens

__all__ = ["SIGN_IN", "PageAccess"]

SIGN_IN = "/sign-in"
OPEN = (SIGN_IN, "/static/")
"""Paths that anybody may read: they hold nothing of this home."""
OWN = ("/api/", "/media/")
FORM_BYTES = 4096
COOKIE_S = 30 * 86_400
USED = "That link was used already, or is too old. Run 'wan-mcp studio' for another, or enter the token."
WRONG = "That is not this server's token."
NO_LINK = "Run 'wan-mcp studio' on this machine: it opens the page signed in."


class PageAccess:
    """The sign-in of one server."""

    def __init__(self, service: JobService, shell: Shell, answers: Answers, *, sign_in: bool) -> None:
        """Require a sign-in with `sign_in`; otherwise the other guards say who is answered."""
        self.required = sign_in
        self._has_issuer = bool(service.settings.oauth_issuer)
        self._http_token, self._tokens = bool(service.settings.http_token), Tokens(service.settings.home)
        self._sessions = Sessions(service.settings.home, service.settings.http_token)
        self._shell, self._answers = shell, answers

    def routes(self) -> list[BaseRoute]:
        """Return the routes of signing in and out."""
        return [
            Route(SIGN_IN, self.ask, methods=["GET"]),
            Route(SIGN_IN, self._answers.guarded(self.take), methods=["POST"]),
            Route("/api/session", self._answers.guarded(self.show), methods=["GET"]),
            Route("/api/sign-out", self._answers.guarded(self.sign_out), methods=["POST"]),
        ]

    @property
    def _takes_token(self) -> bool:
        return self._http_token or self._tokens.any()

    # What the guard asks.

    def covers(self, scope: Scope) -> bool:
        """Check whether a request is for the page rather than for another program's endpoint."""
        path: str = scope["path"]
        # Without a token, programs that are answered may read media; see decision 25.
        own = OWN if self._has_issuer or self._takes_token else OWN[:1]
        if path.startswith("/media/") and scope["method"] not in ("GET", "HEAD"):
            return False  # programs send pictures there, with the token
        return path == "/" or path.startswith((*OPEN, *own))

    async def admits(self, scope: Scope) -> bool:
        """Check whether a request for the page may pass, and note in whose name it is made."""
        path: str = scope["path"]
        if path == SIGN_IN or path.startswith("/static/"):
            scope[IDENTITY] = STRANGER
            return True
        owner = await self._owner_of(scope)
        if owner is None:
            return False
        scope[IDENTITY] = Identity(owner)
        return True

    async def _owner_of(self, scope: Scope) -> str | None:
        """Return who has signed in by the browser of a request; None if nobody has."""
        value = _cookie(scope)
        return None if value is None else await run_sync(self._sessions.owner_of, value)

    def refusal(self, scope: Scope) -> Response:
        """Return the answer to a request for the page from a browser that has not signed in."""
        if scope["path"] == "/":
            if Headers(scope=scope).get("sec-fetch-site") == "cross-site":
                # A link on another page: the browser keeps back a strict cookie, and sends it when it asks again.
                return _moved_by_itself("/")
            return RedirectResponse(SIGN_IN, 303, SAFE_HEADERS)
        problem = Problem(
            error="Sign in to use this page.", code="sign_in", action=Action(do="sign_in", label="Sign in")
        )
        headers = SAFE_HEADERS | {"WWW-Authenticate": 'Bearer realm="wan-mcp"'}
        return Response(problem.model_dump_json(), 401, headers, "application/json")

    # The endpoints.

    async def ask(self, request: Request) -> Response:
        """Show the form for the token, or take the secret of a link."""
        secret = request.query_params.get("code")
        if secret is not None:
            owner = await run_sync(self._sessions.redeem, secret)
            if owner is not None:
                return await self._signed_in(request, owner)
            return await self._form(request, USED, 401)
        if not self.required or await self.admits({**request.scope, "path": "/"}):
            return RedirectResponse("/", 303, SAFE_HEADERS)
        return await self._form(request)

    async def take(self, request: Request) -> Response:
        """Take the token from the form."""
        require_same_origin(request, form=True)
        if (pause_s := self._sessions.pause_s) > 0:
            words = f"Too many wrong tokens; try again in {pause_s:.0f} s."
            return await self._form(request, words, 429, **{"Retry-After": f"{pause_s:.0f}"})
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > FORM_BYTES:
                return await self._form(request, WRONG, 413)
        token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        owner = await run_sync(self._sessions.owner_of_token, token)
        if owner is None:
            return await self._form(request, WRONG, 401)
        return await self._signed_in(request, owner)

    async def _form(self, request: Request, problem: str = "", status: int = 200, **headers: str) -> Response:
        takes_token = await run_sync(lambda: self._takes_token)
        if not takes_token:
            problem = problem or NO_LINK
        values: dict[str, Any] = {"problem": problem, "takes_token": takes_token}
        response = await self._shell.page(request, "sign_in.html", status, **values)
        response.headers.update(SAFE_HEADERS | headers)
        return response

    async def _signed_in(self, request: Request, owner: str = HOME_USER) -> Response:
        try:
            value = await run_sync(self._sessions.begin, owner)
        except UserError as error:
            return await self._form(request, str(error), 503)
        # Not a redirect: one that began at another page would be followed without the cookie. The entry with the
        # secret is replaced in the browser's history.
        response = _moved_by_itself("/")
        self._set_cookie(request, response, value, COOKIE_S)
        return response

    def _set_cookie(self, request: Request, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            _cookie_name(request.scope),
            value,
            max_age=seconds,
            path="/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    async def show(self, request: Request) -> Response:
        """Return whether this browser has signed in, and whether it has to."""
        require_same_origin(request)
        return self._answers.json(
            request, SessionAnswer(required=self.required, signed_in=await self.signed_in(request))
        )

    async def signed_in(self, request: Request) -> bool:
        """Check whether the browser has a session."""
        return await self._owner_of(request.scope) is not None

    async def make_link(self, owner: str) -> str:
        """Return the secret of a link that signs `owner` in once, soon, in another browser.

        Raises:
            HomeUnusable: The home cannot be written.
        """
        secret, _ = await run_sync(self._sessions.make_link, owner)
        return secret

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        require_same_origin(request)
        if (value := _cookie(request.scope)) is not None:
            await run_sync(self._sessions.end, value)
        response = Response(status_code=204, headers=SAFE_HEADERS | {"Clear-Site-Data": '"cache"'})
        self._set_cookie(request, response, "", 0)
        return response


def _moved_by_itself(place: str) -> Response:
    """Return a page that redirects the browser to a place, as a step of the page's own origin."""
    html = (
        f'<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url={place}"><title>Wan studio</title>'
    )
    html += f'<p><a href="{place}">Go on to the studio</a></p></html>'
    return Response(html, 200, PAGE_HEADERS | SAFE_HEADERS, "text/html")


def _cookie_name(scope: Scope) -> str:
    """Return the name of the cookie: browsers send cookies of a host to all its ports."""
    port = Headers(scope=scope).get("host", "").rpartition(":")[2]
    return f"wan-mcp-{port}" if port.isdecimal() else "wan-mcp"


def _cookie(scope: Scope) -> str | None:
    try:
        cookies = SimpleCookie("; ".join(Headers(scope=scope).getlist("cookie")))
    except CookieError:
        return None
    found = cookies.get(_cookie_name(scope))
    return None if found is None else found.value
