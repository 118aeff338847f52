"""Request handlers for the pages of audits and of checks of rigs in the folders of the server, which are read only."""

from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.errors import ConfigError, StadiaError
from stadia.io.input_files import read_bytes, read_json, read_text
from stadia.web.app_state import AppState, get_state
from stadia.web.guards import require_session
from stadia.web.run_routes import MAX_REPORT_BYTES, REPORT_POLICY

PAGES = {"audit.html": "audit", "rig-check.html": "rig"}
"""File of a page in its folder, and its kind."""

MAX_LISTED = 100


def find_pages(state: AppState) -> dict[str, Path]:
    """Return the pages in the folders of data and of runs by the name of their folder, newest first."""
    found = dict[str, Path]()
    if state.is_public:
        return found
    for root in (state.data, state.runs):
        if root is None or not root.is_dir():
            continue
        for file in (folder / name for folder in sorted(root.iterdir()) for name in PAGES):
            if file.is_file() and file.resolve().is_relative_to(root.resolve()):
                found.setdefault(file.parent.name, file)
    newest = sorted(found, key=lambda name: found[name].stat().st_mtime, reverse=True)
    return {name: found[name] for name in newest[:MAX_LISTED]}


def describe_page(page: Path) -> dict[str, Any]:
    """Return name, kind, time and a sentence about the page of an audit or of the check of a rig as JSON."""
    kind, about = PAGES[page.name], ""
    try:
        if kind == "audit":
            lines = read_text(page.parent / "exclude.txt", expected="names of items").splitlines()
            bad = sum(bool(line.strip()) and not line.startswith("#") for line in lines)
            about = f"{bad} bad item{'s' * (bad != 1)}"
        else:
            record = read_json(page.parent / "rig-check.json", expected="the check of a rig")
            count = len(record["cameras"])
            about = f"{record['grade']}, {count} camera{'s' * (count != 1)}"
    except (StadiaError, KeyError, TypeError):
        about = "its record cannot be read"
    return {"name": page.parent.name, "kind": kind, "about": about, "time_s": page.stat().st_mtime}


async def show_pages(request: Request) -> Response:
    """Reply with the audits and checks of rigs of the server, newest first."""
    require_session(request)
    state = get_state(request)
    found = await run_in_threadpool(lambda: [describe_page(page) for page in find_pages(state).values()])
    return JSONResponse({"pages": found})


async def show_page(request: Request) -> Response:
    """Reply with one of these pages; its policy gives it no access to this page or its cookies."""
    require_session(request)
    state, name = get_state(request), request.path_params["name"]

    def read() -> bytes:
        page = find_pages(state).get(name)
        if page is None:
            raise ConfigError("page", found="unknown name", expected="one of the list", fix="reload the page")
        return read_bytes(page, expected="a page", max_bytes=MAX_REPORT_BYTES)

    return Response(
        await run_in_threadpool(read), media_type="text/html", headers={"content-security-policy": REPORT_POLICY}
    )
