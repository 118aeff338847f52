"""Request handlers for pictures: upload, examples, prediction, maps, point cloud, distance, files, sharing,
calibration.
"""

import gzip
import json
import math
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.evaluation.point_clouds import EDGE_RATIO
from stadia.io.atomic_files import write_text
from stadia.io.input_files import read_bytes
from stadia.io.records.calibration import read_calibration
from stadia.predict.describe import verdict_lines
from stadia.report.result_page import render_result
from stadia.web import photo as photos
from stadia.web import share_page
from stadia.web.app_state import EXAMPLES, get_state, run_in_turn
from stadia.web.decoding import SMALL_SIDE, decode_photo, shrink_image
from stadia.web.forms import (
    describe_error,
    drop_commands,
    parse_form,
    parse_query_json,
    read_json_body,
    read_query,
    receive_upload,
    send_page,
)
from stadia.web.guards import refuse, require_session
from stadia.web.measuring import MeasuredForm, MeasureForm
from stadia.web.photo import KeptPhoto, PredictForm, predict_decoded
from stadia.web.sessions import find_kept

MAX_FILE_BYTES = 64 << 20

MAX_NAME = 80
"""Most characters of a file's name that are kept."""

SENT_BITS = 11
"""Bits of a depth's mantissa that the page gets: it shows three digits."""


class CloudForm(StrictModel):
    """Limits of a point cloud.

    edges: largest relative difference of depth to a neighboring pixel.
    points: most points.
    certain: share of the pixels to keep, starting with the lowest predicted uncertainty.
    """

    edges: Annotated[float, Field(gt=0, le=10)] = EDGE_RATIO
    points: Annotated[int, Field(gt=0, le=photos.MAX_CLOUD_POINTS)] = photos.MAX_CLOUD_POINTS
    certain: Annotated[float, Field(gt=0, le=1)] = 1.0


async def add_photo(request: Request) -> Response:
    """Decode an uploaded picture and predict it; the query string holds a PredictForm. Replies with what the page
    shows.
    """
    session, state = require_session(request), get_state(request)
    given = read_query(request)
    name = given.pop("name", "")[:MAX_NAME]
    form = parse_form(PredictForm, given)
    folder = Path(await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder)))
    try:
        path = await receive_upload(request, folder, ["photo"])
        decoded = await run_in_threadpool(decode_photo, path)
    finally:
        await run_in_threadpool(lambda: shutil.rmtree(folder, ignore_errors=True))
    kept = KeptPhoto(decoded, name=name)
    return await _predict(request, session.keep_photo(kept), kept, form)


async def predict_again(request: Request) -> Response:
    """Predict a kept picture again, by another network, field of view, or known length; the body holds a
    PredictForm.
    """
    form = parse_form(PredictForm, await read_json_body(request))
    key, kept = request.path_params["key"], await _find(request)
    if key in EXAMPLES:  # All users share the examples.
        kept = KeptPhoto(kept.decoded, name=kept.name)
        key = require_session(request).keep_photo(kept)
    return await _predict(request, key, kept, form)


async def _predict(request: Request, key: str, kept: KeptPhoto, form: PredictForm) -> Response:
    state = get_state(request)
    try:
        job = partial(predict_decoded, state.shelf, kept.decoded, form)
        prediction: photos.PhotoPrediction = await run_in_turn(request, job, state.queue)
    except StadiaError as error:  # the picture stays, for another network or camera
        return refuse(describe_error(error), photo=key)
    kept.prediction, kept.form = prediction, form
    return JSONResponse(describe_kept(key, kept), background=BackgroundTask(store_photo, request, key, kept))


async def show_photo(request: Request) -> Response:
    """Reply with what the page shows of a kept picture, or of an example, whose key is its name."""
    return JSONResponse(describe_kept(request.path_params["key"], await _find_predicted(request)))


async def show_networks(request: Request) -> Response:
    """Reply with the table of networks."""
    require_session(request)
    return JSONResponse({"networks": await run_in_threadpool(get_state(request).downloads.describe)})


async def download_network(request: Request) -> Response:
    """Start the download of a published network; the replies of `show_networks` have its progress."""
    require_session(request)
    state = get_state(request)
    state.check_private("download")
    state.downloads.start(request.path_params["name"])
    return JSONResponse({})


def describe_kept(key: str, kept: KeptPhoto) -> dict[str, Any]:
    """Return what the page shows of a kept and predicted picture: the prediction, and the settings that gave it."""
    assert kept.prediction is not None
    return {"photo": key, "settings": kept.form.model_dump(), **describe_prediction(kept.prediction)}


def describe_prediction(prediction: photos.PhotoPrediction) -> dict[str, Any]:
    """Return what the page shows of a prediction, as JSON."""
    height, width = prediction.image.shape[:2]
    rows, columns = photos.shrink_values(prediction).shape
    checks = prediction.checks
    return {
        "width": width,
        "height": height,
        "values": [rows, columns],
        "network": prediction.network,
        "licence": prediction.licence,
        "depth_scale": str(prediction.depth_scale),
        "has_depth": not prediction.depth_scale.is_affine,
        "bar": photos.describe_bar(prediction),
        "K": prediction.K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(),
        "fov_deg": round(prediction.camera.fov_deg, 1),
        "fov_source": prediction.camera.source,
        "fov_from": photos.FOV_SOURCES[prediction.camera.source],
        "verdict": checks["verdict"],
        "verdict_lines": drop_commands(verdict_lines(checks)),
        "trust": prediction.trust.text,
        "receipt": photos.describe_scale(prediction.receipt),
        "chip": prediction.trust.short,
        "relative_error": prediction.error.deviation,
        "has_uncertainty": prediction.predicted.log_uncertainty is not None,
        "files": [name for name in photos.DOWNLOADS if photos.has_file(prediction, name)],
    }


async def show_image(request: Request) -> Response:
    """Reply with a kept picture, or a small version of it, as JPEG."""
    image, is_small = (await _find(request)).decoded.image, request.path_params["name"] == "small"
    return await run_in_threadpool(lambda: _encode(shrink_image(image, SMALL_SIDE) if is_small else image))


async def show_colors(request: Request) -> Response:
    """Reply with the depth of a picture, or the normals of its surfaces, in colors, as JPEG."""
    prediction = await _find_prediction(request)
    draw = photos.color_normals if request.path_params["drawn"] == "normals" else photos.color_prediction
    return await run_in_threadpool(lambda: _encode(draw(prediction)))


def _encode(image: Any) -> Response:
    data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()
    return Response(data, media_type="image/jpeg")


async def show_values(request: Request) -> Response:
    """Reply with the depth values of `shrink_values` as float32 in rows, little endian."""
    prediction = await _find_prediction(request)
    return await run_in_threadpool(lambda: send_values(request, photos.shrink_values(prediction)))


def send_values(request: Request, values: NDArray[np.float32]) -> Response:
    """Return a reply with depth (h, w) as float32 in rows, little endian, rounded to SENT_BITS bits, and compressed if
    the client reads that; a header has its size.
    """
    unsent = 23 - SENT_BITS
    rounded = (values.view(np.uint32) + np.uint32(1 << unsent >> 1)) >> unsent << unsent
    data, headers = rounded.astype("<u4").tobytes(), {"x-size": f"{values.shape[0]} {values.shape[1]}"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        data, headers["content-encoding"] = gzip.compress(data, 1), "gzip"
    return Response(data, media_type="application/octet-stream", headers=headers)


async def show_cloud(request: Request) -> Response:
    """Reply with points float32 (N, 3), followed by colors uint8 (N, 3); the query string holds a CloudForm.

    A header has the plane of the ground, or null.
    """
    prediction = await _find_prediction(request)
    form = parse_form(CloudForm, read_query(request))
    points, colors = await run_in_threadpool(photos.make_cloud, prediction, form.points, form.edges, form.certain)
    ground = await run_in_threadpool(lambda: prediction.ground)
    headers = {"x-ground": json.dumps(None if ground is None else ground.tolist())}
    data = points.astype("<f4").tobytes() + colors.tobytes()
    return Response(data, media_type="application/octet-stream", headers=headers)


async def measure(request: Request) -> Response:
    """Reply with a measured value, its standard deviation, and its points in the camera's axes; `form` of the query
    string is a MeasureForm in JSON.
    """
    prediction, form = await _find_prediction(request), parse_query_json(MeasureForm, request, "form")
    return JSONResponse((await run_in_threadpool(prediction.measure, form)).to_json())


async def download(request: Request) -> Response:
    """Reply with one of the files of a prediction."""
    prediction, name = await _find_prediction(request), request.path_params["name"]

    def write() -> bytes:
        with tempfile.TemporaryDirectory(dir=get_state(request).folder) as folder:
            path = photos.write_download(prediction, name, Path(folder))
            return read_bytes(path, expected="a file of the prediction", max_bytes=MAX_FILE_BYTES)

    data = await run_in_threadpool(write)
    headers = {"content-disposition": f'attachment; filename="stadia-{name}"'}
    return Response(data, media_type=photos.DOWNLOADS[name], headers=headers)


async def share(request: Request) -> Response:
    """Reply with a page to share, in one HTML file; `form` of the query string is a MeasuredForm in JSON."""
    prediction, form = await _find_prediction(request), parse_query_json(MeasuredForm, request, "form")

    def write() -> str:
        return render_result(share_page.describe_photo(prediction, form.items))

    return send_page(await run_in_turn(request, write, get_state(request).queue))


async def store_photo(request: Request, key: str, kept: KeptPhoto) -> None:
    """Store a predicted picture on disk, if the server has a folder for results."""
    state, session = get_state(request), require_session(request)
    if state.gallery is not None:
        await run_in_threadpool(state.gallery.save_photo, session.key, key, kept)


async def _find(request: Request) -> KeptPhoto:
    """Return the picture of a request: an example, one in memory, or one on disk."""
    session, key, state = require_session(request), request.path_params["key"], get_state(request)
    if key in EXAMPLES:
        if key not in state.examples:
            await run_in_turn(request, partial(state.find_example, key), state.queue)
        decoded, prediction = state.examples[key]
        return KeptPhoto(decoded, prediction, name=key.capitalize())
    async with session.lock(key):
        if key not in session.photos and state.gallery is not None:
            stored = await run_in_threadpool(state.gallery.find, session.key, key, "photo")
            if stored is not None:
                session.keep_photo(await run_in_threadpool(state.gallery.load_photo, stored), key)
        found: KeptPhoto = find_kept(session.photos, key, "picture")
    return found


async def _find_predicted(request: Request) -> KeptPhoto:
    """Return the picture of a request with its prediction; one from disk is predicted again."""
    session, key, state = require_session(request), request.path_params["key"], get_state(request)
    kept = await _find(request)
    async with session.lock(key):
        stored = None
        if kept.prediction is None and state.gallery is not None:
            stored = await run_in_threadpool(state.gallery.find, session.key, key, "photo")
        if stored is not None:
            job = partial(predict_decoded, state.shelf, kept.decoded, kept.form)
            kept.prediction = await run_in_turn(request, job, state.queue)
    if kept.prediction is None:
        raise ConfigError("picture", found="no depth yet", expected="depth", fix="choose another network")
    return kept


async def _find_prediction(request: Request) -> photos.PhotoPrediction:
    """Return the prediction of the picture of a request."""
    kept = await _find_predicted(request)
    assert kept.prediction is not None
    return kept.prediction


# -- a calibration file, whose field of view the page then uses

CALIBRATION = "the calibration"


class CalibrationForm(StrictModel):
    """A calibration file as text.

    suffix: suffix of its name, which determines the format.
    text: its content.
    """

    suffix: Literal[".txt", ".yaml", ".yml", ".json", ".xml"]
    text: Annotated[str, Field(min_length=1, max_length=60_000)]


def measure_field_of_view(path: Path) -> dict[str, Any]:
    """Return the horizontal field of view, degrees, of the first camera in a calibration file, and what is assumed.

    Raises DataError for an invalid file; the message hides the file's path.
    """
    try:
        camera = read_calibration(path)[0]
    except DataError as error:
        raise DataError(CALIBRATION, found=error.found, expected=error.expected, fix=error.fix) from None
    width = 2 * float(camera.K[0, 2]) if camera.size is None else camera.size[1]
    fov_deg = math.degrees(2 * math.atan(width / 2 / float(camera.K[0, 0])))
    notes = ["assumes a whole, centered picture"]
    notes += ["distortion is not removed"] * any(camera.distortion)
    return {"fov_deg": round(fov_deg, 2), "about": f"camera {camera.name}; {'; '.join(notes)}"}


async def read_calibration_file(request: Request) -> Response:
    """Reply with the field of view of an uploaded calibration file."""
    require_session(request)
    form = parse_form(CalibrationForm, await read_json_body(request))

    def read() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=get_state(request).folder) as folder:
            path = Path(folder) / f"calibration{form.suffix}"
            write_text(path, form.text)
            return measure_field_of_view(path)

    return JSONResponse(await run_in_threadpool(read))
