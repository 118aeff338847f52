"""Request handlers for videos: upload, progress, frames, points, files, cancel."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.io.image_io import read_image
from stadia.predict.run import CLOUD, DEPTH_COLOR
from stadia.report.result_page import render_result
from stadia.web import networks, share_page
from stadia.web.app_state import AppState, get_state
from stadia.web.decoding import DecodedPhoto, DecodedVideo, decode_video
from stadia.web.first_scene import grow_scene, start_scene
from stadia.web.forms import UPLOAD, parse_form, parse_query_json, read_json_body, read_query, receive_upload, send_page
from stadia.web.guards import require_session
from stadia.web.measuring import MeasuredForm, MeasureForm
from stadia.web.photo import PredictForm, choose_camera, color_prediction, predict_decoded
from stadia.web.photo_routes import send_values
from stadia.web.progress import PLAN
from stadia.web.sessions import find_kept
from stadia.web.trainings import check_free_memory
from stadia.web.video import (
    CLOUD_GLB,
    DEFAULT_RATE_HZ,
    MAX_VIDEO_FRAMES,
    MAX_VIDEO_SIDE,
    MESH_GLB,
    VIDEO_DOWNLOADS,
    MappedFrames,
    VideoJob,
    adapt_frames,
    copy_frames,
    describe_path,
    encode_video_glb,
    encode_video_mesh,
    explain_error,
    map_frames,
    measure_frame,
    predict_video,
    read_cloud,
    read_frame_depth,
)

MAX_SHOWN_POINTS = 300_000

MAX_NAME = 80
"""Most characters of a file's name that are kept."""


class VideoForm(StrictModel):
    """How a video is to be predicted.

    network: index of the network in the list.
    fov_deg: horizontal field of view that the user chose, degrees; None if not.
    every: take each n-th frame; None spreads frames over the whole video.
    """

    network: Annotated[int, Field(ge=0)] = 0
    fov_deg: float | None = None
    every: Annotated[int, Field(ge=1, le=1000)] | None = None


async def add_video(request: Request) -> Response:
    """Receive an uploaded video; it is decoded and predicted after the reply, and `show_video` has the progress."""
    session, state = require_session(request), get_state(request)
    given = read_query(request)
    name = given.pop("name", "")[:MAX_NAME]
    form = parse_form(VideoForm, given)
    job = VideoJob(Path(await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder))), name=name)
    job.network = form.network
    key = session.keep_video(job)
    set_store(state, session.key, key, job)
    try:
        path = await receive_upload(request, job.folder, ["video"])
        if job.state == "cancelled":
            raise ConfigError("video", found="a cancelled upload", expected="a video", fix="upload the video again")
        state.video_queue.submit(work_on, state, job, path, form)
    except BaseException:
        session.videos.pop(key, None)
        await run_in_threadpool(job.close)
        raise
    return JSONResponse({"video": key})


def set_store(state: AppState, session: str, key: str, job: VideoJob) -> None:
    """Let a job store itself on disk when it is done, if the server has a folder for results."""
    if state.gallery is not None:
        job.store = partial(state.gallery.save_video, session, key, job)


def work_on(state: AppState, job: VideoJob, path: Path, form: VideoForm) -> None:
    """Decode, map and predict an uploaded video.

    state: what the request handlers share.
    job: the job.
    path: the uploaded file.
    form: how to predict it.
    """
    with ending(job):
        job.go_on("decoding")
        job.frames.mkdir()
        decoded = decode_video(
            path,
            job.frames,
            every=form.every,
            max_frames=MAX_VIDEO_FRAMES,
            max_side=MAX_VIDEO_SIDE,
            is_cancelled=lambda: job.state == "cancelled",
            on_first=lambda image: show_preview(state, job, image, form),
        )
        path.unlink(missing_ok=True)
        job.go_on(job.state)
        if not decoded.count:
            raise DataError(UPLOAD, found="no frame", expected="a video", fix="save it again")
        note = f"note: only the first {decoded.count} frames: take each n-th to see more"
        work_on_frames(state, job, decoded, form, [note] * decoded.has_more)


def work_on_frames(
    state: AppState, job: VideoJob, decoded: DecodedVideo, form: VideoForm, notes: Sequence[str] = ()
) -> None:
    """Map and predict the decoded frames of a job.

    state: what the request handlers share.
    job: the job.
    decoded: its frames.
    form: how to predict them.
    notes: further lines for the page.
    """
    network = state.shelf.find(form.network)
    focal = network.checkpoint.buffer("focal")
    camera = choose_camera(form.fov_deg, decoded.fov_deg, focal, *decoded.size)
    rate_hz = (decoded.rate_hz or DEFAULT_RATE_HZ) / decoded.every
    files = [job.frames / f"{number:06d}.jpg" for number in range(decoded.count)]
    camera, path_text = map_frames(job, camera, grow_scene(network, camera, files, rate_hz))
    job.mapped = MappedFrames(camera, rate_hz, decoded.count, path_text)
    predict_video(job, network, notes=notes)


@contextmanager
def ending(job: VideoJob) -> Iterator[None]:
    """Record an error in the job, and remove the files of a cancelled job, when the `with` block ends."""
    try:
        yield
    except Exception as error:  # the page must not wait forever
        if job.state != "cancelled" and job.about:  # it is predicted again: what it showed before stays
            job.state, job.error = "done", explain_error(error, job)
        elif job.state != "cancelled":
            job.fail(explain_error(error, job))
    finally:
        if job.state == "cancelled":
            job.close()  # removes the files that were written after the cancellation, too


class SecondForm(StrictModel):
    """Another network for a predicted video.

    network: index of the network in the list.
    minutes: how long to adapt it to the video first; None does not adapt it.
    """

    network: Annotated[int, Field(ge=0)] = 0
    minutes: Annotated[float, Field(ge=1, le=60)] | None = None


async def add_second(request: Request) -> Response:
    """Predict the frames of a predicted video by another network, after the reply; both results stay to be compared."""
    session, state, job = require_session(request), get_state(request), _find_done(request)
    form = parse_form(SecondForm, await read_json_body(request))
    if form.minutes is not None:
        state.check_private("adapt")
        check_minutes(form.minutes, job.about["least_minutes"])
        check_free_memory()
    made = VideoJob(Path(await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder))))
    made.name, made.network, made.known = job.name, form.network, job.known
    made.other = request.path_params["key"]
    await run_in_threadpool(copy_frames, job, made)
    session.videos.move_to_end(made.other)  # the first of the two goes last
    key = session.keep_video(made)
    set_store(state, session.key, key, made)
    queue = state.video_queue if form.minutes is None else state.adapt_queue
    queue.submit(predict_second, state, made, form)
    return JSONResponse({"video": key})


def predict_second(state: AppState, job: VideoJob, form: SecondForm) -> None:
    """Predict a video whose frames are mapped, by another network, which may be adapted to it first."""
    with ending(job):
        job.start_over(PLAN[2:] if form.minutes is None else ("adapting", *PLAN[2:]))
        network, name = state.shelf.find(form.network), ""
        if form.minutes is not None:
            run = adapt_frames(job, state.shelf.names[form.network], form.minutes, state.runs)
            name = f"{network.label}, adapted to this video"
            network = networks.load_network(run)
        predict_video(job, network, name)


def check_minutes(minutes: float, least: int) -> None:
    """Raise ConfigError if a video cannot be adapted to in so many minutes."""
    if minutes < least:
        found, fix = f"{minutes:g} minutes", f"allow {least} minutes"
        raise ConfigError("adapt", found=found, expected=f"at least {least} for this video", fix=fix)


async def predict_video_again(request: Request) -> Response:
    """Predict a predicted video again after the reply, by another network, field of view, or known length; the body
    holds a PredictForm. What the video showed before stays if this fails.
    """
    state, job = get_state(request), _find_done(request)
    form = parse_form(PredictForm, await read_json_body(request))
    state.shelf.check_key(form.network)
    job.state, job.error = "waiting", ""
    state.video_queue.submit(work_again, state, job, form)
    return JSONResponse({"video": request.path_params["key"]})


def work_again(state: AppState, job: VideoJob, form: PredictForm) -> None:
    """Predict a predicted video again with the values of a form; another field of view also maps its frames again."""
    before = job.mapped, job.network, job.known
    with ending(job):
        assert job.mapped is not None
        is_mapped_again = form.fov_deg is not None and form.fov_deg != job.mapped.camera.fov_deg and not job.skips_map
        job.start_over(PLAN[1:] if is_mapped_again else PLAN[2:])
        network = state.shelf.find(form.network)
        if form.fov_deg is not None and form.fov_deg != job.mapped.camera.fov_deg:
            camera, path_text = choose_camera(form.fov_deg, None, (), 1, 1), job.mapped.path_text
            if not job.skips_map:
                camera, path_text = map_frames(job, camera)
            job.mapped = replace(job.mapped, camera=camera, path_text=path_text)
        job.network, job.known = form.network, form.known
        predict_video(job, network)
    if job.error:
        job.mapped, job.network, job.known = before


def show_preview(state: AppState, job: VideoJob, image: NDArray[np.uint8], form: VideoForm) -> None:
    """Predict the first frame of a video before the other frames are decoded, and keep the picture in the job."""
    decoded = DecodedPhoto(image, image.shape[:2], None)
    prediction = predict_decoded(state.shelf, decoded, PredictForm(network=form.network, fov_deg=form.fov_deg))
    job.preview = cv2.imencode(".jpg", color_prediction(prediction)[..., ::-1])[1].tobytes()
    if not prediction.depth_scale.is_affine:
        job.show_scene(start_scene(prediction))


async def show_video(request: Request) -> Response:
    """Reply with the progress of a video, and its result once it is done."""
    return JSONResponse(_find(request).describe())


async def preview(request: Request) -> Response:
    """Reply with the depth of the first frame in colors, as JPEG."""
    return Response(_find(request).preview, media_type="image/jpeg")


async def show_preview_cloud(request: Request) -> Response:
    """Reply with the points of the scene so far, float32 (N, 3), followed by colors uint8 (N, 3), and its cameras in a
    header.
    """
    scene = _find(request).scene
    if scene is None:  # of a kept video, or without depth
        return Response(b"", media_type="application/octet-stream")
    headers = {"x-cameras": json.dumps(scene.describe(), separators=(",", ":"))}
    data = await run_in_threadpool(scene.to_bytes)
    return Response(data, media_type="application/octet-stream", headers=headers)


async def cancel(request: Request) -> Response:
    """Cancel a video, and remove its files."""
    session = require_session(request)
    job = _find(request)
    await run_in_threadpool(job.close)
    session.videos.pop(request.path_params["key"], None)
    return JSONResponse({"state": "cancelled"})


async def skip_map(request: Request) -> Response:
    """End the search for the path of a video, whose depth is then predicted at once."""
    _find(request).skip_map()
    return JSONResponse({})


async def measure_video(request: Request) -> Response:
    """Reply with a value measured in a frame, its standard deviation, and its points; `form` of the query string is a
    MeasureForm in JSON.
    """
    job, form = _find_done(request), parse_query_json(MeasureForm, request, "form")
    return JSONResponse((await run_in_threadpool(measure_frame, job, form)).to_json())


async def show_video_values(request: Request) -> Response:
    """Reply with the depth of a frame as float32 in rows, little endian; its size is in a header."""
    depth, _ = await run_in_threadpool(read_frame_depth, _find_done(request), request.path_params["number"])
    return await run_in_threadpool(send_values, request, depth)


async def show_frame(request: Request) -> Response:
    """Reply with one frame ("image"), its depth in colors ("depth"), or the bar of these colors ("bar"), as JPEG."""
    job, number, kind = _find(request), request.path_params["number"], request.path_params["kind"]
    folder = job.frames if kind == "image" else job.predictions / DEPTH_COLOR
    path = folder / f"{number:06d}.jpg"
    if not path.is_file():
        raise ConfigError("frame", found=f"number {number}", expected="one of the video", fix="reload the page")
    if kind == "image":
        return FileResponse(path, media_type="image/jpeg")

    def cut() -> bytes:
        drawn, (height, width) = read_image(path, cv2.IMREAD_COLOR), job.about["size"]
        rows = round(drawn.shape[1] * height / width)
        part = drawn[rows:] if kind == "bar" and rows < len(drawn) else drawn[:rows]
        return cv2.imencode(".jpg", part, (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()

    return Response(await run_in_threadpool(cut), media_type="image/jpeg")


async def show_video_cloud(request: Request) -> Response:
    """Reply with at most MAX_SHOWN_POINTS points float32 (N, 3), followed by colors uint8 (N, 3)."""
    job = _find_done(request)
    points, colors = await run_in_threadpool(read_cloud, _find_file(job, CLOUD))
    every = -(-len(points) // MAX_SHOWN_POINTS)
    points, colors = np.ascontiguousarray(points[::every]), np.ascontiguousarray(colors[::every])
    return Response(points.tobytes() + colors.tobytes(), media_type="application/octet-stream")


async def show_path(request: Request) -> Response:
    """Reply with name and pose T_world_camera (3, 4) of the frames that have a pose, the plane of the ground, or null,
    and the center and radius of the scene.
    """
    return JSONResponse(await run_in_threadpool(describe_path, _find_done(request)))


async def download_video(request: Request) -> Response:
    """Reply with one of the files of a video."""
    job, name = _find_done(request), request.path_params["name"]
    if name not in VIDEO_DOWNLOADS:
        expected = f"one of {', '.join(VIDEO_DOWNLOADS)}"
        raise ConfigError("file", found=f"'{name}'", expected=expected, fix="choose one of them")
    headers = {"content-disposition": f'attachment; filename="stadia-{name}"'}
    if name in (CLOUD_GLB, MESH_GLB):
        _find_file(job, CLOUD)
        encode = partial(encode_video_glb, job.predictions) if name == CLOUD_GLB else partial(encode_video_mesh, job)
        data = await run_in_threadpool(encode)
        return Response(data, media_type=VIDEO_DOWNLOADS[name], headers=headers)
    return FileResponse(_find_file(job, name), media_type=VIDEO_DOWNLOADS[name], headers=headers)


async def share_video(request: Request) -> Response:
    """Reply with a page to share, in one HTML file; `form` of the query string is a MeasuredForm in JSON."""
    job, form = _find_done(request), parse_query_json(MeasuredForm, request, "form")
    return send_page(await run_in_threadpool(lambda: render_result(share_page.describe_video(job, form))))


def _find(request: Request) -> VideoJob:
    """Return the video of a request: one in memory, or one on disk."""
    session, key, state = require_session(request), request.path_params["key"], get_state(request)
    if key not in session.videos and state.gallery is not None:
        stored = state.gallery.find(session.key, key, "video")
        if stored is not None:
            job = state.gallery.load_video(stored)
            set_store(state, session.key, key, job)
            session.keep_video(job, key)
    found: VideoJob = find_kept(session.videos, key, "video")
    return found


def _find_done(request: Request) -> VideoJob:
    job = _find(request)
    if job.state != "done":
        raise ConfigError("video", found=f"state {job.state}", expected="done", fix="wait until the video is done")
    return job


def _find_file(job: VideoJob, name: str) -> Path:
    path = job.predictions / name
    if not path.is_file():
        raise ConfigError("file", found=f"no {name}", expected="one of the list", fix="choose another network")
    return path
