"""Refuse requests from other sites and other users: by host name, a token, and a secret of the session."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from stadia.core.errors import ConfigError, StadiaError
from stadia.web.page_headers import HEADERS
from stadia.web.sessions import Session, SessionStore

SESSION_COOKIE, TOKEN_COOKIE = "stadia_session", "stadia_token"
CSRF_HEADER = "x-stadia"

COOKIE_S = 30 * 86400
"""How long browsers keep the cookies, seconds: the same time as results on disk without a visit."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that no site of another host can have (against DNS rebinding)."""

MAX_PATH = 1000
"""Most characters of the path in a URL."""

Handler = Callable[[Request], Awaitable[Response]]


def make_guard(
    sessions: SessionStore, token: str | None, public_host: str | None = None
) -> Callable[[Request, Handler], Awaitable[Response]]:
    """Create the middleware that checks every request before it is handled.

    sessions: the browsers' sessions.
    token: secret that a browser must send; None (only on this machine's own address) lets every user of the machine in.
    public_host: host name under which everybody is let in without a token; None lets nobody in.
    """

    async def guard(request: Request, handle: Handler) -> Response:
        try:
            response = await _check(request, handle)
        except StadiaError as error:
            response = refuse(str(error))
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def _check(request: Request, handle: Handler) -> Response:
        try:
            host, origin = urlsplit(f"//{request.headers.get('host', '')}").hostname, request.headers.get("origin")
            page = None if origin is None else urlsplit(origin).netloc
        except ValueError:
            return refuse("The host or origin is not an address.", 400)
        if len(request.url.path) > MAX_PATH:
            return refuse("This page does not exist.", 404)
        if token is None and host not in (*LOOPBACK, public_host):
            return refuse("Open http://127.0.0.1 instead of this host name.", 421)
        if token is not None and not _has_token(request, token):
            given = request.query_params.get("token", "")
            if request.method == "GET" and hmac.compare_digest(given.encode(), token.encode()):
                response: Response = RedirectResponse("/", 303)
                set_cookie(request, response, TOKEN_COOKIE, token)
                return response
            return _refuse_without_token(request)
        session = sessions.find(request.cookies.get(name_cookie(SESSION_COOKIE, request)))
        if request.method not in ("GET", "HEAD"):
            if page is not None and page != request.headers.get("host"):
                return refuse("Another page sent this request.", 403)
            secret = request.headers.get(CSRF_HEADER, "")
            if session is None or not hmac.compare_digest(secret.encode(), session.csrf.encode()):
                return refuse("The server was restarted. Reload this page.", 403)
            session.is_used = True
        request.state.session = session
        return await handle(request)

    return guard


NO_TOKEN = "This page needs its whole address, with the token. Ask the person who started the app."


def _refuse_without_token(request: Request) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return refuse(NO_TOKEN, 401)
    page = f'<!doctype html><html lang="en"><title>stadia</title><main><h1>stadia</h1><p>{NO_TOKEN}</p></main></html>'
    return HTMLResponse(page, 401)


def _has_token(request: Request, token: str) -> bool:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.cookies.get(name_cookie(TOKEN_COOKIE, request), "")
    return hmac.compare_digest(given.encode(), token.encode())


def name_cookie(name: str, request: Request) -> str:
    """Return the name of a cookie of this server; it contains the port, because browsers send cookies to all ports of a
    host.
    """
    return f"{name}_{request.url.port or 80}"


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that scripts cannot read, and that other sites can send only with a link to the page (SameSite=Lax).

    Requests that change something need the secret of the session too, which other sites cannot read.
    """
    is_encrypted = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    response.set_cookie(
        name_cookie(name, request),
        value,
        max_age=COOKIE_S,
        httponly=True,
        samesite="lax",
        secure=is_encrypted,
        path="/",
    )


def is_embedded(request: Request) -> bool:
    """Return whether a page of another site loads something of this one; such a request gets no session. A link of
    another site that a person follows does.
    """
    headers = request.headers
    is_followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_followed


def require_session(request: Request) -> Session:
    """Return the session of a request.

    Raises ConfigError if it has none.
    """
    session: Session | None = request.state.session
    if session is None:
        raise ConfigError("session", found="none", expected="the session of this page", fix="reload the page")
    return session


def refuse(message: str, status: int = 422, **about: Any) -> JSONResponse:
    """Return an error reply: one line of text, and further values, as JSON.

    message: the text.
    status: HTTP status code.
    about: further values.
    """
    return JSONResponse({"error": message, **about}, status)
