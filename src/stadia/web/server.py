"""The web application of `stadia app`, and the server that runs it."""

import base64
import contextlib
import hashlib
import importlib
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from stadia import __version__, report
from stadia.core.errors import ConfigError, summarize_exception
from stadia.web.app_state import AppState, get_state, make_upload_folder
from stadia.web.forms import MAX_PHOTO_BYTES, MAX_PHOTO_PIXELS, MAX_VIDEO_BYTES, one_line
from stadia.web.guards import SESSION_COOKIE, is_embedded, make_guard, refuse, require_session, set_cookie
from stadia.web.networks import NetworkShelf
from stadia.web.page_headers import HEADERS
from stadia.web.sessions import SessionStore

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
SHARED_FOLDER = Path(report.__file__).parent / "shared"
"""Folder of static files that the pages share with the report of a run."""

ROUTES = (
    ("POST", "/api/photos", "stadia.web.photo_routes:add_photo"),
    ("GET", "/api/networks", "stadia.web.photo_routes:show_networks"),
    ("POST", "/api/networks/{name}/download", "stadia.web.photo_routes:download_network"),
    ("GET", "/api/results", "stadia.web.gallery_routes:show_results"),
    ("GET", "/api/results/all.zip", "stadia.web.gallery_routes:export_results"),
    ("GET", "/api/results/{key}/{name}.jpg", "stadia.web.gallery_routes:show_small"),
    ("POST", "/api/results/{key}/delete", "stadia.web.gallery_routes:delete_result"),
    ("GET", "/api/photos/{key}", "stadia.web.photo_routes:show_photo"),
    ("POST", "/api/photos/{key}/predict", "stadia.web.photo_routes:predict_again"),
    ("GET", "/api/photos/{key}/colors/{drawn}.jpg", "stadia.web.photo_routes:show_colors"),
    ("GET", "/api/photos/{key}/{name}.jpg", "stadia.web.photo_routes:show_image"),
    ("GET", "/api/photos/{key}/values.f32", "stadia.web.photo_routes:show_values"),
    ("GET", "/api/photos/{key}/cloud.bin", "stadia.web.photo_routes:show_cloud"),
    ("GET", "/api/photos/{key}/measure", "stadia.web.photo_routes:measure"),
    ("GET", "/api/photos/{key}/files/{name}", "stadia.web.photo_routes:download"),
    ("GET", "/api/photos/{key}/share", "stadia.web.photo_routes:share"),
    ("POST", "/api/videos", "stadia.web.video_routes:add_video"),
    ("GET", "/api/videos/{key}", "stadia.web.video_routes:show_video"),
    ("GET", "/api/videos/{key}/preview.jpg", "stadia.web.video_routes:preview"),
    ("GET", "/api/videos/{key}/preview.bin", "stadia.web.video_routes:show_preview_cloud"),
    ("POST", "/api/videos/{key}/second", "stadia.web.video_routes:add_second"),
    ("POST", "/api/videos/{key}/cancel", "stadia.web.video_routes:cancel"),
    ("POST", "/api/videos/{key}/skip", "stadia.web.video_routes:skip_map"),
    ("POST", "/api/videos/{key}/predict", "stadia.web.video_routes:predict_video_again"),
    ("GET", "/api/videos/{key}/measure", "stadia.web.video_routes:measure_video"),
    ("GET", "/api/videos/{key}/values/{number:int}.f32", "stadia.web.video_routes:show_video_values"),
    ("GET", "/api/videos/{key}/path", "stadia.web.video_routes:show_path"),
    ("GET", "/api/videos/{key}/cloud.bin", "stadia.web.video_routes:show_video_cloud"),
    ("GET", "/api/videos/{key}/share", "stadia.web.video_routes:share_video"),
    ("GET", "/api/videos/{key}/files/{name}", "stadia.web.video_routes:download_video"),
    ("GET", "/api/videos/{key}/{kind}/{number:int}.jpg", "stadia.web.video_routes:show_frame"),
    ("POST", "/api/drops", "stadia.web.drops:add_drop"),
    ("GET", "/api/drops/{key}", "stadia.web.drops:show_drop"),
    ("POST", "/api/drops/{key}/files", "stadia.web.drops:add_file"),
    ("POST", "/api/drops/{key}/check", "stadia.web.drops:check_drop"),
    ("POST", "/api/drops/{key}/model", "stadia.web.drops:model_drop"),
    ("POST", "/api/drops/{key}/cancel", "stadia.web.drops:cancel_drop"),
    ("GET", "/api/drops/{key}/page", "stadia.web.drops:show_page"),
    ("GET", "/api/drops/{key}/page.html", "stadia.web.drops:download_page"),
    ("GET", "/api/drops/{key}/fixed.zip", "stadia.web.drops:download_fixed"),
    ("GET", "/api/runs", "stadia.web.run_routes:show_runs"),
    ("POST", "/api/calibration", "stadia.web.photo_routes:read_calibration_file"),
    ("GET", "/api/trainings", "stadia.web.run_routes:show_start"),
    ("POST", "/api/trainings", "stadia.web.run_routes:start"),
    ("GET", "/api/compare", "stadia.web.run_routes:compare"),
    ("GET", "/api/runs/{name}", "stadia.web.run_routes:show_run"),
    ("GET", "/api/runs/{name}/report", "stadia.web.run_routes:show_report"),
    ("GET", "/api/runs/{name}/images/{image}", "stadia.web.run_routes:show_run_image"),
    ("GET", "/api/runs/{name}/small.jpg", "stadia.web.run_routes:show_small_image"),
    ("POST", "/api/runs/{name}/delete", "stadia.web.run_routes:delete_run"),
    ("POST", "/api/runs/{name}/stop", "stadia.web.run_routes:stop"),
    ("POST", "/api/runs/{name}/resume", "stadia.web.run_routes:resume"),
    ("GET", "/api/data", "stadia.web.run_routes:show_data"),
    ("POST", "/api/check", "stadia.web.run_routes:check"),
    ("GET", "/api/pages", "stadia.web.audit_routes:show_pages"),
    ("GET", "/api/pages/{name}", "stadia.web.audit_routes:show_page"),
)
"""HTTP method, path, and the function that replies ("module:name"); its module is imported at its first request."""


def load_endpoint(place: str) -> Callable[[Request], Awaitable[Response]]:
    """Return a request handler that imports the function "module:name" at its first request."""
    module, _, name = place.partition(":")

    async def reply(request: Request) -> Response:
        loaded = await run_in_threadpool(importlib.import_module, module)
        response: Response = await getattr(loaded, name)(request)
        return response

    reply.__name__ = name
    return reply


def make_app(
    names: Sequence[str],
    *,
    runs: Path | None = None,
    data: Path | None = None,
    results: Path | None = None,
    token: str | None = None,
    public_host: str | None = None,
) -> Starlette:
    """Create the web application.

    names: runs, checkpoints or published networks; the first one is the default.
    runs: a folder of training runs to list; None lists none.
    data: a folder whose data may be checked; None allows none.
    results: a folder that keeps pictures and videos across a restart; None keeps them until the server stops.
    token: secret that a browser must send; None only if the server is reachable from this machine alone, or public.
    public_host: host name of a page for strangers, who predict photos and videos only; None for no such page.
    """
    state = AppState(NetworkShelf(names), make_upload_folder(), runs, data, public_host is not None)
    if results is not None:
        from stadia.web.gallery import Gallery

        state.gallery = Gallery(results, state.shelf)
        state.sessions = SessionStore(state.gallery.has)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        state.warm_up()
        try:
            yield
        finally:
            state.close()

    zipped = [Middleware(GZipMiddleware, compresslevel=5)]
    pages: list[BaseRoute] = [Route("/", one_line(show_page), middleware=zipped)]
    pages += [Route("/api/session", one_line(show_session))]
    pages += [Route(path, one_line(load_endpoint(place)), methods=[method]) for method, path, place in ROUTES]
    pages += [
        Mount(f"/{folder.name}", StaticFiles(directory=folder), middleware=zipped) for folder in (STATIC, SHARED_FOLDER)
    ]
    app = Starlette(
        routes=pages,
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=make_guard(state.sessions, token, public_host))],
        lifespan=lifespan,
        exception_handlers={Exception: _report_bug},
    )
    app.state.shared = state
    return app


async def _report_bug(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, summarize_exception(error))
    return refuse(f"Internal error, {type(error).__name__}. Please report it.", 500)


@cache
def render_page() -> tuple[str, str]:
    """Return the page with its style sheets in it, which a browser paints after one reply, and its policy, which allows
    them by their hash.
    """
    page, folders = (
        (STATIC / "index.html").read_text(encoding="utf-8"),
        {one.name: one for one in (STATIC, SHARED_FOLDER)},
    )
    sheets = re.findall(r'<link rel="stylesheet" href="/(\w+)/(\w+\.css)">\n', page)
    style = "".join((folders[folder] / name).read_text(encoding="utf-8") for folder, name in sheets)
    page = re.sub(r'(<link rel="stylesheet" [^>]+>\n)+', lambda _: f"<style>{style}</style>\n", page)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    name = "content-security-policy"
    return page, HEADERS[name].replace("style-src 'self'", f"style-src 'self' 'sha256-{digest}'")


async def show_page(request: Request) -> Response:
    """Reply with the page, and start a session for a new browser."""
    page, policy = render_page()
    return _start_session(request, HTMLResponse(page, headers={"content-security-policy": policy}))


def _start_session(request: Request, response: Response) -> Response:
    if request.state.session is None and not is_embedded(request):
        request.state.session = get_state(request).sessions.create()
        set_cookie(request, response, SESSION_COOKIE, request.state.session.key)
    return response


async def show_session(request: Request) -> Response:
    """Reply with the session's secret, the networks, and the limits of uploads."""
    session, state = require_session(request), get_state(request)
    about = {
        "csrf": session.csrf,
        "networks": state.shelf.labels(),
        "version": __version__,
        "is_public": state.is_public,
        "max_photo_bytes": MAX_PHOTO_BYTES,
        "max_photo_pixels": MAX_PHOTO_PIXELS,
        "max_video_bytes": MAX_VIDEO_BYTES,
    }
    return JSONResponse(about)


def find_own_address() -> str:
    """Return the address of this machine for other machines; 127.0.0.1 without a network. Sends nothing."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def serve(app: Starlette, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve an application until the process is interrupted.

    app: the application.
    host, port: address to serve.
    started: called with the address of the page, once the port is open.

    Raises ConfigError if the port cannot be opened.
    """
    import uvicorn

    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        app.state.shared.close()
        found = f"{host}:{port}, which cannot be opened ({error.strerror})"
        raise ConfigError("--port", found=found, expected="a free port", fix="pass another --port") from error
    name = find_own_address() if host in ("", "0.0.0.0", "::") else host
    shown = f"[{name}]" if ":" in name else name
    started(f"http://{shown}:{listener.getsockname()[1]}/")
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, lifespan="on"
    )
    with listener:
        uvicorn.Server(settings).run(sockets=[listener])
