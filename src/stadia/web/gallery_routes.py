"""Request handlers for the results of a browser: their list, small images, removal, and all of them in one archive."""

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from stadia.core.errors import ConfigError, StadiaError
from stadia.io.input_files import read_bytes
from stadia.web import photo as photos
from stadia.web.app_state import AppState, get_state
from stadia.web.gallery import MAX_STORED, MAX_STORED_BYTES, PHOTO, RECORD, SMALL, SMALL_DEPTH, StoredResult
from stadia.web.guards import require_session
from stadia.web.sessions import MAX_PHOTOS, MAX_VIDEOS, Session
from stadia.web.video import VIDEO_DOWNLOADS

MAX_SMALL_BYTES = 1 << 20

CHUNK_BYTES = 1 << 20

ARCHIVED = ("picture.png", "depth.png", "verdict.json")
"""Files of a picture in the archive of all results; the others are up to 30 times as large, and are made one by one."""


def describe_results(state: AppState, session: Session) -> dict[str, Any]:
    """Return the results of a browser, newest first, with their small images, and the limits, as JSON."""
    listed = list[dict[str, Any]]()
    stored = [] if state.gallery is None else state.gallery.list_results(session.key)
    for one in stored:
        names = (SMALL,) if one.record.kind == "check" else (SMALL, SMALL_DEPTH)
        images = [f"/api/results/{one.key}/{name}" for name in names]
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
    for key, drop in tuple(session.drops.items()):
        if key not in keys and drop.has_page:
            memory.append({"kind": "check", "key": key, "name": drop.name, "time_s": None, "images": []})
    limits: dict[str, Any] = {"max_photos": MAX_PHOTOS, "max_videos": MAX_VIDEOS}
    if state.gallery is not None:
        size = state.gallery.measure_bytes(session.key)
        limits = {"bytes": size, "max_results": MAX_STORED, "max_bytes": MAX_STORED_BYTES}
    return {"results": [*memory[::-1], *listed], **limits}


async def show_results(request: Request) -> Response:
    """Reply with the results of a browser, newest first, and the limits of their number and size."""
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
    """Remove a picture, a video or a verdict, from memory and disk."""
    state, session, key = get_state(request), require_session(request), request.path_params["key"]
    if not any(key in kept for kept in (session.photos, session.videos, session.drops)):
        await run_in_threadpool(_find_stored, request)  # raises for an unknown one
    session.photos.pop(key, None)
    if (job := session.videos.pop(key, None)) is not None:
        await run_in_threadpool(job.close)
    if (drop := session.drops.pop(key, None)) is not None:
        await run_in_threadpool(drop.job.close)
    if state.gallery is not None:
        await run_in_threadpool(state.gallery.remove, session.key, key)
    return JSONResponse({})


async def export_results(request: Request) -> Response:
    """Reply with all stored results in one .zip archive, a folder for each, which is sent while it is made."""
    stream = stream_results(get_state(request), require_session(request))
    headers = {"content-disposition": 'attachment; filename="stadia-results.zip"'}
    return StreamingResponse(stream, media_type="application/zip", headers=headers)


class _Pipe:
    """A file that zipfile writes, and whose bytes are taken as they come."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        """Do nothing: `take` has all bytes."""

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


def stream_results(state: AppState, session: Session) -> Iterator[bytes]:
    """Yield the bytes of a .zip archive of all stored results.

    Pictures are predicted again, for the files of ARCHIVED. Of a picture whose prediction fails, the archive has the
    picture alone.
    """
    pipe = _Pipe()
    stored = [] if state.gallery is None else state.gallery.list_results(session.key)
    with (
        tempfile.TemporaryDirectory(dir=state.folder) as folder,
        zipfile.ZipFile(cast(IO[bytes], pipe), "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for number, one in enumerate(stored):
            name = re.sub(r"[^\w.-]", "_", Path(one.record.name).stem) or one.record.kind
            place = f"stadia-results/{number + 1:02d}-{name[:60]}"
            for file, inside in _list_files(state, one, Path(folder)):
                with file.open("rb") as source, archive.open(f"{place}/{inside}", "w") as member:
                    while chunk := source.read(CHUNK_BYTES):
                        member.write(chunk)
                        yield pipe.take()
    yield pipe.take()


def _list_files(state: AppState, one: StoredResult, folder: Path) -> list[tuple[Path, str]]:
    """Return the files of a result, and their names in the archive; files that are made are in the folder."""
    assert state.gallery is not None
    if one.record.kind == "video":
        names = [name for name in VIDEO_DOWNLOADS if (one.folder / "predictions" / name).is_file()]
        return [(one.folder / "predictions" / name, name) for name in names]
    if one.record.kind == "check":
        paths = [path for path in sorted(one.folder.rglob("*")) if path.is_file() and path.name not in (RECORD, SMALL)]
        return [(path, path.relative_to(one.folder).as_posix()) for path in paths]
    files = [(one.folder / PHOTO, PHOTO)]
    with contextlib.suppress(StadiaError):
        kept = state.gallery.load_photo(one)
        job = partial(photos.predict_decoded, state.shelf, kept.decoded, kept.form)
        prediction = state.queue.submit(job).result()
        names = [name for name in ARCHIVED if photos.has_file(prediction, name)]
        files += [(photos.write_download(prediction, name, folder), name) for name in names]
    return files
