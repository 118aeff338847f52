"""Request handlers for the results of a browser: their list, small images, removal, and all of them in one archive."""

import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from stadia.core.errors import ConfigError, StadiaError
from stadia.io.input_files import read_bytes
from stadia.web import photo as photos
from stadia.web.app_state import AppState, get_state, run_in_turn
from stadia.web.gallery import MAX_STORED, MAX_STORED_BYTES, SMALL, SMALL_DEPTH, StoredResult
from stadia.web.guards import require_session
from stadia.web.sessions import MAX_PHOTOS, MAX_VIDEOS, Session
from stadia.web.video import VIDEO_DOWNLOADS

MAX_SMALL_BYTES = 1 << 20


def describe_results(state: AppState, session: Session) -> dict[str, Any]:
    """Return the results of a browser, newest first, with their small images, and the limits, as JSON."""
    listed = list[dict[str, Any]]()
    stored = [] if state.gallery is None else state.gallery.list_results(session.key)
    for one in stored:
        images = [f"/api/results/{one.key}/{name}" for name in (SMALL, SMALL_DEPTH)]
        about = {"kind": one.record.kind, "key": one.key, "name": one.record.name, "time_s": one.record.time_s}
        listed.append({**about, "images": images})
    keys = {one.key for one in stored}
    memory = list[dict[str, Any]]()
    for key, kept in tuple(session.photos.items()):  # requests change it meanwhile
        if key not in keys and kept.prediction is not None:
            images = [f"/api/photos/{key}/{name}.jpg" for name in ("small", "color")]
            memory.append({"kind": "photo", "key": key, "name": kept.name, "time_s": None, "images": images})
    for key, job in tuple(session.videos.items()):
        if key not in keys and job.state not in ("failed", "cancelled"):
            images = [f"/api/videos/{key}/{name}.jpg" for name in ("image/0", "preview")]
            memory.append({"kind": "video", "key": key, "name": job.name, "time_s": None, "images": images})
    limits: dict[str, Any] = {"max_photos": MAX_PHOTOS, "max_videos": MAX_VIDEOS}
    if state.gallery is not None:
        size = state.gallery.measure_bytes(session.key)
        limits = {"bytes": size, "max_results": MAX_STORED, "max_bytes": MAX_STORED_BYTES}
    return {"results": [*memory[::-1], *listed], **limits}


async def show_results(request: Request) -> Response:
    """Reply with the pictures and videos of a browser, newest first, and the limits of their number and size."""
    session = require_session(request)
    return JSONResponse(await run_in_threadpool(describe_results, get_state(request), session))


def _find_stored(request: Request) -> StoredResult:
    gallery, session = get_state(request).gallery, require_session(request)
    for one in [] if gallery is None else gallery.list_results(session.key):
        if one.key == request.path_params["key"]:
            return one
    raise ConfigError(
        "result", found="nothing at this address", expected="one of your last ones", fix="reload the page"
    )


async def show_small(request: Request) -> Response:
    """Reply with the small image of a stored result, or of its depth, as JPEG."""
    name = f"{request.path_params['name']}.jpg"
    if name not in (SMALL, SMALL_DEPTH):
        raise ConfigError("image", found=f"'{name}'", expected=f"{SMALL} or {SMALL_DEPTH}", fix="reload the page")
    path = (await run_in_threadpool(_find_stored, request)).folder / name
    data = await run_in_threadpool(lambda: read_bytes(path, expected="an image", max_bytes=MAX_SMALL_BYTES))
    return Response(data, media_type="image/jpeg")


async def delete_result(request: Request) -> Response:
    """Remove a picture or a video, from memory and disk."""
    state, session, key = get_state(request), require_session(request), request.path_params["key"]
    if key not in session.photos and key not in session.videos:
        await run_in_threadpool(_find_stored, request)  # raises for an unknown one
    session.photos.pop(key, None)
    if (job := session.videos.pop(key, None)) is not None:
        await run_in_threadpool(job.close)
    if state.gallery is not None:
        await run_in_threadpool(state.gallery.remove, session.key, key)
    return JSONResponse({})


async def export_results(request: Request) -> Response:
    """Reply with the files of all stored results in one .zip archive, a folder for each."""
    state, session = get_state(request), require_session(request)
    folder = Path(await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder)))
    try:
        path = await run_in_turn(request, lambda: pack_results(state, session, folder), state.queue)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    headers = {"content-disposition": 'attachment; filename="stadia-results.zip"'}
    cleanup = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(path, media_type="application/zip", headers=headers, background=cleanup)


def pack_results(state: AppState, session: Session, folder: Path) -> Path:
    """Write the files of all stored results into a .zip archive in a folder; return its path.

    Pictures are predicted again. A result that fails is left out.
    """
    gallery, path = state.gallery, folder / "results.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for number, one in enumerate([] if gallery is None else gallery.list_results(session.key)):
            name = re.sub(r"[^\w.-]", "_", Path(one.record.name).stem) or one.record.kind
            place = f"stadia-results/{number + 1:02d}-{name[:60]}"
            for file in _list_files(state, one, folder):
                archive.write(file, f"{place}/{file.name}")
                if file.is_relative_to(folder):
                    file.unlink()
    return path


def _list_files(state: AppState, one: StoredResult, folder: Path) -> list[Path]:
    assert state.gallery is not None
    if one.record.kind == "video":
        files = [one.folder / "predictions" / name for name in VIDEO_DOWNLOADS]
        return [path for path in files if path.is_file()]
    try:
        kept = state.gallery.load_photo(one)
        prediction = photos.predict_decoded(state.shelf, kept.decoded, kept.form)
    except StadiaError:
        return [one.folder / "photo.png"]
    names = [name for name in photos.DOWNLOADS if photos.has_file(prediction, name)]
    return [photos.write_download(prediction, name, folder) for name in names]
