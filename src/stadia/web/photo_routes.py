"""Routes of pictures: upload, predict again, maps, cloud, distance, files, a page to share, a calibration."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.datasets.formats.calibration_files import read_calibration
from stadia.evaluation.io.point_clouds import EDGE_RATIO
from stadia.files.atomic_files import write_text
from stadia.files.input_files import read_bytes
from stadia.predict.describe import describe_receipt, verdict_lines
from stadia.report.result_page import render_result
from stadia.web import photo as photos
from stadia.web import share_page
from stadia.web.app_state import get_state, run_in_turn
from stadia.web.decoding import DecodedPhoto
from stadia.web.forms import parse_form, read_json_body, read_query, receive_upload, send_page
from stadia.web.guards import require_session
from stadia.web.sessions import Session, find_kept
from stadia.web.wings import OBJECTS, OVERLAY, ObjectPhoto, find_photo_objects, predict_composite

MAX_FILE_BYTES = 64 << 20
"""Largest file of a prediction: a million points as .glb have 16 MB, depth of 1600x1600 pixels 10 MB."""


class LengthForm(StrictModel):
    """A number in metres that a user enters.

    kind: "height" of the camera above the ground, or "point": the depth of a pixel.
    x, y: of the pixel, of the image as it is shown.
    """

    kind: Literal["height", "point"]
    metres: Annotated[float, Field(gt=0, lt=1e5)]
    x: Annotated[float, Field(ge=0, lt=1e5)] = 0.0
    y: Annotated[float, Field(ge=0, lt=1e5)] = 0.0

    def to_source(self) -> str:
        """Return the text of `stadia predict --scale-from`.

        Examples:
            >>> LengthForm(kind="point", metres=2.5, x=10, y=20).to_source()
            'point=10.0,20.0:2.5'
        """
        if self.kind == "height":
            return f"height={self.metres:.6g}"
        return f"point={self.x:.1f},{self.y:.1f}:{self.metres:.6g}"


class PredictForm(StrictModel):
    """How a picture is predicted: the network's place in the list, the field of view, and lengths that are known.

    background: the key of the picture without the pasted objects, for a network of `overlay`.
    """

    network: Annotated[int, Field(ge=0)] = 0
    fov_deg: float | None = None
    known: Annotated[tuple[LengthForm, ...], Field(max_length=2)] = ()
    background: Annotated[str, Field(max_length=40)] | None = None


Coordinate = Annotated[int, Field(ge=0, lt=1 << 16)]


class DistanceForm(StrictModel):
    """Two pixels (x, y) of the picture."""

    first: tuple[Coordinate, Coordinate]
    second: tuple[Coordinate, Coordinate]


class ShareForm(StrictModel):
    """Two pixels of the picture, whose distance was measured."""

    x1: Coordinate
    y1: Coordinate
    x2: Coordinate
    y2: Coordinate


class CloudForm(StrictModel):
    """What bounds a cloud: the largest relative jump to a neighbor, the number of points, the share of certain ones."""

    edges: Annotated[float, Field(gt=0, le=10)] = EDGE_RATIO
    points: Annotated[int, Field(gt=0, le=photos.MAX_CLOUD_POINTS)] = photos.MAX_CLOUD_POINTS
    certain: Annotated[float, Field(gt=0, le=1)] = 1.0


async def add_photo(request: Request) -> Response:
    """Decode an uploaded picture and predict it; `?network=` and `?fov_deg=` are as of PredictForm."""
    session = require_session(request)
    form = parse_form(PredictForm, read_query(request))
    key, decoded = await _keep_upload(request, session)
    return await _predict(request, session, key, decoded, form)


async def add_background(request: Request) -> Response:
    """Keep the background of a composite picture; return its key for PredictForm."""
    key, _ = await _keep_upload(request, require_session(request))
    return JSONResponse({"background": key})


async def _keep_upload(request: Request, session: Session) -> tuple[str, DecodedPhoto]:
    """Decode an uploaded picture and keep it; return its key."""
    state = get_state(request)
    folder = Path(await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder)))
    try:
        path = await receive_upload(request, folder, ["photo"])
        decoded = await run_in_threadpool(state.decoder.decode_photo, path)
    finally:
        await run_in_threadpool(lambda: shutil.rmtree(folder, ignore_errors=True))
    key = session.keep(session.photos, decoded)
    state.sessions.limit_memory()
    return key, decoded


async def predict_again(request: Request) -> Response:
    """Predict a kept picture by another network, with another field of view, or with a known length."""
    session = require_session(request)
    form = parse_form(PredictForm, await read_json_body(request))
    key = request.path_params["key"]
    decoded = find_kept(session.photos, key, "picture")
    return await _predict(request, session, key, decoded, form)


async def _predict(
    request: Request, session: Session, photo: str, decoded: DecodedPhoto, form: PredictForm
) -> Response:
    """Predict in the user's turn, unless the browser has gone; return what the page shows."""
    state = get_state(request)
    background = None if form.background is None else find_kept(session.photos, form.background, "background")

    def job() -> photos.PhotoPrediction | ObjectPhoto | None:
        network, image = state.shelf.find(form.network), decoded.image
        focal = network.loaded.checkpoint.buffer("focal")
        camera = photos.choose_camera(form.fov_deg, decoded.fov_deg, focal, *image.shape[:2])
        scale_from = [length.to_source() for length in form.known]
        kind = network.loaded.recipe.recipe
        if kind == OBJECTS:
            return find_photo_objects(network, image, camera)
        if kind == OVERLAY:
            return (
                None if background is None else predict_composite(network, image, background.image, camera, scale_from)
            )
        return photos.predict_photo(network, image, camera, scale_from)

    prediction = await run_in_turn(request, session, job, state.queue)
    if prediction is None:
        return JSONResponse({"photo": photo, "needs_background": True})
    key = session.keep(session.predictions, prediction)
    state.sessions.limit_memory()
    about = prediction.describe() if isinstance(prediction, ObjectPhoto) else describe_prediction(prediction)
    return JSONResponse({"photo": photo, "prediction": key, **about})


def describe_prediction(prediction: photos.PhotoPrediction) -> dict[str, Any]:
    """Return what the page shows of a prediction, as JSON."""
    height, width = prediction.image.shape[:2]
    rows, columns = photos.shrink_values(prediction).shape
    checks, receipt = prediction.checks, prediction.receipt
    return {
        "width": width,
        "height": height,
        "values": [rows, columns],
        "network": prediction.network,
        "licence": prediction.licence,
        "depth_scale": str(prediction.depth_scale),
        "has_depth": not prediction.depth_scale.is_affine,
        "bar": photos.describe_bar(prediction),
        "fov_deg": round(prediction.camera.fov_deg, 1),
        "fov_source": prediction.camera.source,
        "fov_from": photos.FOV_SOURCES[prediction.camera.source],
        "verdict": checks["verdict"],
        "verdict_lines": list(verdict_lines(checks)),
        "trust": prediction.trust,
        "receipt": list(describe_receipt(receipt)) if receipt else [],
        "relative_error": prediction.relative_error,
        "has_uncertainty": prediction.predicted.log_uncertainty is not None,
        "mask_percent": None if prediction.mask is None else round(100 * float(prediction.mask.mean()), 1),
        "files": [name for name in photos.DOWNLOADS if _has_file(prediction, name)],
    }


def _has_file(prediction: photos.PhotoPrediction, name: str) -> bool:
    if name == "mask.png":
        return prediction.mask is not None
    return not (prediction.depth_scale.is_affine and (name.startswith("cloud") or name == "depth.png"))


async def show_image(request: Request) -> Response:
    """Return a kept picture as JPEG."""
    decoded = find_kept(require_session(request).photos, request.path_params["key"], "picture")
    return await _encode(decoded.image, ".jpg", "image/jpeg")


async def show_colors(request: Request) -> Response:
    """Return depth in colors, or the picture with its objects, as PNG."""
    prediction = find_kept(require_session(request).predictions, request.path_params["key"], "prediction")
    if isinstance(prediction, ObjectPhoto):
        return await _encode(prediction.drawn, ".png", "image/png")
    return await _encode(await run_in_threadpool(photos.color_prediction, prediction), ".png", "image/png")


async def _encode(image: Any, suffix: str, media_type: str) -> Response:
    def encode() -> bytes:
        return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()

    return Response(await run_in_threadpool(encode), media_type=media_type)


async def show_values(request: Request) -> Response:
    """Return the values under the pointer, float32 by rows, little endian."""
    values = await run_in_threadpool(photos.shrink_values, _find_prediction(request))
    return Response(values.astype("<f4").tobytes(), media_type="application/octet-stream")


async def show_cloud(request: Request) -> Response:
    """Return points float32 (N, 3), then colors uint8 (N, 3); the query is a CloudForm."""
    prediction = _find_prediction(request)
    form = parse_form(CloudForm, read_query(request))
    points, colors = await run_in_threadpool(photos.make_cloud, prediction, form.points, form.edges, form.certain)
    return Response(points.astype("<f4").tobytes() + colors.tobytes(), media_type="application/octet-stream")


async def measure(request: Request) -> Response:
    """Return the distance between two pixels, its deviation, and its unit."""
    prediction = _find_prediction(request)
    form = parse_form(DistanceForm, await read_json_body(request))
    found = await run_in_threadpool(prediction.measure, form.first, form.second)
    is_metric = str(prediction.depth_scale) == "metres"
    return JSONResponse(
        {
            "distance": found.distance,
            "deviation": found.deviation,
            "depths": found.depths,
            "unit": "m" if is_metric else "units of depth, no metres",
            "has_network_error": prediction.network_error is not None,
        }
    )


async def download(request: Request) -> Response:
    """Return one of the files of a prediction."""
    prediction, name = _find_prediction(request), request.path_params["name"]

    def write() -> bytes:
        with tempfile.TemporaryDirectory(dir=get_state(request).folder) as folder:
            path = photos.write_download(prediction, name, Path(folder))
            return read_bytes(path, expected="a file of the prediction", max_bytes=MAX_FILE_BYTES)

    data = await run_in_threadpool(write)
    headers = {"content-disposition": f'attachment; filename="stadia-{name}"'}
    return Response(data, media_type=photos.DOWNLOADS[name], headers=headers)


async def share(request: Request) -> Response:
    """Return the page to share, one file; `?x1=`, `y1`, `x2` and `y2` are the points of a measured distance."""
    prediction = find_kept(require_session(request).predictions, request.path_params["key"], "prediction")
    given = read_query(request)
    form = parse_form(ShareForm, given) if given else None
    points = [] if form is None else [(form.x1, form.y1), (form.x2, form.y2)]

    def write() -> str:
        if isinstance(prediction, ObjectPhoto):
            return render_result(share_page.describe_objects(prediction))
        return render_result(share_page.describe_photo(prediction, points))

    return send_page(await run_in_turn(request, require_session(request), write, get_state(request).queue))


def _find_prediction(request: Request) -> photos.PhotoPrediction:
    prediction = find_kept(require_session(request).predictions, request.path_params["key"], "prediction")
    if not isinstance(prediction, photos.PhotoPrediction):
        fix = "choose a network that predicts depth"
        raise ConfigError("prediction", found="objects", expected="depth", fix=fix)
    return prediction


# -- a calibration file, whose field of view the page then uses

CALIBRATION = "the calibration"
"""What errors call the file: names of users and of folders on this machine do not reach a page."""


class CalibrationForm(StrictModel):
    """A file as text; its suffix names the format."""

    suffix: Literal[".txt", ".yaml", ".yml", ".json", ".xml"]
    text: Annotated[str, Field(min_length=1, max_length=60_000)]


def measure_field_of_view(path: Path) -> dict[str, Any]:
    """Return the field of view of the first camera of a file, left to right edge in degrees, and what is left out.

    Raises DataError, without the path, where the file is no calibration.
    """
    try:
        camera = read_calibration(path)[0]
    except DataError as error:
        raise DataError(CALIBRATION, found=error.found, expected=error.expected, fix=error.fix) from None
    width = 2 * float(camera.K[0, 2]) if camera.size is None else camera.size[1]
    fov_deg = math.degrees(2 * math.atan(width / 2 / float(camera.K[0, 0])))
    notes = ["the picture is assumed to be centered and whole"]
    notes += ["distortion is not removed"] * any(camera.distortion)
    return {"fov_deg": round(fov_deg, 2), "about": f"camera {camera.name}; {'; '.join(notes)}"}


async def read_calibration_file(request: Request) -> Response:
    """Return the field of view of a calibration file."""
    require_session(request)
    form = parse_form(CalibrationForm, await read_json_body(request))

    def read() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=get_state(request).folder) as folder:
            path = Path(folder) / f"calibration{form.suffix}"
            write_text(path, form.text)
            return measure_field_of_view(path)

    return JSONResponse(await run_in_threadpool(read))
