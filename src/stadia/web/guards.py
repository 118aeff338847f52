"""Refuse requests of other pages and of strangers: host names, a token, a session's secret, limits of size."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from stadia.core.errors import ConfigError, StadiaError
from stadia.web.sessions import Session, SessionStore

SESSION_COOKIE, TOKEN_COOKIE = "stadia_session", "stadia_token"
CSRF_HEADER = "x-stadia"

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
        " connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Of every reply. The browser itself refuses other hosts, inline scripts, and frames of other pages."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine. A page of another host whose name leads here (DNS rebinding) has none of them."""

Handler = Callable[[Request], Awaitable[Response]]


def make_guard(sessions: SessionStore, token: str | None) -> Callable[[Request, Handler], Awaitable[Response]]:
    """Return the middleware that checks every request before a page sees it.

    token: that a browser must have; None only where loopback alone is served, and every user of the machine may use it.
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
            return refuse("a host or an origin that is no address", 400)
        if token is None and host not in LOOPBACK:
            return refuse("this host name is not served: open http://127.0.0.1", 421)
        if token is not None and not _has_token(request, token):
            given = request.query_params.get("token", "")
            if request.method == "GET" and hmac.compare_digest(given.encode(), token.encode()):
                response: Response = RedirectResponse("/", 303)
                set_cookie(response, name_cookie(TOKEN_COOKIE, request), token)
                return response
            return refuse("open the address that `stadia app` printed: it has a token", 401)
        session = sessions.find(request.cookies.get(name_cookie(SESSION_COOKIE, request)))
        if request.method not in ("GET", "HEAD"):
            if page is not None and page != request.headers.get("host"):
                return refuse("a request of another page", 403)
            secret = request.headers.get(CSRF_HEADER, "")
            if session is None or not hmac.compare_digest(secret.encode(), session.csrf.encode()):
                return refuse("this page is older than the server: reload it", 403)
        request.state.session = session
        return await handle(request)

    return guard


def _has_token(request: Request, token: str) -> bool:
    """Return whether a request has the token, as a cookie or as `Authorization: Bearer`."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.cookies.get(name_cookie(TOKEN_COOKIE, request), "")
    return hmac.compare_digest(given.encode(), token.encode())


def name_cookie(name: str, request: Request) -> str:
    """Return the name of a server's cookie: browsers send those of all ports of a host to each of them."""
    return f"{name}_{request.url.port or 80}"


def set_cookie(response: Response, name: str, value: str) -> None:
    """Set a cookie that scripts cannot read, and that requests of other sites do not carry."""
    response.set_cookie(name, value, httponly=True, samesite="strict", path="/")


def require_session(request: Request) -> Session:
    """Return the session of a request. Raises ConfigError without one."""
    session: Session | None = request.state.session
    if session is None:
        raise ConfigError("session", found="none", expected="that of this page", fix="reload the page")
    return session


def refuse(message: str, status: int = 422, **about: Any) -> JSONResponse:
    """Return an error of one line as JSON."""
    return JSONResponse({"error": message, **about}, status)
