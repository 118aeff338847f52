"""Measure the scale of another program's result, and write a copy in metres with a record of how it was measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError, DataError, GeometryError, StadiaError
from stadia.core.types import DepthScale, Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_preparation import PreparedFrame, frame_name, read_frames
from stadia.data.frame_selection import spread_indices
from stadia.data.open_dataset import open_recordings
from stadia.data.video.input_camera import choose_input_camera, is_own_file, is_own_video
from stadia.geometry.poses import invert_pose
from stadia.geometry.scale_fit import HEIGHT_DEVIATION, ScaleFit, fit_scale
from stadia.io.atomic_files import write_json
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.input_files import expand_home
from stadia.scale.foreign_results import ForeignResult, open_result, read_depth, write_scaled
from stadia.scale.grammar import KnownDistance, PositionsFile, parse_scale
from stadia.scale.positions import associate_positions, fit_positions, read_positions
from stadia.scale.scale_receipt import MAX_FRAMES, ScaleReceipt, measure_frames
from stadia.scale.sources import SPEED_DEVIATION, MeasuredFrame, parse_scale_source
from stadia.sfm.road_sweep import choose_pairs, find_road_plane
from stadia.sfm.sparse_map import LensCamera

Array = NDArray[np.float64]

DISTANCE_DEVIATION, BASELINE_DEVIATION = 0.02, 0.01
"""Relative standard error of the baseline of a stereo rig (DISTANCE_DEVIATION: of a distance between two points or
images).
"""

SWEEP_WIDTH = 640
"""Width, pixels, of the images in the comparison of the road."""

KEY_STEPS = (1, 2, 4, 8)
"""Tried distances, in frames, between frames that see the road from two places; the one with the smallest deviation is
used.
"""


@dataclass(frozen=True)
class ResultImages:
    """The images that belong to a result of another program.

    recording: the images.
    index_of: for each row of the result's names, the image's index in the recording.
    """

    recording: Recording
    index_of: Mapping[int, int]


def find_images(result: ForeignResult, source: Path | None, data: Mapping[str, Any]) -> ResultImages | None:
    """Find the images of a result of another program, by time, name or order.

    result: the result.
    source: the images; None searches next to the result.
    data: options for opening the source.

    Returns None without images.

    Raises DataError if the images of `source` do not belong to the result.
    """
    if source is None:
        formats = {"COLMAP model": ("colmap", 2), "transforms.json": ("nerfstudio", 0)}
        format, up = formats.get(result.kind, ("", 0))
        folder = result.path.resolve().parents[up]
        try:
            (recording,) = open_recordings(folder, format) if format else [None]
        except (StadiaError, ValueError):
            return None
        return None if recording is None else _match(result, recording, folder)
    opened = _open_images(expand_home(source), **data)
    if len(opened) != 1:
        found, fix = f"{len(opened)} recordings of images", "pass the folder of images of one camera"
        raise DataError(source, found=found, expected="one recording", fix=fix)
    return _match(result, opened[0], source)


def _open_images(source: Path, format: str = "auto", **options: Any) -> list[Recording]:
    """Open the recordings of a dataset, a video, or a folder of images of one camera; a photo has no recording."""
    if is_own_file(source, format) and source.suffix.lower() in IMAGE_SUFFIXES:
        return []
    if is_own_video(source, format):
        camera = choose_input_camera(resolve_config(SourceOptions, options).camera, source).config
        return open_recordings(source, "video", **{**options, "stride": 1, "camera": camera})
    return open_recordings(source, format, **options)


def _match(result: ForeignResult, recording: Recording, source: Path) -> ResultImages:
    place = {frame_name(recording, index): index for index in range(len(recording))}
    found = dict[int, int]()
    if result.times_s is not None:
        times = [recording.timestamp_s(index) for index in range(len(recording))]
        known = np.array([math.nan if time_s is None else time_s for time_s in times])
        if np.isfinite(known).all() and len(known):
            nearest = np.abs(known[None] - result.times_s[:, None]).argmin(1)
            gap = np.abs(known[nearest] - result.times_s)
            found = {row: int(nearest[row]) for row in np.flatnonzero(gap < 0.02).tolist()}
    if len(found) < 2 and result.has_names:
        found = {row: place[name] for row, name in enumerate(result.names) if name in place}
    if len(found) < 2 and len(result.names) == len(recording):
        found = {row: row for row in range(len(recording))}
    if not found:
        expected = f"names, times or the number ({len(result.names)}) of {result.path.name}"
        raise DataError(
            source,
            found=f"{len(recording)} other images",
            expected=expected,
            fix="pass the images that this result was computed from",
        )
    return ResultImages(recording, found)


# -- scale of poses


def fit_gps(result: ForeignResult, given: PositionsFile | None, images: ResultImages | None) -> ScaleFit:
    """Fit the camera trajectory of a result to measured positions; returns its scale.

    Raises GeometryError if no file of positions is given or it does not fit.
    """
    if given is None:
        raise GeometryError("gps", found="no positions", expected="a file, as gps=track.gpx")
    path, measured = result.T_world_camera[:, :3, 3], read_positions(given.path)
    if images is not None and len(measured.metres) == len(images.recording) and not measured.names:
        rows = np.array(sorted(images.index_of), np.intp)
        return fit_positions(path[rows], measured.metres[[images.index_of[int(row)] for row in rows]])
    rows, metres = associate_positions(measured, result.names, result.times_s, given.offset_s)
    return fit_positions(path[rows], metres)


def fit_distance(result: ForeignResult, given: KnownDistance, images: ResultImages | None) -> ScaleFit:
    """Compare a distance in a result, between two images or two points of its world, with the measured one; returns its
    scale.

    Raises GeometryError for ends that the result does not have.
    """
    ends = [result.T_world_camera[result.names.index(end), :3, 3] if end in result.names else end for end in given.ends]
    if any(isinstance(end, str) or len(end) != 3 for end in ends):
        found = f"{' and '.join(map(str, given.ends))}"
        raise GeometryError("distance", found=found, expected="names of two images, or X,Y,Z..X,Y,Z:METRES")
    length = float(np.linalg.norm(np.asarray(ends[0], np.float64) - np.asarray(ends[1], np.float64)))
    if not length > 0:
        raise GeometryError("distance", found="one place", expected="two places")
    return ScaleFit(given.metres / length, DISTANCE_DEVIATION, 0.0, 1.0, 1, 1)


def fit_height(result: ForeignResult, height_m: float, images: ResultImages | None) -> ScaleFit:
    """Compare the camera's height over the road in a result, by a plane sweep over pairs of images, with the measured
    height.

    result: the result.
    height_m: measured height, metres.
    images: the images of the result.

    Raises GeometryError without images or a road under a moving camera.
    """
    if images is None:
        raise GeometryError("height", found="no images", expected="the images of the path: --images FOLDER")
    rows = sorted(images.index_of)
    T, recording = result.T_world_camera[rows], images.recording
    indices = [images.index_of[row] for row in rows]
    image = recording.image(indices[0])
    K, (height, width) = recording.K(indices[0]), image.shape[:2]
    focal_px, center = float(math.sqrt(K[0, 0] * K[1, 1])), (float(K[0, 2]), float(K[1, 2]))
    lens = LensCamera(focal_px, center, (0.0, 0.0, 0.0, 0.0), height, width)
    small = lens.resized(round(height * SWEEP_WIDTH / width), SWEEP_WIDTH)
    grays = dict[int, NDArray[np.uint8]]()
    planes = []
    for step in KEY_STEPS:
        pairs = choose_pairs(T, range(0, len(T), step))
        for row in {row for pair in pairs for row in pair} - grays.keys():
            gray = cv2.cvtColor(recording.image(indices[row]), cv2.COLOR_RGB2GRAY)
            resized = cv2.resize(gray, (small.width, small.height), interpolation=cv2.INTER_AREA)
            grays[row] = np.asarray(resized, np.uint8)
        planes.append(find_road_plane(grays, pairs, T, small))
    found = [plane for plane in planes if plane is not None]
    if not found:
        raise GeometryError("height", found="no road under a moving camera", expected="a camera that drives on a road")
    plane = min(found, key=lambda plane: plane.deviation / plane.height)
    relative = plane.deviation / plane.height
    deviation = math.hypot(relative, HEIGHT_DEVIATION)
    residual = relative * math.sqrt(plane.pairs)
    return ScaleFit(height_m / plane.height, deviation, residual, 1.0, plane.pairs, plane.pairs)


def fit_speed(result: ForeignResult, metres_per_s: float, images: ResultImages | None) -> ScaleFit:
    """Compare the steps of a result's camera trajectory with a constant measured speed; returns its scale.

    Raises GeometryError if the poses have no times.
    """
    times = result.times_s
    if times is None:
        raise GeometryError("speed", found="no times", expected="times of the poses")
    steps = np.linalg.norm(np.diff(result.T_world_camera[:, :3, 3], axis=0), axis=1)
    metres = metres_per_s * np.diff(times)
    return fit_scale([(steps[row : row + 1], metres[row : row + 1]) for row in range(len(steps))],
                     systematic=SPEED_DEVIATION)  # fmt: skip


def fit_baseline(result: ForeignResult, metres: float | None, images: ResultImages | None) -> ScaleFit:
    """Compare the distance between the two cameras of a stereo rig in a result with the measured baseline.

    A pair of images is two images of the same name in two folders. Raises GeometryError without such pairs.
    """
    rows = defaultdict[str, list[int]](list)
    for row, name in enumerate(result.names):
        rows[name].append(row)
    at = result.T_world_camera[:, :3, 3]
    pairs = [(one, two) for one, two, *_ in (found for found in rows.values() if len(found) > 1)]
    if metres is None or not pairs:
        raise GeometryError("baseline", found="no stereo pairs", expected="two folders with images of one name each")
    lengths = [np.linalg.norm(at[[one]] - at[[two]], axis=1) for one, two in pairs]
    return fit_scale([(length, np.array([metres])) for length in lengths], systematic=BASELINE_DEVIATION)


POSE_SOURCES: Mapping[str, Callable[[ForeignResult, Any, ResultImages | None], ScaleFit]] = {
    "baseline": fit_baseline,
    "distance": fit_distance,
    "gps": fit_gps,
    "height": fit_height,
    "speed": fit_speed,
}
"""Functions for the sources of `--scale-from` that measure poses or points; they raise GeometryError without a
measurement.
"""


# -- scale of depth


@dataclass
class _DepthSize:
    height: int
    width: int
    crop: str = "none"
    depth_scale: DepthScale = DepthScale.UP_TO_SCALE


def read_depth_frames(result: ForeignResult, images: ResultImages) -> Iterator[MeasuredFrame]:
    """Yield at most MAX_FRAMES frames of a result with their depth map, or the depth of the points that they show."""
    rows = sorted(images.index_of)
    for number in spread_indices(len(rows), MAX_FRAMES):
        row, name = rows[number], result.names[rows[number]]
        index = images.index_of[row]
        (frame,) = read_frames(images.recording, [index])
        if name in result.depths:
            depth = np.asarray(read_depth(result.depths[name]), np.float32)
        else:
            depth = _project(result, row, frame.K, (frame.image.shape[0], frame.image.shape[1]))
        inverse = np.divide(1, depth, out=np.zeros_like(depth), where=(depth > 0) & np.isfinite(depth))
        shown = PreparedFrame.prepare(_DepthSize(*depth.shape), frame)
        yield MeasuredFrame(shown, inverse, images.recording, index)


def _project(result: ForeignResult, row: int, K: Array, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return depth (H, W) of the nearest point at each pixel that shows one; 0 elsewhere."""
    depth, T = np.zeros(size, np.float32), invert_pose(result.T_world_camera[row])
    inside = result.points[result.observed[result.names[row]]] @ T[:3, :3].T + T[:3, 3]
    inside = inside[inside[:, 2] > 0]
    inside = inside[np.argsort(-inside[:, 2], kind="stable")]  # the last point that is written to a pixel counts
    x, y = np.rint((inside @ K.T)[:, :2] / inside[:, 2:]).astype(int).T
    seen = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
    depth[y[seen], x[seen]] = inside[seen, 2]
    return depth


# -- all together


def measure_result(result: ForeignResult, texts: Sequence[str], images: ResultImages | None) -> ScaleReceipt:
    """Measure the scale of a result by sources of metres.

    result: the result.
    texts: texts of `--scale-from`.
    images: the images of the result, or None.

    Raises StadiaError if no source gives a scale.
    """
    further, of_depth = dict[str, ScaleFit | str](), list[str]()
    for text in texts:
        name, value = parse_scale(text)
        has_poses = len(result.T_world_camera) > 0 or (name == "distance" and len(result.points) > 0)
        if has_poses and name in POSE_SOURCES and not (name == "baseline" and value is None):
            try:
                further[text] = POSE_SOURCES[name](result, value, images)
            except GeometryError as error:
                further[text] = f"found {error.found}, expected {error.expected}" + f": {error.fix}" * bool(error.fix)
        elif not result.has_depth or images is None or name in ("speed", "gps", "map"):
            needed = "poses" if not result.has_depth or images is not None else "--images, the images of the depth"
            further[text] = f"{name} needs {needed}"
        else:
            of_depth.append(text)
    frames = read_depth_frames(result, images) if of_depth and images is not None else iter(())
    return measure_frames(frames, [parse_scale_source(text) for text in of_depth], further=further)


@dataclass(frozen=True)
class ScaledResult:
    """A copy in metres of another program's result.

    result: the original.
    copy: the file or folder of the copy.
    receipt: how the scale was measured.
    receipt_file: the JSON file with this.
    """

    result: ForeignResult
    copy: Path
    receipt: ScaleReceipt
    receipt_file: Path


def scale_result(
    path: Path,
    scale_from: Sequence[str],
    *,
    out: Path | None = None,
    images: Path | None = None,
    data: Mapping[str, Any] | None = None,
) -> ScaledResult:
    """Measure the metres of another program's result, and write a copy in metres and a record of how it was measured.

    path: the result.
    scale_from: texts of `--scale-from`.
    out: the copy; None puts it next to the result.
    images: the images of the result; None searches next to it.
    data: options for opening the images.

    Raises StadiaError if no source gives a scale, or the copy exists.
    """
    if not scale_from:
        fix = "for example --scale-from height=1.5, or --scale-from gps=track.gpx"
        raise ConfigError("--scale-from", found="nothing", expected="a source of metres", fix=fix)
    result = open_result(path)
    named = path if path.name not in ("", "..") else path.resolve()
    copy = out or named.with_name(f"{named.stem}.metres{named.suffix}")
    file = copy.with_name(f"{copy.name}.receipt.json")
    for target in (copy, file):
        if target.exists():
            raise StadiaError(target, found="a file or folder", expected="a new name", fix="choose another --out")
    receipt = measure_result(result, scale_from, find_images(result, images, data or {}))
    write_scaled(result, copy, receipt.factor)
    write_json(file, {"source": str(path), "kind": result.kind, "unit": "metres", **receipt.to_json()})
    return ScaledResult(result, copy, receipt, file)
