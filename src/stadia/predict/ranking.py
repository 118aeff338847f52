"""Rank networks on a video without ground truth, by the points of its map, which no network made."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import Frame, PreparedFrame
from stadia.data.video.map_geometry import MapGeometry
from stadia.data.video.video_map import find_map
from stadia.geometry.cameras import resize_K
from stadia.geometry.poses import invert_pose
from stadia.io.depth_files import find_depth_files, read_depth_map
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.input_files import check_path_exists
from stadia.io.run_facts import RUN_FILE
from stadia.predict.inputs import open_inputs
from stadia.predict.network import open_network
from stadia.predict.predict_frames import predict_inverse_depth

Map = NDArray[np.float32]
Array = NDArray[np.float64]

MAX_FRAMES = 60
"""Number of video frames that are compared, evenly spread."""

MIN_POINTS, MIN_FRAMES = 30, 6
"""Fewest frames with at least MIN_POINTS visible map points that a ranking needs."""

GRID, MAX_SIDE, MAX_RATIO = 48, 0.2, 2.0
"""Limits for the places of comparison. Map points gather at texture, so depth is compared on a grid of GRID times GRID
places inside triangles of map points, whose sides are at most MAX_SIDE of the image width, and whose depths differ
by at most this factor.
"""

EDGE_SHARE, EDGE_PX = 0.03, 2
"""Depth edges are the EDGE_SHARE of the pixels where depth changes most; they count as right within this distance,
pixels, of an edge of the image.
"""

MATCH_WIDTH = 640  # width of the images in whose pixels residuals of matches are measured
RESAMPLES, CONFIDENCE = 1000, 0.95  # The bootstrap draws blocks of neighboring frames.
SAME_SHARE = 0.02  # Two networks whose errors differ by a smaller share are equal.


@dataclass(frozen=True, eq=False)
class View:
    """The predicted depth of a frame.

    inverse_depth: (h, w), 0 where unknown.
    K: (3, 3) for its pixels.
    """

    inverse_depth: Map
    K: Array


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network, or a folder of depth maps of another program, that takes part in a ranking.

    name: name as the user typed it.
    predict: returns the depth of a frame, or None if it has none.
    licence: licence of the weights; "" if unknown.
    weights_mb: size of the weights, megabytes; None if unknown.
    is_affine: whether inverse depth has an unknown shift besides the scale.
    """

    name: str
    predict: Callable[[Frame], View | None]
    licence: str = ""
    weights_mb: float | None = None
    is_affine: bool = False


COLUMNS: Mapping[str, tuple[str, str]] = {
    "error": ("error at map points", "mean relative error between the map's points, after median scaling"),
    "match_px": ("match residual, px", "distance of matches from points moved by predicted depth, width 640"),
    "flicker": ("flicker", "change of a point's depth between frames beyond the map's"),
    "lean": ("tilt", "change of scale from the top to the bottom of the image, in the logarithm"),
    "scale": ("spread of scale", "deviation of the scale between frames, in the logarithm"),
    "edges": ("edges", "share of depth edges at edges of the image over chance; more is better"),
    "ms": ("time, ms", "time for a frame on this machine"),
}
"""Title and meaning of each column of the ranking. The first one decides the order; all but `ms` have intervals."""


@dataclass(frozen=True)
class Estimate:
    """The mean of a measure over the frames.

    value: the mean.
    low, high: its 95 % interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RankedCandidate:
    """A row of the ranking.

    candidate: the network or depth maps.
    estimates: its measures by column name.
    is_tied: whether its difference from the best candidate is within noise.
    """

    candidate: Candidate
    estimates: Mapping[str, Estimate]
    is_tied: bool

    @property
    def name(self) -> str:
        """Return the name of the candidate."""
        return self.candidate.name


@dataclass(frozen=True, eq=False)
class Ranking:
    """Candidates in order of their error on a video.

    video: name of the video.
    rows: the candidates, the best first.
    frames: number of compared frames.
    points: median number of visible map points in a frame.
    map_grade: verdict on the map: usable, doubtful or not judged.
    shown: for pictures: inverse depth by frame name and candidate name.
    images: the images of these frames by name.
    """

    video: str
    rows: Sequence[RankedCandidate]
    frames: int
    points: int
    map_grade: str
    shown: Mapping[str, Mapping[str, Map]] = field(default_factory=dict)
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def tied(self) -> list[str]:
        """Return the names of the best candidates, whose differences are within noise."""
        return [row.name for row in self.rows if row.is_tied]


def open_candidate(text: str, size: tuple[int, int], names: Sequence[str]) -> Candidate:
    """Open a network, or a folder of depth maps that has the names (or the number) of the frames.

    text: name or path.
    size: (height, width) of the images, pixels.
    names: names of the frames.

    Raises CheckpointError, ConfigError and DataError if it cannot be opened.
    """
    path = Path(text)
    is_stack = path.is_file() and path.suffix.lower() in (".npy", ".npz")
    if is_stack or (path.is_dir() and not any((path / name).is_file() for name in (RUN_FILE, "config.json"))):
        files = find_depth_files(path)
        if not set(files) & set(names):
            if len(files) != len(names):
                found, expected = f"{len(files)} maps with other names", f"names or number ({len(names)}) of the frames"
                raise DataError(path, found=found, expected=expected, fix="write a map for each frame")
            files = dict(zip(names, files.values(), strict=True))

        def read(frame: Frame) -> View | None:
            if frame.name not in files:
                return None
            depth = np.asarray(read_depth_map(files[frame.name]), np.float32)
            inverse = np.divide(1, depth, out=np.zeros_like(depth), where=(depth > 0) & np.isfinite(depth))
            return View(inverse, resize_K(frame.K, (frame.image.shape[0], frame.image.shape[1]), *depth.shape))

        return Candidate(path.name, read, "of the other program")
    network = open_network(text)
    network = network if network.has_own_size else network.fit(*size)
    predictor = network.make_predictor()

    def predict(frame: Frame) -> View:
        shown = PreparedFrame.prepare(predictor, frame)
        inverse = predict_inverse_depth(predictor, shown)
        if predictor.depth_scale is DepthScale.AFFINE_DEPTH:
            found, expected = "depth with an unknown shift", "depth, or inverse depth"
            raise DataError(text, found=found, expected=expected, fix="choose another network")
        return View(inverse, shown.K)

    bytes_ = network.count_weight_bytes()
    licence = network.licence or ("" if network.run_folder is None else "your training")
    megabytes = None if bytes_ is None else bytes_ / 1e6
    return Candidate(text, predict, licence, megabytes, predictor.depth_scale.is_affine)


# -- one frame


@dataclass(frozen=True, eq=False)
class PointView:
    """The map points that a frame shows.

    rows: (M,) rows of the points in the map.
    xy: (M, 2) their pixels.
    z: (M,) their depth in the map's unit.
    places: (G, 2) pixels between points, at which depth is compared.
    depth: (G,) depth there, interpolated between points.
    """

    rows: NDArray[np.int64]
    xy: Array
    z: Array
    places: Array
    depth: Array


def locate_points(geometry: MapGeometry, name: str, view: View) -> PointView | None:
    """Find the map points that a frame shows, in the pixels of a predicted depth map.

    geometry: poses and points of the map.
    name: name of the frame.
    view: predicted depth of the frame.

    Returns None for a frame without a pose, or with fewer than MIN_POINTS points.
    """
    row, K, (height, width) = geometry.row_of_name.get(name), view.K, view.inverse_depth.shape
    if row is None or not np.isfinite(geometry.poses[row]).all():
        return None
    T, rows = invert_pose(geometry.poses[row]), geometry.seen[row]
    inside = geometry.points[rows] @ T[:3, :3].T + T[:3, 3]
    xy = inside[:, :2] / np.maximum(inside[:, 2:], 1e-9) * (K[0, 0], K[1, 1]) + K[:2, 2]
    seen = (inside[:, 2] > 1e-6) & (xy >= 0).all(1) & (xy[:, 0] <= width - 1) & (xy[:, 1] <= height - 1)
    if seen.sum() < MIN_POINTS:
        return None
    between = interpolate_points(xy[seen], inside[seen, 2], height, width)
    return PointView(rows[seen], xy[seen], inside[seen, 2], *between)


def interpolate_points(xy: Array, z: Array, height: int, width: int) -> tuple[Array, Array]:
    """Interpolate depth between map points on a grid, linearly in inverse depth.

    xy: (M, 2) pixels of the points.
    z: (M,) their depth.
    height, width: size of the image, pixels.

    Returns places (G, 2), pixels, and their depth (G,).
    """
    triangles = Delaunay(xy)
    x, y = np.meshgrid((np.arange(GRID) + 0.5) / GRID * width - 0.5, (np.arange(GRID) + 0.5) / GRID * height - 0.5)
    places = np.stack([x.ravel(), y.ravel()], 1)
    inside = triangles.find_simplex(places)
    places, inside = places[inside >= 0], inside[inside >= 0]
    corners, inverse = xy[triangles.simplices[inside]], 1 / z[triangles.simplices[inside]]
    side = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1)
    kept = (side < MAX_SIDE * width) & (inverse.max(1) < MAX_RATIO * inverse.min(1))
    transform = triangles.transform[inside[kept]]
    shares = np.einsum("nij,nj->ni", transform[:, :2], places[kept] - transform[:, 2])
    return places[kept], 1 / (np.column_stack([shares, 1 - shares.sum(1)]) * inverse[kept]).sum(1)


def score_frame(
    view: View, points: PointView, image: NDArray[np.uint8], *, is_affine: bool = False
) -> tuple[dict[str, float], dict[int, float]]:
    """Compare the predicted depth of a frame with the map.

    view: predicted depth.
    points: the map points in the frame.
    image: (H, W, 3) RGB.
    is_affine: whether scale and shift of inverse depth are fitted, instead of the scale alone.

    Returns the measures by column name, and for each map point by its row, the natural logarithm of predicted over
    mapped depth. Both are empty if too few points have depth.
    """
    inverse, between = (_sample(view.inverse_depth, xy) for xy in (points.xy, points.places))
    if is_affine and len(points.depth):
        A = np.stack([between, np.ones_like(between)], 1) * points.depth[:, None]
        scale, shift = np.linalg.lstsq(A, np.ones_like(between), rcond=None)[0]
        inverse, between = (np.maximum(scale * one + shift, 1e-3 / points.z.max()) for one in (inverse, between))
    known, compared = inverse > 0, between > 0
    if min(known.sum(), compared.sum()) < MIN_POINTS:
        return {}, {}
    depth, truth = 1 / between[compared], points.depth[compared]
    scale = float(np.median(truth) / np.median(depth))
    logs = np.log(1 / inverse[known] / points.z[known])
    rows = points.places[compared, 1] / view.inverse_depth.shape[0]
    values = {
        "error": float(np.mean(np.abs(depth * scale / truth - 1))),
        "lean": abs(float(np.polyfit(rows, np.log(depth / truth), 1)[0])),
        "scale": -float(np.log(scale)),
        "edges": measure_edges(view.inverse_depth, image),
    }
    return values, dict(zip(points.rows[known].tolist(), logs.tolist(), strict=True))


def _sample(values: Map, xy: Array) -> Array:
    at = xy.astype(np.float32)
    return np.asarray(cv2.remap(values, at[None, :, 0], at[None, :, 1], cv2.INTER_LINEAR)[0], np.float64)


def measure_edges(inverse_depth: Map, image: NDArray[np.uint8]) -> float:
    """Return the frequency of depth edges near edges of the image over the frequency of any pixels there; NaN without
    edges.

    inverse_depth: (h, w).
    image: (H, W, 3) RGB.
    """
    small = cv2.resize(image, inverse_depth.shape[::-1], interpolation=cv2.INTER_AREA)
    kernel = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    near = cv2.dilate(cv2.Canny(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), 60, 150), kernel) > 0
    steps = np.hypot(*np.gradient(np.log(np.maximum(inverse_depth, 1e-9))))
    edges = steps >= max(float(np.quantile(steps, 1 - EDGE_SHARE)), 1e-6)
    return float(near[edges].mean() / near.mean()) if edges.any() and near.any() else float("nan")


# -- a video


def rank_candidates(
    candidates: Sequence[Candidate],
    frames: Iterable[Frame],
    geometry: MapGeometry,
    *,
    video: str = "video",
    map_grade: str = Verdict.USABLE,
    shown: int = 6,
) -> Ranking:
    """Score candidates on the frames of a mapped video, and order them by their error.

    candidates: networks or depth maps.
    frames: the frames.
    geometry: poses and points of the map.
    video: name of the video.
    map_grade: verdict on the map.
    shown: number of frames that are kept for pictures.

    Raises DataError if too few frames show points of the map.
    """
    scores: list[list[dict[str, float]]] = [[] for _ in candidates]
    before: list[dict[int, float]] = [{} for _ in candidates]
    kept, images, counts = dict[str, dict[str, Map]](), dict[str, NDArray[np.uint8]](), list[int]()
    for frame in frames:
        views, points, times = list[View](), list[PointView](), list[float]()
        for candidate in candidates:
            started = time.perf_counter()
            view = candidate.predict(frame)
            times.append(1e3 * (time.perf_counter() - started))
            found = None if view is None else locate_points(geometry, frame.name, view)
            if view is None or found is None:
                break
            views.append(view)
            points.append(found)
        if len(views) < len(candidates):
            continue
        for at, (view, seen) in enumerate(zip(views, points, strict=True)):
            values, logs = score_frame(view, seen, frame.image, is_affine=candidates[at].is_affine)
            changes = np.array([logs[row] - before[at][row] for row in logs.keys() & before[at].keys()])
            if len(changes) >= MIN_POINTS // 3:
                values["flicker"] = _spread(changes)
            if logs and (motion_px := _measure_motion(geometry, frame.name, seen)) is not None:
                values["match_px"] = _spread(np.array([*logs.values()])) * motion_px
            scores[at].append({**dict.fromkeys(COLUMNS, np.nan), **values, "ms": times[at]})
            before[at] = logs
        counts.append(len(points[0].z))
        images[frame.name] = frame.image
        kept[frame.name] = {one.name: view.inverse_depth for one, view in zip(candidates, views, strict=True)}
    if len(images) < MIN_FRAMES:
        found_text = f"{len(images)} frames with {MIN_POINTS} points of the map and depth of all candidates"
        expected, fix = f"{MIN_FRAMES} or more", "use a video whose camera moves, and depth maps of all its frames"
        raise DataError(video, found=found_text, expected=expected, fix=fix)
    chosen = [*images][:: max(len(images) // shown, 1)][:shown]
    pictures = {name: kept[name] for name in chosen}, {name: images[name] for name in chosen}
    return Ranking(video, _order(candidates, scores), len(images), int(np.median(counts)), map_grade, *pictures)


def _spread(values: Array) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def _measure_motion(geometry: MapGeometry, name: str, points: PointView) -> float | None:
    """Return the median motion of points by the translation to the next frame, pixels of MATCH_WIDTH."""
    row = geometry.row_of_name[name]
    if row + 1 >= len(geometry.poses) or not np.isfinite(geometry.poses[row + 1]).all():
        return None
    moved = np.linalg.norm(geometry.poses[row + 1][:3, 3] - geometry.poses[row][:3, 3])
    return float(np.median(geometry.focal * MATCH_WIDTH * moved / points.z))


def _order(candidates: Sequence[Candidate], scores: Sequence[list[dict[str, float]]]) -> list[RankedCandidate]:
    """Return the candidates by their error, with intervals of a bootstrap over blocks of frames."""
    tables = {name: np.array([[values[name] for values in one] for one in scores]) for name in COLUMNS}
    tables["scale"] = np.abs(tables["scale"] - np.nanmedian(tables["scale"], axis=1, keepdims=True))
    count = tables["error"].shape[1]
    length = max(round(count**0.5), 1)
    starts = np.random.default_rng(0).integers(0, count, (RESAMPLES, -(-count // length)))
    drawn = ((starts[..., None] + np.arange(length)) % count).reshape(RESAMPLES, -1)[:, :count]
    means = {name: _nanmean(table) for name, table in tables.items()}
    draws = {name: _nanmean(table[:, drawn]) for name, table in tables.items()}
    means["ms"] = np.nanmedian(tables["ms"], axis=1)
    order = np.argsort(np.where(np.isnan(means["error"]), np.inf, means["error"]), kind="stable").tolist()
    best, rows, error = order[0], list[RankedCandidate](), means["error"]
    for at in order:
        low = _estimate(0.0, draws["error"][at] - draws["error"][best]).low
        is_tied = at == best or low <= 0 or error[at] - error[best] < SAME_SHARE * error[best]
        estimates = {name: _estimate(means[name][at], draws[name][at]) for name in COLUMNS}
        rows.append(RankedCandidate(candidates[at], estimates, bool(is_tied)))
    return rows


def _nanmean(values: Array) -> Array:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(-1)
    return np.divide(total, known.sum(-1), out=np.full(total.shape, np.nan), where=known.any(-1))


def _estimate(value: float, draws: Array) -> Estimate:
    known = draws[np.isfinite(draws)]
    ends = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low, high = np.quantile(known, ends).tolist() if len(known) else (float("nan"), float("nan"))
    return Estimate(float(value), low, high)


def rank_networks(
    texts: Sequence[str], source: Path, data: Mapping[str, Any] | None = None, track: TrackProgress = no_progress
) -> Ranking:
    """Rank networks and folders of depth maps on a video, or a folder of images, that has its map next to it.

    texts: names or paths of the candidates.
    source: the video or folder.
    data: options for opening it.
    track: shows progress.

    Raises DataError without a usable map, and the errors of opening the candidates.
    """
    check_path_exists(source)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        fix = "compare on a video, or by ground truth: stadia evaluate"
        raise DataError(source, found="one image", expected="a video with a usable map", fix=fix)
    mapped = find_map(source)
    if mapped is None or mapped.geometry is None:
        fix = f"make it: stadia map {source}"
        raise DataError(source, found="no map", expected="a usable map, to compare depth with", fix=fix)
    if not mapped.is_usable:
        fix = "pass a part of the video with a moving camera, or compare by ground truth: stadia evaluate"
        raise DataError(source, found="a map that is unusable", expected="a usable map", fix=fix)
    geometry, grade = mapped.geometry, mapped.verdict.grade if mapped.verdict is not None else Verdict.NOT_JUDGED
    (given,) = open_inputs(source, **(data or {}))
    first = next(iter(given.frames))
    size = first.image.shape[0], first.image.shape[1]
    candidates = [open_candidate(text, size, given.names) for text in texts]
    (again,) = open_inputs(source, **(data or {}))
    every = max((given.count or MAX_FRAMES) // MAX_FRAMES, 1)
    frames = (frame for number, frame in enumerate(again.frames) if number % every == 0)
    tracked = track(frames, min(MAX_FRAMES, given.count or MAX_FRAMES), f"comparing on {given.name}")
    return rank_candidates(candidates, tracked, geometry, video=given.name, map_grade=grade)
