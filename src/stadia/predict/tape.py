"""Calibrate a network's metres for a camera by distances that a user measured, and keep the result in its camera file.

Errors of depth in one picture are correlated. A picture counts as one draw of a common error, and each of its
measurements as a draw of a further error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stadia.core.errors import ConfigError, DataError
from stadia.data.config import CameraConfig
from stadia.data.video.video_camera import METRES_KEY, KeptScale, find_camera_file, find_kept_scale
from stadia.geometry.scale_fit import WITHIN
from stadia.io.atomic_files import write_json
from stadia.io.input_files import check_path_exists, expand_home, read_json
from stadia.predict.inputs import open_inputs
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions
from stadia.predict.receipt import predict_frame
from stadia.scale.grammar import KnownDistance, MeasuredPoint, parse_scale
from stadia.scale.sources import MeasuredFrame, locate_ends, read_pixel

POINT_DEVIATION, POINT_WEIGHT = 0.12, 2.0
"""Relative standard deviation of a network's depth at a pixel that is expected before anything is measured, and the
number of measurements as which this expectation counts (POINT_WEIGHT).
"""

PICTURE_SHARE = 0.9
"""Standard deviation of the common error of a picture, relative to the standard deviation of one of its pixels."""

RANGE_PRIOR = 0.1
"""Standard deviation of the exponent of range that is expected before anything is measured."""

RANGE_SPREAD = 0.6
"""Standard deviation of the logarithm of the depths that a calibration is applied to."""

FOCAL_PRIOR = 0.2
"""Standard deviation of the logarithm of the focal length's error that is expected before anything is measured."""


@dataclass(frozen=True)
class TapeMeasurement:
    """A measured length and the network's prediction of it.

    picture: name of the picture.
    predicted: the length in the unit of the network's depth.
    metres: the measured length.
    depth: depth of the measured place in the network's unit; None for a distance from the camera, which is the depth.
    lateral: share of the squared length that is across the optical axis, 0 to 1.
    """

    picture: str
    predicted: float
    metres: float
    depth: float | None = None
    lateral: float = 0.0


def fit_tape(measurements: Sequence[TapeMeasurement]) -> KeptScale:
    """Fit factor, range error and error of the focal length to measured lengths, by Bayesian linear regression.

    The logarithm of measured over predicted length is linear in: a constant (the factor), the logarithm of depth (the
    range error), and the share across the optical axis, whose length changes with the focal length while depth does
    not. Errors are normal, with a common part for each picture.

    measurements: one or more.

    Raises ConfigError for a length that is not positive.

    Examples:
        >>> fit_tape([TapeMeasurement("a", 2.0, 2.2), TapeMeasurement("b", 3.0, 3.3)]).factor.__round__(3)
        1.1
    """
    lengths = np.array([[one.predicted, one.metres, one.depth or one.predicted] for one in measurements])
    if not len(lengths) or not (lengths > 0).all() or not np.isfinite(lengths).all():
        raise ConfigError("calibrate", found="a length that is not above 0", expected="positive lengths")
    logs = np.log(lengths)
    error, depth = logs[:, 1] - logs[:, 0], logs[:, 2] - logs[:, 2].mean()
    pictures = np.array([one.picture for one in measurements])
    lateral = np.array([one.lateral for one in measurements])
    design = np.stack([np.ones_like(depth), depth, lateral], 1)
    covariance = np.eye(len(error)) + PICTURE_SHARE**2 * (pictures[:, None] == pictures)
    precision = np.linalg.inv(covariance)
    expected = np.diag([0.0, (POINT_DEVIATION / RANGE_PRIOR) ** 2, (POINT_DEVIATION / FOCAL_PRIOR) ** 2])
    spread = np.linalg.inv(design.T @ precision @ design + expected)
    found = spread @ design.T @ precision @ error
    residual = error - design @ found
    misfit = float(residual @ precision @ residual + found @ expected @ found)
    degrees = POINT_WEIGHT + len(error) - 1
    variance = (POINT_WEIGHT * POINT_DEVIATION**2 + misfit) / degrees
    own, of_range, of_focal = np.sqrt(variance * np.diag(spread)).tolist()
    factor, range_error, focal_error = found.tolist()
    of_picture = math.sqrt(variance) * PICTURE_SHARE
    reach = RANGE_SPREAD * math.hypot(range_error, of_range)
    return KeptScale(
        factor=math.exp(factor),
        factor_deviation=own,
        deviation=math.hypot(own, of_picture),
        depth_deviation=math.sqrt(own**2 + of_picture**2 + variance + reach**2),
        range_error=range_error,
        range_deviation=of_range,
        focal_ratio=math.exp(-focal_error),
        focal_deviation=of_focal,
        inliers=float(np.mean(np.abs(error - factor) < math.log(WITHIN))),
        measurements=len(error),
        pictures=len(set(pictures.tolist())),
    )


# -- measure pictures and keep the result


@dataclass(frozen=True, kw_only=True)
class TapeRequest:
    """The arguments of `stadia calibrate`.

    camera: the video, photo or folder whose camera file keeps the metres, or such a file itself.
    texts: measured lengths, `point=X,Y:METRES@PICTURE` or `distance=X,Y..X,Y:METRES@PICTURE`.
    pictures: photos of the same camera with these lengths; without any, the frames of `camera`.
    """

    camera: Path
    texts: Sequence[str]
    pictures: Sequence[Path] = ()


@dataclass(frozen=True)
class TapeCalibration:
    """A finished calibration.

    file: the camera file that keeps it.
    network: name of the network.
    kept: the fit.
    measurements: the measured lengths with their predictions.
    """

    file: Path
    network: str
    kept: KeptScale
    measurements: Sequence[TapeMeasurement]


def calibrate_camera(network: Network, request: TapeRequest) -> TapeCalibration:
    """Measure the scale of a network's depth with a camera by lengths in pictures, and keep it in the camera's file.

    Raises ConfigError for other texts or a network whose depth has an unknown shift, DataError without a camera file,
    or if a picture or a pixel is missing.
    """
    given = {text: parse_length(text) for text in request.texts}
    if not given:
        raise ConfigError("calibrate", found="no length", expected="one, such as point=640,200:12.3")
    file = _find_file(expand_home(request.camera))
    if network.depth_scale.is_affine:
        found, fix = f"depth {network.depth_scale} of {network.name}", "use another network, such as base"
        raise ConfigError("--network", found=found, expected="depth up to a factor", fix=fix)
    pictures = [*map(expand_home, request.pictures)] or [expand_home(request.camera)]
    measurements = list[TapeMeasurement]()
    for picture in pictures:
        wanted = {text: length for text, length in given.items() if _is_of(length, picture, is_only=len(pictures) == 1)}
        measurements += measure_picture(network, file, picture, wanted)
    if len(measurements) < len(given):
        found = f"{len(measurements)} of {len(given)} lengths in {' and '.join(map(str, pictures))}"
        fix = "name the picture of each length, without its suffix: point=640,200:12.3@IMG_0001"
        raise DataError("calibrate", found=found, expected="each length in one picture", fix=fix)
    kept = fit_tape(measurements)
    stored = read_json(file)
    scales = {**stored.get(METRES_KEY, {}), network.name: kept.model_dump()}
    write_json(file, {**stored, METRES_KEY: scales})
    return TapeCalibration(file, network.name, kept, measurements)


def parse_length(text: str) -> MeasuredPoint | KnownDistance:
    """Return the length that an argument of `stadia calibrate` gives: a point or a distance between two points.

    text: "point=X,Y:METRES" or "distance=X,Y..X,Y:METRES", with @PICTURE if there are several.

    Raises ConfigError for another text.
    """
    expected = "point=X,Y:METRES or distance=X,Y..X,Y:METRES"
    if text.partition("=")[0] not in ("point", "distance"):
        raise ConfigError("calibrate", found=f"'{text}'", expected=expected, fix="for example point=640,200:12.3")
    try:
        _, value = parse_scale(text)
    except ConfigError as error:  # which names the option of other commands
        raise ConfigError("calibrate", found=error.found, expected=error.expected, fix=error.fix) from error
    if isinstance(value, MeasuredPoint):
        return value
    if isinstance(value, KnownDistance) and not isinstance(value.ends[0], str) and len(value.ends[0]) == 2:
        return value
    raise ConfigError("calibrate", found=f"'{text}'", expected=expected, fix="for example point=640,200:12.3")


def _is_of(length: MeasuredPoint | KnownDistance, picture: Path, *, is_only: bool) -> bool:
    """Return whether a length may belong to a picture: of the only one, which may be a video, or by name."""
    return is_only or length.frame == picture.stem


def _find_file(camera: Path) -> Path:
    check_path_exists(camera)
    is_file = camera.is_file() and camera.suffix.lower() == ".json"
    file = camera if is_file else find_camera_file(camera)
    if file is None or file.suffix.lower() != ".json" or not isinstance(read_json(file), dict):
        found = "no camera file" if file is None else f"{file.name}, which keeps no metres"
        fix = f"run first: stadia camera {camera} --fov DEGREES"
        raise DataError(camera, found=found, expected="a file of `stadia camera`", fix=fix)
    return file


def read_kept_scale(camera: Path, network: str) -> KeptScale:
    """Return the scale that `stadia calibrate` kept with a camera.

    camera: the camera file, or an input next to it.
    network: name of the network.

    Raises DataError if it kept none.
    """
    file = _find_file(expand_home(camera))
    kept = find_kept_scale(CameraConfig(K_file=str(file)), camera, network)
    if kept is None:
        fix = f"run stadia calibrate {camera} point=X,Y:METRES --network {network}"
        raise DataError(file, found=f"no metres of {network}", expected="metres of this network", fix=fix)
    return kept


def measure_picture(
    network: Network, file: Path, picture: Path, lengths: Mapping[str, MeasuredPoint | KnownDistance]
) -> list[TapeMeasurement]:
    """Return the measured and predicted lengths of a photo, or of frames of a video or folder.

    network: the network.
    file: the camera file.
    picture: the photo, video or folder.
    lengths: the lengths by their texts; lengths without a frame's name belong to the first frame.
    """
    camera = CameraConfig(K_file=str(file))
    chosen = network.fit_source(picture, {"camera": camera})
    predictor, found = chosen.make_predictor(PredictOptions()), dict[str, TapeMeasurement]()
    (given,) = open_inputs(picture, camera=camera)
    left = dict(lengths)
    for frame in given.frames:
        name = frame.name
        here = {text: one for text, one in left.items() if given.is_photo or (one.frame or name) == name}
        if here:
            measured = predict_frame(predictor, frame)
            found |= {text: one for text in here if (one := _measure_length(measured, text, here[text]))}
            left = {text: one for text, one in left.items() if text not in here}
        if not left:
            break
    return list(found.values())


def _measure_length(frame: MeasuredFrame, text: str, given: MeasuredPoint | KnownDistance) -> TapeMeasurement | None:
    name = frame.shown.frame.name
    if isinstance(given, MeasuredPoint):
        inverse = read_pixel(frame, text, given.x, given.y)
        return None if inverse is None else TapeMeasurement(name, 1 / inverse, given.metres)
    ends = locate_ends(frame, text, given)
    if ends is None or not (length := float(np.linalg.norm(ends[1] - ends[0]))) > 0:
        return None
    lateral = float(((ends[1] - ends[0])[:2] ** 2).sum()) / length**2
    return TapeMeasurement(name, length, given.metres, float(ends[:, 2].mean()), lateral)
