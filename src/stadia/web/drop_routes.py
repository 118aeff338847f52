"""Request handlers for files that are dropped together: the verdict on another program's result by its images."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.io.input_files import read_bytes
from stadia.web.app_state import get_state
from stadia.web.drops import MAX_DROP_BYTES, PAGE, Drop, pack_folder
from stadia.web.forms import UPLOAD, parse_form, read_json_body, read_query, receive_file
from stadia.web.guards import require_session
from stadia.web.run_routes import MAX_REPORT_BYTES, REPORT_POLICY
from stadia.web.sessions import find_kept
from stadia.web.video import VideoJob, run_command
from stadia.web.video_routes import ending


class FileForm(StrictModel):
    """A file of a drop; its name, which may be a path on the user's computer."""

    name: Annotated[str, Field(min_length=1, max_length=1000)]


class ResultForm(StrictModel):
    """How to judge a result.

    fov_deg: horizontal field of view of its camera, degrees; None takes the camera in the files.
    """

    fov_deg: Annotated[float, Field(ge=5, le=160)] | None = None


async def add_drop(request: Request) -> Response:
    """Start a drop, whose files are sent one by one."""
    session, state = require_session(request), get_state(request)
    folder = await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder))
    return JSONResponse({"drop": session.keep_drop(Drop(VideoJob(Path(folder), state="open")))})


async def add_file(request: Request) -> Response:
    """Receive one file of a drop; the files of a .zip archive are stored in its place."""
    drop, form = _find_open(request), parse_form(FileForm, read_query(request))
    with tempfile.TemporaryDirectory(dir=drop.job.folder) as folder:
        path = Path(folder) / "upload"
        await receive_file(request, path, MAX_DROP_BYTES)

        def store() -> None:
            if form.name.lower().endswith(".zip"):
                drop.unpack(path)
                return
            with path.open("rb") as stream:
                drop.add(form.name, stream.read)

        try:
            await run_in_threadpool(store)
        except DataError:
            await _remove(request)
            raise
    return JSONResponse(drop.describe())


async def show_drop(request: Request) -> Response:
    """Reply with what was dropped, the progress of the work on it, and its end."""
    return JSONResponse(await run_in_threadpool(_find(request).describe))


async def cancel_drop(request: Request) -> Response:
    """End the work on a drop, and remove its files."""
    _find(request)
    await _remove(request)
    return JSONResponse({})


async def check_drop(request: Request) -> Response:
    """Judge the result of another program by its images, after the reply; the body holds a ResultForm."""
    drop, state = _find_open(request), get_state(request)
    form = parse_form(ResultForm, await read_json_body(request))
    words = await run_in_threadpool(drop.name_check, form.fov_deg)
    drop.job.state, drop.job.error = "waiting", ""
    state.video_queue.submit(judge_drop, drop, words)
    return JSONResponse({})


def judge_drop(drop: Drop, words: list[str]) -> None:
    """Run the command that judges a result; the drop stays, so that a missing file can be added."""
    job = drop.job
    with ending(job):
        job.go_on("checking")
        why = run_command(job, [*words, "--force"])
        if not (job.folder / PAGE).is_file():
            job.state, job.error = "open", why or "the result cannot be judged"
            return
        fixed = list((job.folder / "fixed").glob("result*"))
        drop.fixed = fixed[0] if fixed else None
        job.state = "done"


async def show_page(request: Request) -> Response:
    """Reply with the page of a verdict; its policy gives it no access to this page or its cookies."""
    data = await run_in_threadpool(_read_page, request)
    return Response(data, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


async def download_page(request: Request) -> Response:
    """Reply with the page of a verdict as a file."""
    headers = {"content-disposition": 'attachment; filename="stadia-verdict.html"'}
    return Response(await run_in_threadpool(_read_page, request), media_type="text/html", headers=headers)


def _read_page(request: Request) -> bytes:
    path = _find(request).job.folder / PAGE
    if not path.is_file():
        raise ConfigError("verdict", found="none yet", expected="a verdict", fix="wait until the verdict is shown")
    return read_bytes(path, expected="a page", max_bytes=MAX_REPORT_BYTES)


async def download_fixed(request: Request) -> Response:
    """Reply with the corrected result in a .zip archive."""
    fixed = _find(request).fixed
    if fixed is None:
        raise ConfigError(
            "result",
            found="nothing corrected",
            expected="a corrected result",
            fix="read the verdict: it shows why nothing was corrected",
        )
    headers = {"content-disposition": 'attachment; filename="stadia-corrected.zip"'}
    return Response(await run_in_threadpool(pack_folder, fixed), media_type="application/zip", headers=headers)


async def _remove(request: Request) -> None:
    drop: Any = require_session(request).drops.pop(request.path_params["key"], None)
    if drop is not None:
        await run_in_threadpool(drop.job.close)


def _find(request: Request) -> Drop:
    drop: Drop = find_kept(require_session(request).drops, request.path_params["key"], UPLOAD)
    return drop


def _find_open(request: Request) -> Drop:
    drop = _find(request)
    if drop.job.state not in ("open", "done"):
        raise ConfigError(
            UPLOAD, found=f"state {drop.job.state}", expected="open", fix="wait until the check has ended"
        )
    return drop
