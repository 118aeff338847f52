"""Sources of metres for predicted depth: for each name of `--scale-from`, how a frame is measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.registry import load_part
from stadia.core.types import RIGHT, Camera, Recording
from stadia.data.frame_preparation import PreparedFrame
from stadia.data.video.map_geometry import MapGeometry
from stadia.geometry.ground.road_plane import fit_inverse_depth_plane
from stadia.geometry.scale_fit import HEIGHT_DEVIATION, Lengths
from stadia.io.depth_files import read_depth_map
from stadia.scale.grammar import Box, KnownDistance, KnownObject, MeasuredPoint, ReferenceMaps, fit_boxes, parse_scale

log = logging.getLogger(__name__)

OPEN_DETECTOR = "stadia.predict.onnx_masks:load_onnx_segmenter"
"""Place of the function that opens the ONNX file of an `ObjectDetector`; it belongs to the second floor."""


class ObjectDetector(Protocol):
    """Detects objects in an image.

    has_boxes: whether it gives boxes.
    names: names of its classes.
    kind: kind of the network, for messages.
    """

    has_boxes: bool
    names: Sequence[str]
    kind: str

    def find_boxes(self, image: NDArray[np.uint8]) -> tuple[NDArray, NDArray, NDArray]:
        """Return boxes (N, 4) left, top, right, bottom in pixels, scores (N,) and class numbers (N,) of an image."""
        ...


MIN_DISPARITY_PX, NUM_DISPARITIES, BLOCK_PX = 2.0, 128, 5
"""Side of the blocks that are matched between stereo images, pixels. Disparities below MIN_DISPARITY_PX are not used
(an eighth of depth error), nor above NUM_DISPARITIES.
"""

NEAREST_M, FARTHEST_M = 0.1, 80.0
"""Largest measured depth that is compared with the prediction, metres (NEAREST_M: the smallest)."""

MAX_POINTS = 4000
"""Most measurements that are used of one image, evenly spread over its rows."""

POINT_PX = 2
"""Radius, in pixels of the network's image, of the window whose median depth is the depth at a point."""

WITHOUT_VALUE = ("baseline", "gps")
"""Sources that take no value for predicted depth; with a value they measure results of other programs."""

POINT_DEVIATION = 0.15
"""Relative standard error that is assumed for a network's depth at a single point."""

SPEED_DEVIATION = 0.01
"""Relative standard error that is assumed for a measured speed."""

MIN_MOTION_M = 0.2
"""Shortest motion, metres, that is compared with a predicted one; the relative error of shorter ones is too large."""

MIN_ROAD_NORMAL = 0.9
"""Smallest upward component of the unit normal of a plane that counts as a road."""

ROAD_BANDS, MIN_BAND_PIXELS = 6, 20
"""Fewest pixels of a band of distance in the measurement of the height over the road; there are ROAD_BANDS bands, with
equal ratios of distance.
"""

MIN_SLOPE = 0.025
"""Smallest slope (height over distance) of rays to the road that are used; flatter ones depend too much on the
horizon.
"""

UNKNOWN_LEAN_DEVIATION = 0.14
"""Relative standard deviation of a height over the road if the horizon is unknown: a road that predicted depth tilts
fits a plane too.
"""

MIN_SCORE, EDGE_PX = 0.4, 3
"""Smallest distance, pixels, of a detected object's box from the image border, where objects are cut off (MIN_SCORE:
smallest score of a detection).
"""

REAR_WIDTHS_M = {"car": 1.75}
MAX_REAR_SHAPE = 1.35
"""Largest width over height of a box that shows an object from behind, whose width is in REAR_WIDTHS_M."""

MIN_BOX_PX = 20.0
"""Smallest height, pixels, of an object that is measured; an error of one row is then 5 %."""


@dataclass(frozen=True)
class PredictedMotion:
    """The predicted motion of the camera from a frame to a later one.

    length: distance in the unit of predicted depth.
    seconds: time between the two frames; None if it is unknown.
    following: index of the later frame in the recording; None for a video file.
    """

    length: float
    seconds: float | None
    following: int | None


@dataclass(frozen=True)
class MeasuredFrame:
    """A frame with its predicted depth, which sources of metres compare with measurements.

    shown: the frame as prepared for the network.
    inverse_depth: (h, w) as predicted, at the network's size.
    recording: the recording that the frame is of; None for a video file or an image.
    index: index of the frame in the recording.
    motion: predicted motion to a later frame; None if it was not predicted or is unreliable.
    mapped: the map next to the input, or None.
    """

    shown: PreparedFrame
    inverse_depth: NDArray[np.float32]
    recording: Recording | None = None
    index: int | None = None
    motion: PredictedMotion | None = None
    mapped: MapGeometry | None = None

    @property
    def relative_focal(self) -> float:
        """Return the focal length fx of the whole image over its width."""
        return float(self.shown.frame.K[0, 0]) / self.shown.image_size[1]

    def find_road_normal(self) -> NDArray[np.float64] | None:
        """Return the road's unit normal (3,) in the camera's axes by the map or measured poses, not by predicted depth.

        None if neither gives it.
        """
        normal = None if self.mapped is None else self.mapped.find_road_normal(self.relative_focal)
        if normal is not None:
            return normal
        if self.recording is None or self.index is None or self.index + 1 >= len(self.recording):
            return None
        here, following = (self.recording.T_world_camera(index) for index in (self.index, self.index + 1))
        if here is None or following is None:
            return None
        moved = here[:3, :3].T @ (following[:3, 3] - here[:3, 3])
        length = float(np.linalg.norm(moved))
        if length < MIN_MOTION_M or moved[2] < MIN_ROAD_NORMAL * length:
            return None  # a car drives along the road
        along = moved / length
        normal = along * along[1] - (0, 1, 0)
        return np.asarray(normal / np.linalg.norm(normal))

    def at_image(self) -> NDArray[np.float32]:
        """Return the predicted inverse depth resized to the crop (H, W) of the image that the network uses."""
        height, width = self.shown.frame.image.shape[:2]
        resized = cv2.resize(self.inverse_depth, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)


Measure = Callable[[MeasuredFrame], Lengths | None]
"""A function that takes a frame and returns predicted inverse depths (or 1 / lengths) and the measured metres; None
without.
"""


@dataclass(frozen=True)
class SharedFit:
    """The measurements of a source that compares all frames together.

    images: pairs of predicted inverse lengths and metres of each frame.
    deviation: relative standard deviation that they share besides the source's own.
    about: what was found; the receipt records it.
    """

    images: list[Lengths]
    deviation: float
    about: str


@dataclass(frozen=True)
class ScaleSource:
    """A source of metres: one text of `--scale-from`.

    text: the text as the user typed it.
    measure: measures a frame.
    lacking: the error text if no frame has a measurement.
    systematic: relative standard deviation that all its measurements share.
    fits_shift: whether it measures several depths in an image, so that scale and shift of inverse depth can be fitted.
    motion_s: for sources that compare motions, the shortest time between two frames, seconds; None for others.
    grows_with_focal: whether its metres grow with the camera's focal length.
    find_lean: returns how the height over the road of a frame changes with distance; None for sources without a road.
    uses_map: whether it uses the camera's height over the road of a map.
    finish: returns the measurements after all frames were measured; they replace the results of `measure`; None
        without.
    frame: name of the only frame that it measures; None for any.
    """

    text: str
    measure: Measure
    lacking: str
    systematic: float = 0.0
    fits_shift: bool = False
    motion_s: float | None = None
    grows_with_focal: bool = False
    find_lean: Callable[[MeasuredFrame], RoadLean | None] | None = None
    uses_map: bool = False
    finish: Callable[[], SharedFit | None] | None = None
    frame: str | None = None


def parse_scale_source(text: str) -> ScaleSource:
    """Create the source of metres that a text of `--scale-from` describes.

    Raises ConfigError for an unknown or incomplete text.

    Examples:
        >>> parse_scale_source("height=1.5").systematic
        0.02
    """
    name, value = parse_scale(text)
    if value is not None and name in WITHOUT_VALUE:
        fix = "leave the value out: it scales poses of another program (stadia scale POSES)"
        raise ConfigError(f"--scale-from {text}", found="a value", expected=f"{name} of the data", fix=fix)
    return SCALE_SOURCES[name](text, value)


def _thin(values: Lengths) -> Lengths | None:
    predicted, metres = values
    if not len(predicted):
        return None
    step = -(-len(predicted) // MAX_POINTS)
    return predicted[::step], metres[::step]


def _compare_maps(frame: MeasuredFrame, true_m: NDArray[np.floating]) -> Lengths | None:
    known = np.isfinite(true_m) & (true_m > NEAREST_M) & (true_m < FARTHEST_M)
    predicted = frame.at_image()
    known &= predicted > 0
    return _thin((predicted[known], true_m[known]))


def lidar(text: str, value: None) -> ScaleSource:
    """Create the source `lidar`: measured depth in the dataset, such as projected LiDAR points."""

    def measure(frame: MeasuredFrame) -> Lengths | None:
        if frame.recording is None or frame.index is None or not frame.recording.has_metric_depth:
            return None
        true_m = frame.recording.depth_m(frame.index)
        return None if true_m is None else _compare_maps(frame, frame.shown.box.cut(true_m))

    lacking = "no frame has measured depth in metres"
    return ScaleSource(text, measure, lacking, fits_shift=True)


def reference(text: str, maps: ReferenceMaps) -> ScaleSource:
    """Create the source `reference`: a folder of depth maps in metres, by frame name."""

    def measure(frame: MeasuredFrame) -> Lengths | None:
        path = maps.files.get(frame.shown.frame.name)
        if path is None:
            return None
        true_m = np.asarray(read_depth_map(path), np.float32)
        if true_m.shape != frame.shown.image_size:
            height, width = frame.shown.image_size
            true_m = cv2.resize(true_m, (width, height), interpolation=cv2.INTER_NEAREST)
        return _compare_maps(frame, frame.shown.box.cut(true_m))

    return ScaleSource(text, measure, f"{maps.folder} has no map named like a frame", fits_shift=True)


def baseline(text: str, value: None) -> ScaleSource:
    """Create the source `baseline`: depth of a rectified stereo pair of known baseline, by semi-global matching."""

    def measure(frame: MeasuredFrame) -> Lengths | None:
        recording, index = frame.recording, frame.index
        if recording is None or index is None or recording.T_right_left is None or RIGHT not in recording.sides:
            return None
        depth_m = match_pair_depth(
            recording.image(index), recording.image(index, RIGHT), recording.K(index), recording.T_right_left
        )
        return _compare_maps(frame, frame.shown.box.cut(depth_m))

    return ScaleSource(text, measure, "no frame has a stereo pair", fits_shift=True, grows_with_focal=True)


def match_pair_depth(
    left: NDArray[np.uint8], right: NDArray[np.uint8], K: NDArray[np.float64], T_right_left: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Compute depth (H, W) in metres of the left image of a rectified pair by semi-global matching; 0 where unknown.

    left, right: (H, W, 3) RGB.
    K: (3, 3) of both images, pixels.
    T_right_left: (4, 4), left camera to right camera, metres.
    """
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right)]
    matcher = cv2.StereoSGBM_create(  # type: ignore[attr-defined]
        minDisparity=0,
        numDisparities=NUM_DISPARITIES,
        blockSize=BLOCK_PX,
        P1=8 * BLOCK_PX**2,
        P2=32 * BLOCK_PX**2,
        disp12MaxDiff=1,
        uniquenessRatio=15,
        speckleWindowSize=100,
        speckleRange=1,
    )
    disparity_px = matcher.compute(*gray).astype(np.float32) / 16
    depth_m = K[0, 0] * -T_right_left[0, 3] / np.maximum(disparity_px, MIN_DISPARITY_PX)
    return np.where(disparity_px > MIN_DISPARITY_PX, depth_m, 0).astype(np.float32)


def height(text: str, height_m: float) -> ScaleSource:
    """Create the source `height`: the camera's known height over the road.

    The road comes from the masks, or else is the lower middle of the image.
    """

    def measure(frame: MeasuredFrame) -> Lengths | None:
        measured = measure_road_heights(frame)
        return None if measured is None else (1 / measured.heights, np.full(len(measured.heights), height_m))

    def find_lean(frame: MeasuredFrame) -> RoadLean | None:
        measured = measure_road_heights(frame)
        return None if measured is None else measured.find_lean(height_m)

    lacking = "no frame shows a road under the camera"
    return ScaleSource(text, measure, lacking, systematic=HEIGHT_DEVIATION, grows_with_focal=True, find_lean=find_lean)


def mapped_points(text: str, height_m: float) -> ScaleSource:
    """Create the source `map`: the points of the map next to a video, scaled by the camera's known height over the
    map's road.
    """

    def measure(frame: MeasuredFrame) -> Lengths | None:
        if frame.mapped is None:
            return None
        points = frame.mapped.find_points(frame.shown.frame.name, frame.relative_focal, frame.shown.K)
        if points is None or points.road is None:
            return None
        rows, columns = frame.inverse_depth.shape
        x, y = np.rint(points.xy).astype(int).T
        metres = points.z * (height_m / points.road[3])
        used = np.flatnonzero((x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (metres < FARTHEST_M))
        used = used[np.argsort(y[used], kind="stable")]  # parts of an image are parts of this order
        return _thin((frame.inverse_depth[y[used], x[used]], metres[used]))

    lacking = "no usable map of a road is next to the input (stadia map VIDEO, in traffic with --masks)"
    return ScaleSource(
        text, measure, lacking, systematic=HEIGHT_DEVIATION, fits_shift=True, grows_with_focal=True, uses_map=True
    )


@dataclass(frozen=True)
class RoadLean:
    """How the camera's height over the road, by predicted depth, changes from the near to the far road.

    ratio: height over the far part of the road over that over the near part; 1 if predicted depth has the road's shape.
    near_m, far_m: distances of the two parts, metres.
    """

    ratio: float
    near_m: float
    far_m: float


@dataclass(frozen=True)
class RoadHeights:
    """The camera's height over the road by predicted depth, in N bands of distance.

    heights: (N,) in the unit of predicted depth, the nearest band first.
    slopes: (N,) slopes of the rays of each band down to the road: height over distance.
    has_horizon: whether the road's direction is known without predicted depth.
    """

    heights: NDArray[np.float64]
    slopes: NDArray[np.float64]
    has_horizon: bool

    def find_lean(self, height_m: float) -> RoadLean | None:
        """Compare the heights over the nearest and the farthest third of the bands.

        height_m: known height of the camera over the road, which turns slopes into distances.

        Returns None without a known horizon, or with fewer than three bands.

        Examples:
            >>> heights = RoadHeights(np.array([1.0, 1.1, 1.5]), np.array([0.3, 0.15, 0.05]), has_horizon=True)
            >>> heights.find_lean(1.5)
            RoadLean(ratio=1.5, near_m=5.0, far_m=30.0)
        """
        third = len(self.heights) // 3
        if not self.has_horizon or third < 1:
            return None
        near, far = float(np.mean(self.heights[:third])), float(np.mean(self.heights[-third:]))
        near_m, far_m = (height_m / float(np.mean(part)) for part in (self.slopes[:third], self.slopes[-third:]))
        return RoadLean(far / near, near_m, far_m)


def measure_road_heights(frame: MeasuredFrame) -> RoadHeights | None:
    """Measure the camera's height over the road of a frame in bands of distance.

    The road's direction comes from the map or measured poses, or else from the plane through predicted depth.

    Returns None if the frame shows no road.
    """
    rows, columns = frame.inverse_depth.shape
    road = _read_road(frame)
    if road is None:
        y, x = np.mgrid[:rows, :columns] / np.array([[[rows]], [[columns]]])
        road = (y > 0.62) & (y < 0.95) & (np.abs(x - 0.5) < 0.08 + 0.35 * (y - 0.62))
    if road.sum() < 100:
        return None
    depth = (1 / np.maximum(frame.inverse_depth, 1e-9)).astype(np.float64)[None, None]
    camera = Camera(frame.shown.K, rows, columns)
    plane = fit_inverse_depth_plane(depth, camera, road[None, None])[0]
    if not (-plane[1] > MIN_ROAD_NORMAL and plane[3] > 0):
        return None  # a wall
    known = frame.find_road_normal()
    normal = plane[:3] if known is None else known
    y, x = np.nonzero(road & (frame.inverse_depth > 1e-9))
    slopes = -(np.linalg.inv(frame.shown.K) @ np.stack((x, y, np.ones_like(x)))).T @ normal
    ahead = slopes > MIN_SLOPE
    slopes, inverse = slopes[ahead], frame.inverse_depth[y, x][ahead].astype(np.float64)
    if len(slopes) < 100:
        return None
    edges = np.geomspace(slopes.max() * (1 + 1e-9), slopes.min(), ROAD_BANDS + 1)
    bands = [(slopes <= high) & (slopes >= low) for high, low in pairwise(edges)]
    bands = [band for band in bands if band.sum() >= MIN_BAND_PIXELS]
    heights = np.array([np.median(slopes[band] / inverse[band]) for band in bands])
    return RoadHeights(heights, np.array([np.median(slopes[band]) for band in bands]), known is not None)


def _read_road(frame: MeasuredFrame) -> NDArray[np.bool_] | None:
    recording, index = frame.recording, frame.index
    masks = None if recording is None or index is None else recording.masks(index)
    if recording is None or masks is None or recording.mask_reader is None:
        return None
    numbers = [number for number, name in recording.mask_reader.classes.items() if name == "road"]
    road = frame.shown.box.cut(np.isin(masks.semantic, numbers)).astype(np.uint8)
    rows, columns = frame.inverse_depth.shape
    return np.asarray(cv2.resize(road, (columns, rows), interpolation=cv2.INTER_NEAREST) > 0)


def point(text: str, given: MeasuredPoint) -> ScaleSource:
    """Create the source `point`: a measured distance along the optical axis at one pixel, of the first or a named
    frame.
    """
    x, y = given.x, given.y
    first: list[str] = []

    def measure(frame: MeasuredFrame) -> Lengths | None:
        name = frame.shown.frame.name
        first[:] = first or [given.frame or name]
        if name != first[0]:
            return None
        inverse = read_pixel(frame, text, x, y)
        return None if inverse is None else (np.array([inverse]), np.array([given.metres]))

    lacking = f"no frame is called '{given.frame}'" if given.frame else "no frame"
    return ScaleSource(text, measure, lacking, systematic=POINT_DEVIATION, frame=given.frame)


def read_pixel(frame: MeasuredFrame, text: str, x: float, y: float) -> float | None:
    """Return predicted inverse depth around a pixel of the whole image, or None. Raises ConfigError outside of it."""
    rows, columns = frame.inverse_depth.shape
    box, (whole_height, whole_width) = frame.shown.box, frame.shown.image_size
    if not (x < whole_width and y < whole_height):
        expected = f"a pixel of an image of {whole_width}x{whole_height}"
        raise ConfigError(f"--scale-from {text}", found=f"{x:g},{y:g}", expected=expected)
    column = round((x - box.left + 0.5) * columns / box.width - 0.5)
    row = round((y - box.top + 0.5) * rows / box.height - 0.5)
    window = frame.inverse_depth[
        max(row - POINT_PX, 0) : row + POINT_PX + 1, max(column - POINT_PX, 0) : column + POINT_PX + 1
    ]
    window = window[window > 0]
    return float(np.median(window)) if window.size else None


def distance(text: str, given: KnownDistance) -> ScaleSource:
    """Create the source `distance`: a measured distance between the scene points at two pixels of the first or a named
    frame.
    """
    first: list[str] = []

    def measure(frame: MeasuredFrame) -> Lengths | None:
        name = frame.shown.frame.name
        first[:] = first or [given.frame or name]
        ends = locate_ends(frame, text, given) if name == first[0] else None
        if ends is None:
            return None
        length = float(np.linalg.norm(ends[0] - ends[1]))
        return (np.array([1 / length]), np.array([given.metres])) if length > 0 else None

    lacking = "no frame shows both pixels; give them as X,Y..X,Y:METRES@FRAME"
    return ScaleSource(text, measure, lacking, systematic=POINT_DEVIATION, frame=given.frame)


def locate_ends(frame: MeasuredFrame, text: str, given: KnownDistance) -> NDArray[np.float64] | None:
    """Return the predicted scene points (2, 3) at the two pixels of a distance, in the unit of predicted depth.

    frame: the frame with the pixels.
    text: text of the distance in messages.
    given: the distance.

    Returns None without depth at one of them, or if the ends are not pixels. Raises ConfigError outside of the image.
    """
    if isinstance(given.ends[0], str) or len(given.ends[0]) != 2:
        return None
    points, box = list[NDArray[np.float64]](), frame.shown.box
    for x, y in given.ends:
        inverse = read_pixel(frame, text, float(x), float(y))
        if inverse is None:
            return None
        ray = np.linalg.solve(frame.shown.frame.K, [float(x) - box.left, float(y) - box.top, 1.0])
        points.append(np.asarray(ray / inverse, np.float64))
    return np.stack(points)


def known_object(text: str, given: KnownObject) -> ScaleSource:
    """Create the source `object`: objects of known height, in boxes of a file, detected boxes, or masks of the data."""
    detector = None if given.detector is None else load_part(OPEN_DETECTOR)(given.detector)
    if detector is not None and (not detector.has_boxes or given.name not in detector.names):
        expected = f"a detector with the class {given.name}, such as YOLOX"
        raise ConfigError(f"--scale-from {text}", found=detector.kind, expected=expected)

    def measure(frame: MeasuredFrame) -> Lengths | None:
        name = frame.shown.frame.name
        if detector is not None:
            found = _detect_boxes(frame, detector, given.name)
        else:
            found = _find_mask_boxes(frame, given.name) if given.boxes is None else _find_boxes(given, name, frame)
        focal, image = frame.shown.frame.K[1, 1], frame.at_image()
        width_m = REAR_WIDTHS_M.get(given.name) if detector is not None else None
        lengths = [
            (float(np.median(inside)), focal * _measure_size(box, given.height_m, width_m))
            for box in found
            if box[3] - box[1] >= MIN_BOX_PX and (inside := _cut_middle(frame, image, box)).size
        ]
        predicted, measured = (np.array(values) for values in zip(*lengths, strict=True)) if lengths else ((), ())
        return (predicted, measured) if lengths else None  # type: ignore[return-value]

    lacking = f"no box or mask shows a whole {given.name} of {MIN_BOX_PX:g} pixels or more"
    if given.boxes:
        lacking += f". The boxes are of {', '.join(list(given.boxes)[:3])}: these names must be names of the images"
    return ScaleSource(text, measure, lacking, systematic=given.spread, grows_with_focal=True)


def _measure_size(box: Box, height_m: float, width_m: float | None) -> float:
    """Return metres per pixel of an object: by its height, and by its width too if its box shows a rear view."""
    left, top, right, bottom = box
    by_height = height_m / (bottom - top)
    if width_m is None or right - left > MAX_REAR_SHAPE * (bottom - top):
        return by_height
    return float(np.sqrt(by_height * width_m / (right - left)))


def _detect_boxes(frame: MeasuredFrame, detector: ObjectDetector, name: str) -> list[Box]:
    """Return the boxes of sure, whole objects, pixels of the whole image."""
    image, shown = frame.shown.frame.image, frame.shown.box
    boxes, scores, classes = detector.find_boxes(image)
    height, width = image.shape[:2]
    is_whole = (boxes[:, :2] > EDGE_PX).all(1) & (boxes[:, 2:] < (width - EDGE_PX, height - EDGE_PX)).all(1)
    chosen = boxes[is_whole & (scores >= MIN_SCORE) & (classes == detector.names.index(name))]
    return [(left, top, right, bottom) for left, top, right, bottom in (chosen + [shown.left, shown.top] * 2).tolist()]


def _find_boxes(given: KnownObject, name: str, frame: MeasuredFrame) -> list[Box]:
    """Return the boxes of a frame in pixels. Numbers as names may lack their zeros: 1 for 000001."""
    fitted, note = fit_boxes(given.boxes or {}, *frame.shown.image_size)
    if note:
        _log_once(note)
    padded = {key.zfill(len(name)) if key.isdecimal() else key: boxes for key, boxes in fitted.items()}
    return padded.get(name, [])


@cache
def _log_once(note: str) -> None:
    log.warning("--scale-from: %s", note)


def _cut_middle(frame: MeasuredFrame, image: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """Return the prediction in the middle of a box, because its edges show the background."""
    left, top, right, bottom = box
    width, tall = right - left, bottom - top
    rows = slice(*(round(top + share * tall) - frame.shown.box.top for share in (0.4, 0.85)))
    columns = slice(*(round(left + share * width) - frame.shown.box.left for share in (0.25, 0.75)))
    inside = image[max(rows.start, 0) : max(rows.stop, 0), max(columns.start, 0) : max(columns.stop, 0)]
    return inside[inside > 0]


def _find_mask_boxes(frame: MeasuredFrame, name: str) -> list[Box]:
    recording, index = frame.recording, frame.index
    masks = None if recording is None or index is None else recording.masks(index)
    if recording is None or masks is None or recording.mask_reader is None:
        return []
    numbers = [number for number, title in recording.mask_reader.classes.items() if title == name]
    found = []
    for instance in np.unique(masks.instance[np.isin(masks.semantic, numbers)]):
        rows, columns = np.nonzero(masks.instance == instance)
        whole = masks.instance.shape
        is_cut = rows.min() == 0 or columns.min() == 0 or rows.max() == whole[0] - 1 or columns.max() == whole[1] - 1
        if instance and not is_cut:
            found.append((columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5))
    return found


def speed(text: str, metres_per_s: float) -> ScaleSource:
    """Create the source `speed`: a constant known speed in m/s, which is compared with predicted motions."""

    def measure(frame: MeasuredFrame) -> Lengths | None:
        motion = frame.motion
        if motion is None or motion.seconds is None:
            return None
        return np.array([1 / motion.length]), np.array([metres_per_s * motion.seconds])

    lacking = "no two frames have times and a reliable predicted motion between them"
    motion_s = MIN_MOTION_M / metres_per_s
    return ScaleSource(text, measure, lacking, systematic=SPEED_DEVIATION, motion_s=motion_s)


def gps(text: str, value: None) -> ScaleSource:
    """Create the source `gps`: measured poses of the dataset, which are compared with predicted motions."""

    def measure(frame: MeasuredFrame) -> Lengths | None:
        recording, index, motion = frame.recording, frame.index, frame.motion
        if recording is None or index is None or motion is None or motion.following is None:
            return None
        poses = [recording.T_world_camera(number) for number in (index, motion.following)]
        if not recording.has_metric_poses or poses[0] is None or poses[1] is None:
            return None
        metres = float(np.linalg.norm(poses[1][:3, 3] - poses[0][:3, 3]))
        return (np.array([1 / motion.length]), np.array([metres])) if metres > MIN_MOTION_M else None

    lacking = "no two frames have poses in metres and a reliable predicted motion between them"
    return ScaleSource(text, measure, lacking, systematic=SPEED_DEVIATION, motion_s=0.0)


def kept_metres(text: str, value: None) -> ScaleSource:
    """Create the source `camera`: the scale that `stadia calibrate` kept with the camera, which measures no frame."""
    lacking = "the camera's file keeps no metres of this network: stadia calibrate"
    return ScaleSource(text, lambda frame: None, lacking)


def recorded_speed(text: str, value: None) -> ScaleSource:
    """Create the source `file` of an input without a recorded speed, which measures no frame."""
    lacking = "neither the video (GPMF) nor a .srt, .gpx or .nmea file of its name records a speed"
    return ScaleSource(text, lambda frame: None, lacking)


SCALE_SOURCES: Mapping[str, Callable[[str, Any], ScaleSource]] = {
    "baseline": baseline,
    "camera": kept_metres,
    "distance": distance,
    "file": recorded_speed,
    "height": height,
    "map": mapped_points,
    "object": known_object,
    "point": point,
    "speed": speed,
    "gps": gps,
    "lidar": lidar,
    "reference": reference,
}
"""For each source by its name in `--scale-from`, the function that creates it from the whole text and the value of
`parse_scale`.
"""
