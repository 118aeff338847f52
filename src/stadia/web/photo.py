"""Predict the depth of one picture, and make what a page shows of it: maps, distances, point clouds, files."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, GeometryError
from stadia.core.types import DepthScale
from stadia.data.config import CameraConfig
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.data.video.input_camera import InputCamera
from stadia.evaluation.depth_fusion import make_view
from stadia.evaluation.plots.colormaps import color_inverse_depth
from stadia.evaluation.plots.videos import DEFAULT_RATE_HZ, draw_side_by_side
from stadia.evaluation.point_clouds import EDGE_RATIO, MAX_MEDIAN_DEPTHS, PlyWriter, encode_glb, find_edges
from stadia.evaluation.textured_mesh import encode_textured_glb
from stadia.geometry.cameras import ASSUMED_LONGER_FOV_DEG, NEAR, Intrinsics, centered_K, focal_px_from_fov
from stadia.geometry.ground.road_plane import normals_from_depth
from stadia.geometry.sky import find_far_sky
from stadia.io.atomic_files import open_atomic, write_json
from stadia.io.depth_files import DEPTH_KEYS, write_depth_map, write_depth_png
from stadia.io.image_io import write_image
from stadia.predict.inputs import PredictionInput
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions
from stadia.predict.run import Session, find_expected_error
from stadia.predict.trust import ExpectedError, Trust
from stadia.scale.scale_receipt import ScaleReceipt
from stadia.web.decoding import DecodedPhoto, decode_photo
from stadia.web.forms import drop_commands
from stadia.web.measuring import Coordinate, Measured, MeasureForm, find_ground, measure
from stadia.web.networks import NetworkShelf

MAX_CLOUD_POINTS, MAX_MESH_VERTICES = 1_000_000, 400_000

EXAMPLE_FOLDER = Path(__file__).parent / "static" / "examples"

SHOWN_SIDE = 640
"""Longest side, pixels, of the map of depth values that the page shows under the pointer."""

BAR_SHARES = (1.0, 0.75, 0.5, 0.25, 0.1)
"""Places of the labels along the color bar, as shares of the inverse depth of the brightest color."""

FovSource = Literal["photo", "you", "map", "network", "assumed"]

FOV_SOURCES: Mapping[str, str] = {
    "photo": "from the EXIF of the file",
    "you": "chosen by hand",
    "map": "measured from the motion of the video",
    "network": "from the network's training",
    "assumed": "assumed",
}


@dataclass(frozen=True)
class PhotoCamera:
    """The camera of a picture.

    fov_deg: horizontal field of view, degrees.
    source: its origin: photo (EXIF), you (chosen by hand), map (motion of the video), network (its training), assumed.
    """

    fov_deg: float
    source: FovSource

    @property
    def is_assumed(self) -> bool:
        """Return whether nothing about the picture states its field of view."""
        return self.source in ("network", "assumed")

    def make_K(self, height: int, width: int) -> NDArray[np.float64]:
        """Return the intrinsics (3, 3) for pictures of (height, width), pixels.

        Examples:
            >>> PhotoCamera(90.0, "you").make_K(480, 640)[0, 0].round(6)
            np.float64(320.0)
        """
        return centered_K(focal_px_from_fov(self.fov_deg, width), height, width)

    def make_input(
        self, name: str, frames: Iterable[Frame], count: int, rate_hz: float, height: int, width: int
    ) -> PredictionInput:
        """Create the input of a network from frames of this camera.

        name: name of the input.
        frames: the frames, which are read several times.
        count: their number.
        rate_hz: their frame rate.
        height, width: size of the frames, pixels.
        """
        camera = InputCamera(CameraConfig(), f"{self.fov_deg:g} degrees from left to right", self.is_assumed)
        intrinsics = Intrinsics(self.make_K(height, width), height, width)
        return PredictionInput(name, frames, count, rate_hz, camera=camera, intrinsics=intrinsics)


def choose_camera(
    chosen_deg: float | None, photo_deg: float | None, focal: Sequence[float], height: int, width: int
) -> PhotoCamera:
    """Choose the camera of a picture: as the user chose, by its EXIF data, by the network's training, or assumed.

    chosen_deg: horizontal field of view that the user chose, degrees; None if not.
    photo_deg: the one of the EXIF data; None without.
    focal: focal lengths over image width (fx / width) in the network's training; empty or 0 if unknown.
    height, width: size of the picture; only their ratio matters.

    Raises ConfigError for an angle that no picture has.

    Examples:
        >>> choose_camera(None, None, (0.5,), 480, 640)
        PhotoCamera(fov_deg=90.0, source='network')
        >>> choose_camera(None, None, (), 640, 480)
        PhotoCamera(fov_deg=46.83, source='assumed')
    """
    if chosen_deg is not None:
        if not 5 <= chosen_deg <= 160:
            found, fix = f"{chosen_deg:g} degrees", "move the slider"
            raise ConfigError("field of view", found=found, expected="5 to 160", fix=fix)
        return PhotoCamera(chosen_deg, "you")
    if photo_deg is not None:
        return PhotoCamera(photo_deg, "photo")
    trained = [value for value in focal if value > 0]
    if trained:
        return PhotoCamera(fov_deg_from_focal(trained[0]), "network")
    return PhotoCamera(
        fov_deg_from_focal(focal_px_from_fov(ASSUMED_LONGER_FOV_DEG, max(height, width)) / width), "assumed"
    )


def fov_deg_from_focal(focal: float) -> float:
    """Return the horizontal field of view, degrees, given a focal length in widths of the picture."""
    return round(math.degrees(2 * math.atan(0.5 / focal)), 2)


@dataclass(frozen=True)
class PhotoPrediction:
    """The prediction of one picture.

    predicted: the picture with its inverse depth.
    camera: its camera.
    network: name of the network on the page.
    licence: licence of the network's weights; "" if unknown.
    checks: the verdict, as in predictions.json.
    trust: how far to trust it.
    receipt: how the scale was measured; None for the network's own scale.
    error: the expected error of its depth.
    sky: (h, w) bool at the network's image size, true on sky.
    """

    predicted: PredictedFrame
    camera: PhotoCamera
    network: str
    licence: str
    checks: Mapping[str, Any]
    trust: Trust
    receipt: ScaleReceipt | None
    error: ExpectedError
    sky: NDArray[np.bool_]

    @property
    def image(self) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3) RGB, as the network crops it."""
        return self.predicted.frame.image

    @property
    def K(self) -> NDArray[np.float64]:
        """Return the intrinsics (3, 3) of `image`, pixels."""
        return self.predicted.frame.K

    @property
    def depth_scale(self) -> DepthScale:
        """Return the kind of scale of the depth: metres, up to scale, or up to scale and shift."""
        return self.predicted.depth_scale

    def resize_inverse_depth(self, height: int, width: int) -> NDArray[np.float32]:
        """Return the inverse depth resized to (height, width)."""
        values = cv2.resize(self.predicted.inverse_depth, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(values, np.float32)

    def depth(self, height: int, width: int) -> NDArray[np.float32]:
        """Return the depth resized to (height, width), 0 without depth, such as sky.

        Raises GeometryError for a network whose output has an unknown shift.
        """
        if self.depth_scale.is_affine:
            fix = "choose a network that predicts depth, or metres"
            found = "values up to scale and shift"
            raise GeometryError("depth", found=found, expected="depth", fix=fix)
        inverse = self.resize_inverse_depth(height, width)
        depth = np.divide(1, inverse, out=np.zeros_like(inverse), where=inverse > NEAR)
        sky = cv2.resize(self.sky.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        depth[sky > 0] = 0
        return depth

    @cached_property
    def ground(self) -> NDArray[np.float64] | None:
        """Return the plane of the ground as `stadia.web.measuring.find_ground`; None if none is seen."""
        if not self.depth_scale.is_affine:
            with contextlib.suppress(GeometryError):
                return find_ground(self.depth(*self.image.shape[:2]), self.K)
        return None

    def measure(self, form: MeasureForm) -> Measured:
        """Measure what a form marks in the picture.

        Raises the errors of `stadia.web.measuring.measure`.
        """
        depth, error = self.depth(*self.image.shape[:2]), self.error
        has_network_error = error.network_error is not None
        return measure(form, depth, self.K, self.depth_scale, error.depth, has_network_error=has_network_error)


def predict_photo(
    network: Network, image: NDArray[np.uint8], camera: PhotoCamera, scale_from: Sequence[str] = ()
) -> PhotoPrediction:
    """Predict one picture.

    network: the network.
    image: (H, W, 3) RGB.
    camera: its camera.
    scale_from: texts of `stadia predict --scale-from` (sources of metres); without any, the scale is the network's own.

    Raises StadiaError if the network predicts no depth, or no source measures the scale.
    """
    height, width = image.shape[:2]
    frame = Frame("picture", image, camera.make_K(height, width))
    given = camera.make_input("picture", (frame,), 1, DEFAULT_RATE_HZ, height, width)
    options = PredictOptions(scale_from=tuple(scale_from))
    session = network.open_input(given, options)
    (predicted,) = session.frames()
    return PhotoPrediction(
        predicted=predicted,
        camera=camera,
        network=network.label,
        licence=network.licence,
        checks=session.gate.to_json(),
        trust=describe_trust(session),
        receipt=session.receipt,
        error=find_expected_error(session),
        sky=find_predicted_sky(predicted),
    )


def describe_trust(session: Session) -> Trust:
    """Return how far to trust the predictions of a session, without codes of findings, for a page."""
    found = session.gate.find_trust()
    return Trust(found.short, "".join(drop_commands([found.text])))


def find_predicted_sky(predicted: PredictedFrame) -> NDArray[np.bool_]:
    """Return the sky (h, w) at the network's size; none if depth is up to a shift."""
    if predicted.depth_scale.is_affine:
        return np.zeros(predicted.inverse_depth.shape, np.bool_)
    depth = predicted.depth()
    image = cv2.resize(predicted.frame.image, depth.shape[::-1], interpolation=cv2.INTER_AREA)
    return find_far_sky(np.asarray(image, np.uint8), depth)


class LengthForm(StrictModel):
    """A known length from the user.

    kind: "height" of the camera above the ground, "point", the depth of a pixel, or "distance" of two pixels in space.
    metres: the length.
    x, y: the pixel of "point", and the first of "distance".
    x2, y2: the second pixel of "distance".
    frame: number of the video frame of the pixels; None for a picture.
    """

    kind: Literal["height", "point", "distance"]
    metres: Annotated[float, Field(gt=0, lt=1e5)]
    x: Coordinate = 0
    y: Coordinate = 0
    x2: Coordinate = 0
    y2: Coordinate = 0
    frame: Annotated[int, Field(ge=0, lt=1_000_000)] | None = None

    def to_source(self) -> str:
        """Return the same length as a text of `stadia predict --scale-from`.

        Examples:
            >>> LengthForm(kind="point", metres=2.5, x=10, y=20).to_source()
            'point=10,20:2.5'
            >>> LengthForm(kind="distance", metres=2, x=10, y=20, x2=30, y2=40, frame=7).to_source()
            'distance=10,20..30,40:2@000007'
        """
        if self.kind == "height":
            return f"height={self.metres:.6g}"
        second = f"..{self.x2},{self.y2}" if self.kind == "distance" else ""
        frame = "" if self.frame is None else f"@{self.frame:06d}"
        return f"{self.kind}={self.x},{self.y}{second}:{self.metres:.6g}{frame}"


class PredictForm(StrictModel):
    """How a picture is to be predicted.

    network: index of the network in the list.
    fov_deg: horizontal field of view that the user chose, degrees; None if not.
    known: known lengths from the user.
    """

    network: Annotated[int, Field(ge=0)] = 0
    fov_deg: float | None = None
    known: Annotated[tuple[LengthForm, ...], Field(max_length=2)] = ()


@dataclass
class KeptPhoto:
    """A picture that a session keeps.

    decoded: the decoded picture.
    prediction: its last prediction; None before the first.
    form: how it was predicted.
    name: name of the file on the user's computer; "" if unknown.
    """

    decoded: DecodedPhoto
    prediction: PhotoPrediction | None = None
    form: PredictForm = field(default_factory=PredictForm)
    name: str = ""


def predict_decoded(shelf: NetworkShelf, decoded: DecodedPhoto, form: PredictForm) -> PhotoPrediction:
    """Predict a decoded picture with the values of a form.

    Raises the errors of `predict_photo`.
    """
    network, image = shelf.find(form.network), decoded.image
    focal = network.checkpoint.buffer("focal")
    camera = choose_camera(form.fov_deg, decoded.fov_deg, focal, *image.shape[:2])
    return predict_photo(network, image, camera, [length.to_source() for length in form.known])


def predict_example(shelf: NetworkShelf, name: str) -> tuple[DecodedPhoto, PhotoPrediction]:
    """Return an example picture of the first page, and its prediction."""
    decoded = decode_photo(EXAMPLE_FOLDER / f"{name}.jpg")
    return decoded, predict_decoded(shelf, decoded, PredictForm())


# -- what a page shows


def describe_scale(receipt: ScaleReceipt | None) -> list[str]:
    """Return sentences about how known lengths set the scale of a prediction; empty for the network's own scale."""
    if receipt is None:
        return []
    lines = drop_commands(f"{name} was not used: {why}" for name, why in receipt.missing.items())
    for name in drop_commands(receipt.fits):
        lines.insert(0, f"Metres come from {name}, to about {receipt.deviation:.0%}.")
    if len(receipt.fits) == 1:
        lines.append("Nothing checks a single length: measure another one that you know.")
    return lines


def find_brightest(prediction: PhotoPrediction) -> float:
    """Return the inverse depth that gets the brightest color: the 95th percentile of the picture."""
    return max(float(np.percentile(prediction.predicted.inverse_depth, 95)), 1e-9)


def color_prediction(prediction: PhotoPrediction) -> NDArray[np.uint8]:
    """Draw the inverse depth in colors, (H, W, 3) RGB of the picture's size; bright is near."""
    height, width = prediction.image.shape[:2]
    return color_inverse_depth(prediction.resize_inverse_depth(height, width), top=find_brightest(prediction))


def color_normals(prediction: PhotoPrediction) -> NDArray[np.uint8]:
    """Draw the normals of surfaces in colors, (H, W, 3) RGB of the picture's size: red to the right, green up, blue
    towards the camera, and black without depth.

    Raises GeometryError for a network without depth.
    """
    height, width = prediction.image.shape[:2]
    rows, columns = prediction.predicted.inverse_depth.shape  # Neighbors are independent at this size.
    camera = Intrinsics(prediction.K[None], height, width).resized(rows, columns).make_camera(0)
    depth = prediction.depth(rows, columns)[None, None]
    normals = normals_from_depth(depth, camera)[0].transpose(1, 2, 0)
    colors = (normals * (1, -1, -1) + 1) * 127.5 * normals.any(axis=2, keepdims=True)
    resized = cv2.resize(colors.round().astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def describe_bar(prediction: PhotoPrediction) -> dict[str, Any]:
    """Return the color bar as JSON: colors from near to far, and labels with their places (0 to 1).

    The labels are metres, multiples of the nearest depth, or "near" and "far".
    """
    colors = color_inverse_depth(np.linspace(1, 0, 12, dtype=np.float32)[None], top=1.0)[0]
    gradient = [f"rgb({red}, {green}, {blue})" for red, green, blue in colors.tolist()]
    top, scale = find_brightest(prediction), prediction.depth_scale
    if scale.is_affine:
        return {"unit": "relative", "colors": gradient, "labels": [[0.0, "near"], [1.0, "far"]]}
    unit = "m" if scale is DepthScale.METRES else "relative"
    nearest = 1 / top if unit == "m" else 1.0
    labels = [[1 - share, _format_depth(nearest / share) + (" m" if unit == "m" else " ×")] for share in BAR_SHARES]
    return {"unit": unit, "colors": gradient, "labels": labels}


def _format_depth(depth: float) -> str:
    return f"{depth:.2g}" if depth < 10 else f"{depth:.0f}"


def shrink_values(prediction: PhotoPrediction) -> NDArray[np.float32]:
    """Return the values that the page shows under the pointer, (h, w) with sides of at most SHOWN_SIDE: depth, 0 =
    none.

    Inverse depth up to scale and shift is mapped to 0 (far) to 1 (near) instead.
    """
    height, width = prediction.image.shape[:2]
    factor = min(1.0, SHOWN_SIDE / max(height, width))
    size = max(round(height * factor), 1), max(round(width * factor), 1)
    if not prediction.depth_scale.is_affine:
        return prediction.depth(*size)
    inverse = prediction.resize_inverse_depth(*size)
    low, high = np.percentile(inverse, (1, 99))
    return np.clip((inverse - low) / max(float(high - low), 1e-12), 0.001, 1).astype(np.float32)


def choose_points(depth: NDArray[np.float32], edge_ratio: float = EDGE_RATIO) -> NDArray[np.bool_]:
    """Return the pixels (H, W) that a point cloud shows: without sky, very far points, and edges of depth.

    depth: (H, W), 0 = none.
    edge_ratio: largest relative difference of depth to a neighboring pixel.
    """
    known = depth > 0
    if known.any():
        known &= depth < MAX_MEDIAN_DEPTHS * np.median(depth[known])
    return known & ~find_edges(depth, edge_ratio)


def make_cloud(
    prediction: PhotoPrediction,
    max_points: int = MAX_CLOUD_POINTS,
    edge_ratio: float = EDGE_RATIO,
    certain_share: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Create a point cloud of the picture.

    prediction: a prediction with depth.
    max_points: largest number of points; of more points, an even share is kept.
    edge_ratio: largest relative difference of depth to a neighboring pixel.
    certain_share: share of the pixels to keep, starting with the lowest predicted uncertainty.

    Returns points (N, 3) with x right, y down, z forward, and colors (N, 3), in order of the picture's rows.
    """
    height, width = prediction.image.shape[:2]
    depth = prediction.depth(height, width)
    known = choose_points(depth, edge_ratio)
    uncertainty = prediction.predicted.log_uncertainty
    if uncertainty is not None and certain_share < 1:
        uncertainty = cv2.resize(uncertainty, (width, height), interpolation=cv2.INTER_LINEAR)
        known &= uncertainty <= np.quantile(uncertainty, certain_share)
    rows, columns = np.nonzero(known)
    most = min(max_points, MAX_CLOUD_POINTS)
    if len(rows) > most:
        kept = np.arange(most) * len(rows) // most
        rows, columns = rows[kept], columns[kept]
    z, K = depth[rows, columns], prediction.K
    points = np.stack([(columns - K[0, 2]) / K[0, 0] * z, (rows - K[1, 2]) / K[1, 1] * z, z], axis=1)
    return points.astype(np.float32), prediction.image[rows, columns]


# -- files to download

DOWNLOADS: Mapping[str, str] = {
    "picture.png": "image/png",
    "depth.png": "image/png",
    "depth.npz": "application/zip",
    "normals.png": "image/png",
    "cloud.ply": "application/octet-stream",
    "cloud.glb": "model/gltf-binary",
    "mesh.glb": "model/gltf-binary",
    "verdict.json": "application/json",
}
"""Files of a prediction that users can download, with their media types."""


def has_file(prediction: PhotoPrediction, name: str) -> bool:
    """Return whether a prediction has one of the files DOWNLOADS: not all need depth."""
    return not prediction.depth_scale.is_affine or name in ("picture.png", "depth.npz", "verdict.json")


def write_download(prediction: PhotoPrediction, name: str, folder: Path) -> Path:
    """Write one of the files DOWNLOADS into a folder; return its path.

    picture.png is the picture next to its depth in colors; depth.png depth in 16 bits, 256 per metre or unit; depth.npz
    depth at the picture's size, and K; normals.png the normals in colors; cloud.ply and cloud.glb points; mesh.glb a
    textured surface; verdict.json the verdict and the camera.

    Raises ConfigError for another name, GeometryError for a prediction without depth.
    """
    path, (height, width) = folder / name, prediction.image.shape[:2]
    scale = prediction.depth_scale
    if name == "picture.png":
        inverse, top = prediction.predicted.inverse_depth, find_brightest(prediction)
        drawn = draw_side_by_side(prediction.image, inverse, top, height, width, scale)
        write_image(path, drawn[..., ::-1])
    elif name == "depth.png":
        write_depth_png(path, prediction.depth(height, width))
    elif name == "depth.npz":
        values = prediction.resize_inverse_depth(height, width)
        values = values if scale.is_affine else prediction.depth(height, width)
        arrays: dict[str, NDArray[Any]] = {DEPTH_KEYS[scale]: values, "K": prediction.K}
        write_depth_map(path, **arrays)
    elif name == "normals.png":
        write_image(path, color_normals(prediction)[..., ::-1])
    elif name == "cloud.ply":
        unit = "metres" if scale is DepthScale.METRES else "relative depth, not metres"
        with open_atomic(path) as stream:
            writer = PlyWriter(stream, f"{unit}; without sky and points at edges of depth")
            writer.add(*make_cloud(prediction))
            writer.finish()
    elif name == "cloud.glb":
        with open_atomic(path) as stream:
            stream.write(encode_glb(*make_cloud(prediction)))
    elif name == "mesh.glb":
        depth = prediction.depth(height, width)
        depth[~choose_points(depth)] = 0
        view = make_view("picture", prediction.image, depth, prediction.K)
        with open_atomic(path) as stream:
            stream.write(encode_textured_glb([view], EDGE_RATIO, MAX_MESH_VERTICES))
    elif name == "verdict.json":
        write_json(path, describe_for_file(prediction))
    else:
        raise ConfigError(
            "file", found=f"'{name}'", expected=f"one of {', '.join(DOWNLOADS)}", fix="choose one of them"
        )
    return path


def describe_for_file(prediction: PhotoPrediction) -> dict[str, Any]:
    """Return the content of verdict.json."""
    return {
        "network": prediction.network,
        "licence": prediction.licence,
        "depth_scale": str(prediction.depth_scale),
        "field_of_view_deg": prediction.camera.fov_deg,
        "field_of_view_from": prediction.camera.source,
        "K": prediction.K.tolist(),
        "trust": prediction.trust.text,
        "checks": prediction.checks,
        "scale_from": prediction.receipt.to_json() if prediction.receipt else None,
        "relative_error": prediction.error.deviation,
    }
