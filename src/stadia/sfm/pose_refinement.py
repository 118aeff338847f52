"""Adjust the poses and cameras of another program to independent matches, starting from the given ones.

What the adjustment changes is the error of what was given: `judge.error` measures it, and `stadia refine` writes the
adjusted poses. Poses start as given, or as the relative rotations of pairs of images give them, whichever explains
matches better that took no part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.progress import TrackProgress, no_progress
from stadia.geometry.poses import invert_pose, so3_log
from stadia.geometry.two_views import epipolar_distance_px
from stadia.io.records.reconstruction import Reconstruction
from stadia.sfm.image_matches import MAX_SIDE_PX, ImageMatches
from stadia.sfm.match_triangulation import (
    MAX_MISS_PX,
    PosedImages,
    VirtualView,
    measure_matches,
    pose_images,
    triangulate_features,
    triangulate_tracks,
    triangulate_view,
    view_matches,
)
from stadia.sfm.pose_deviations import (
    MIN_PART,
    MIN_SEEN,
    PARAMETERS,
    PoseCovariance,
    find_parts,
    measure_camera_deviations,
    measure_covariances,
    select_observations,
)
from stadia.sfm.reconstruction import MAX_ERROR_PX, adjust, build_model
from stadia.sfm.sparse_map import Array, SparseMap, align_cameras, import_pycolmap

MISSES_PX = (16.0, 8.0, MAX_MISS_PX)
"""Largest distances of a match from its triangulated point in successive adjustments, pixels of 640; the first ones
are wide, because poses may be off by degrees.
"""

ROBUST_SHARE = 0.25
"""Share of the largest distance at which the robust cost starts to grow slower than a square."""

MIN_EDGE = 30
"""Fewest matches of a pair of images that determine its relative rotation."""

EDGE_PX = 1.0
"""Largest distance of a match from the epipolar line of its relative pose, pixels."""

HELD_PX = 1.0
"""Error of a held-out match, pixels of 640, beyond which its cost grows slower than a square."""

RESAMPLES = 1000
SURE = 0.025
"""A refined result may fail to be better in at most this share of the resamples of the pairs of images."""

MIN_GAIN = 0.01
"""Least relative reduction of the cost of held-out matches."""

MIN_LIKENESS = 0.5
"""Scale of the alignment with given positions over the ratio of the spreads, below which the given positions have
another form, and the spreads alone give the scale.
"""

MORE = 3
"""Most repetitions of the adjustment of a camera that is far off."""

STEPS, FEW_STEPS = 20, 8
"""Most steps of the last adjustments, and of those before them."""

FEW_POINTS = 300
"""Points of each image that are enough before the last adjustments."""

MAX_UNEXPLAINED = 0.1
"""Share of held-out matches farther than EXPLAINED_PX, above which the poses are also started from pairs of images."""

EXPLAINED_PX = 2.0

MIN_FIT = 0.4
"""An image whose features fit their points by less than this share is placed again by the points of other images."""

MIN_PLACED = 12
"""Fewest points, or matches, that place an image again."""

MAX_EXCHANGED = 0.34
"""Largest share of the images whose poses are exchanged one by one."""

PLACE_PX, PLACE_TRIES = 6.0, 300
"""Largest distance of these points from their features, pixels of 640, and number of random samples of them."""

MAX_CAMERAS = 0.34
"""Most cameras, over the number of images, that change by themselves."""

MAX_FOCAL_DEVIATION = 0.02
"""Largest relative standard deviation of a focal length that is adjusted."""

LEVELS = ("center", "aspect", "lens")
"""Parameters of cameras, keys of FREE, that are tried next to the focal length."""

MIN_GAIN_ALONE, MIN_SHARE_ALONE = 0.05, 0.8
"""Least relative reduction of the cost of held-out matches by cameras alone, and its least share of the reduction by
poses and cameras, if the given poses count as right.
"""

TRIED_POINTS, MIN_TRIED_SHARE = 60, 0.2
"""Points of each image with which cameras alone are tried, and least share of the reduction by poses for more."""

MAX_SHIFT_ALONE = 0.1
"""Largest change of a principal point by cameras alone, over the longer side of the images: a larger one is rather a
path beside the direction of motion.
"""

MAX_SKEWED = 0.005
"""Largest logarithm of the root of fy over fx with which pixels count as square."""

CLAIM, CLEAR = 3.0, 8.0
"""A parameter of a camera changes if it differs by at least CLAIM standard deviations, and held-out matches fit surely
better; beyond CLEAR, if they fit better.
"""


@dataclass(frozen=True, slots=True)
class HeldOutGain:
    """How the errors of held-out matches changed.

    before_px, after_px: median errors, pixels of images whose longer side is 640.
    gain: relative reduction of the robust cost.
    low: the reduction that SURE of the resamples do not reach.
    count: number of matches.
    """

    before_px: float
    after_px: float
    gain: float
    low: float
    count: int

    def is_sure(self, min_gain: float = MIN_GAIN) -> bool:
        """Return whether the matches fit better by more than their scatter, and by at least `min_gain`."""
        return self.low > 0 and self.gain >= min_gain


@dataclass(frozen=True, slots=True, eq=False)
class AdjustedCamera:
    """What matches make of the camera of some images.

    Each parameter is that of an adjustment in which it is free together with the focal length. Deviations are infinite
    where the images leave a parameter open.

    rows: rows of its images among the posed ones.
    focal_factor: adjusted over given focal length.
    focal_deviation: its relative standard deviation.
    shift_px: (2,) adjusted minus given principal point, pixels of the images as they are.
    shift_deviation_px: (2,) its standard deviations.
    aspect_factor: adjusted over given ratio of fy to fx.
    aspect_deviation: its relative standard deviation.
    bend: adjusted minus given coefficient k1 of the lens.
    bend_deviation: its standard deviation.
    """

    rows: NDArray[np.intp]
    focal_factor: float
    focal_deviation: float
    shift_px: Array
    shift_deviation_px: Array
    aspect_factor: float
    aspect_deviation: float
    bend: float
    bend_deviation: float

    def is_claimed(self, name: str, deviations: float) -> bool:
        """Return whether a parameter, a key of FREE, differs by some of its standard deviations."""
        if name == "focal":
            sizes = abs(np.log(self.focal_factor)) / self.focal_deviation
            return bool(self.focal_deviation < MAX_FOCAL_DEVIATION and sizes > deviations)
        if name == "center":
            return bool((np.abs(self.shift_px) > deviations * self.shift_deviation_px).any())
        if name == "aspect":
            return bool(abs(np.log(self.aspect_factor)) > deviations * self.aspect_deviation)
        return bool(abs(self.bend) > deviations * self.bend_deviation)

    def take(self, name: str, other: AdjustedCamera) -> AdjustedCamera:
        """Return the camera with a parameter, a key of FREE, of another adjustment."""
        fields = {
            "focal": ("focal_factor", "focal_deviation"),
            "center": ("shift_px", "shift_deviation_px"),
            "aspect": ("aspect_factor", "aspect_deviation"),
            "lens": ("bend", "bend_deviation"),
        }[name]
        return replace(self, **{field: getattr(other, field) for field in fields})


@dataclass(frozen=True, slots=True, eq=False)
class AdjustedPoses:
    """Poses and cameras after the adjustment to matches, next to the given ones.

    given: the images with the given poses and cameras.
    posed: the same images with the adjusted ones, in the world and scale of the given ones.
    cameras: what is measured of the cameras; those parameters whose change held-out matches confirm are in `posed`.
    covariances: of the adjusted poses of each part that matches join, the largest first.
    sparse: points triangulated from the adjusted poses, in the virtual camera of `view_matches`.
    gain: how held-out matches fit before and after.
    unexplained: share of the held-out matches that the adjusted poses do not explain, 0 to 1.
    has_converged: whether the adjustment of the given poses explains the matches; else other poses were the start.
    ends: (P, 2) rows of the images of each pair with held-out matches.
    held_before, held_of_poses, held_after: errors of the held-out matches of these pairs, as `compare_held_out` takes
        them: as given, with adjusted poses and the given cameras, and with adjusted ones.
    """

    given: PosedImages
    posed: PosedImages
    cameras: tuple[AdjustedCamera, ...]
    covariances: tuple[PoseCovariance, ...]
    sparse: SparseMap
    gain: HeldOutGain
    unexplained: float
    has_converged: bool
    ends: NDArray[np.intp]
    held_before: list[tuple[Array, Array]]
    held_of_poses: list[tuple[Array, Array]]
    held_after: list[tuple[Array, Array]]

    def compare_images(self, rows: NDArray[np.intp] | int) -> HeldOutGain:
        """Return how the held-out matches of some images, by their rows, fit before and after."""
        at = _find_pairs(self.ends, np.atleast_1d(rows))
        return compare_held_out([self.held_before[k] for k in at], [self.held_after[k] for k in at])

    def compare_cameras(self, rows: NDArray[np.intp]) -> HeldOutGain:
        """Return how the held-out matches of some images fit adjusted poses with the given and the adjusted cameras."""
        at = _find_pairs(self.ends, rows)
        return compare_held_out([self.held_of_poses[k] for k in at], [self.held_after[k] for k in at])


@dataclass(slots=True, eq=False)
class _Candidate:
    """Poses and cameras that are compared by held-out matches.

    posed: the images.
    view: the matches in the virtual camera of `posed`.
    sparse: points triangulated from the poses.
    held: errors of held-out matches of each pair: epipolar distances, and distances from points, NaN without a point.
    """

    posed: PosedImages
    view: VirtualView
    sparse: SparseMap
    held: list[tuple[Array, Array]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _FoundCameras:
    """What matches make of cameras so far.

    best: the poses and cameras that held-out matches confirm.
    longer: the same with a free focal length.
    cameras: what is measured of each camera.
    free: parameters that are free in `best`, keys of FREE.
    left: parameters that are still to be tried.
    others: adjustments that matches ask for, but held-out matches do not confirm.
    """

    best: _Candidate
    longer: _Candidate
    cameras: list[AdjustedCamera]
    free: tuple[str, ...]
    left: list[str]
    others: list[_Candidate]


def _judge(posed: PosedImages, matches: ImageMatches) -> _Candidate:
    view = view_matches(posed, matches)
    sparse, of_feature = triangulate_features(view)
    at, starts = _find_held(view)
    of_640 = MAX_SIDE_PX / max(view.camera.width, view.camera.height)
    measured = [of_640 * errors for errors in measure_matches(view, sparse.points, of_feature, at)]
    held = [(line, point) for line, point in zip(*(np.split(errors, starts) for errors in measured), strict=True)]
    return _Candidate(posed, view, sparse, held if len(at) else [])


def _find_held(view: VirtualView) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the held-out matches (K,), and where those of another pair of images start."""
    at = np.flatnonzero(view.features.is_held)
    return at, np.flatnonzero(np.diff(view.features.pairs[at])) + 1


def _list_ends(view: VirtualView) -> NDArray[np.intp]:
    """Return the rows (P, 2) of the images of the pairs with held-out matches."""
    return view.features.images[np.unique(view.features.pairs[_find_held(view)[0]])]


def compare_held_out(
    before: Sequence[tuple[Array, Array]], after: Sequence[tuple[Array, Array]], resamples: int = RESAMPLES
) -> HeldOutGain:
    """Compare the errors of held-out matches, and measure their scatter by resampling the pairs of images.

    A match is compared by its distance from a triangulated point if it has one before and after, else by its distance
    from the epipolar line. Matches that a lens leaves out, before or after, do not count.

    before, after: for each pair of images, epipolar distances (N,) and distances from points (N,), pixels.
    resamples: number of resamples of the pairs.
    """
    medians, costs = list[tuple[Array, Array]](), list[tuple[float, float]]()
    for (line, point), (line_after, point_after) in zip(before, after, strict=True):
        is_known = np.isfinite(point) & np.isfinite(point_after)
        seen = np.isfinite(line) & np.isfinite(line_after)
        errors = np.where(is_known, point, line)[seen], np.where(is_known, point_after, line_after)[seen]
        medians.append(errors)
        first, second = (float(np.log1p((error / HELD_PX) ** 2).sum()) for error in errors)
        costs.append((first, second))
    count = sum(len(first) for first, _ in medians)
    if not count:
        return HeldOutGain(float("nan"), float("nan"), 0.0, 0.0, 0)
    before_px, after_px = (float(np.median(np.concatenate(side))) for side in zip(*medians, strict=True))
    sums = np.array(costs)
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), resamples) @ sums
    gains = 1 - drawn[:, 1] / np.maximum(drawn[:, 0], 1e-12)
    total = sums.sum(0)
    return HeldOutGain(
        before_px, after_px, float(1 - total[1] / max(total[0], 1e-12)), float(np.quantile(gains, SURE)), count
    )


# -- bundle adjustment


def _group_cameras(posed: PosedImages) -> NDArray[np.intp]:
    """Return the number of the camera of each image; images with the same intrinsics share one.

    If nearly every image has its own, all of them share the changes of one.
    """
    described = np.column_stack((posed.K.reshape(len(posed.K), -1), posed.distortion, posed.sizes))
    groups = np.asarray(np.unique(described, axis=0, return_inverse=True)[1].ravel(), np.intp)
    return groups if groups.max() + 1 <= len(groups) * MAX_CAMERAS else np.zeros_like(groups)


def _build_model(candidate: _Candidate, sparse: SparseMap, free: str = "focal") -> Any:
    """Return a pycolmap.Reconstruction: image and camera ids count from 1, in the order of the posed images.

    free: the parameter of FREE that its cameras have apart from the focal length.
    """
    camera, groups = candidate.view.camera, _group_cameras(candidate.posed)
    focal, center = [camera.focal_px], [camera.center_px[0] + 0.5, camera.center_px[1] + 0.5]
    name, params = {
        "aspect": ("PINHOLE", [*focal, *focal, *center]),
        "lens": ("SIMPLE_RADIAL", [*focal, *center, 0.0]),
    }.get(free, ("SIMPLE_PINHOLE", [*focal, *center]))
    size = {"width": camera.width, "height": camera.height}
    cameras = [
        import_pycolmap().Camera(camera_id=number + 1, model=name, params=params, **size) for number in groups.tolist()
    ]
    return build_model(replace(sparse, T_camera_world=candidate.posed.T_camera_world), cameras)


def _read_poses(model: Any, count: int) -> Array:
    """Return the poses (count, 4, 4) of the images; NaN for images that pycolmap left out."""
    T = np.tile(np.eye(4), (count, 1, 1))
    for row in range(count):
        image = model.images[row + 1]
        T[row, :3] = image.cam_from_world().matrix() if image.has_pose else np.nan
    return T


def keep_world(T: Array, T_given: Array, parts: Sequence[NDArray[np.intp]]) -> Array:
    """Move the poses of each part by a similarity into the world of the given poses; images of no part get the given
    ones.

    T, T_given: (F, 4, 4) world-to-camera poses.
    parts: rows of each part.
    """
    moved, centers, given = T_given.copy(), _find_centers(T), _find_centers(T_given)
    for part in parts:
        scale, R, _ = align_cameras(T[part], T_given[part])
        before, after = (float(np.linalg.norm(places[part] - places[part].mean(0))) for places in (given, centers))
        spread = before / max(after, 1e-12)
        scale = scale if scale > MIN_LIKENESS * spread else spread
        t = given[part].mean(0) - scale * R @ centers[part].mean(0)
        moved[part, :3, :3] = T[part, :3, :3] @ R.T
        moved[part, :3, 3] = scale * T[part, :3, 3] - np.einsum("fij,j->fi", moved[part, :3, :3], t)
    return moved


def _adjust(
    candidate: _Candidate,
    matches: ImageMatches,
    miss_px: float,
    threads: int,
    free: Sequence[str] = (),
    steps: int = FEW_STEPS,
    *,
    refine_poses: bool = True,
    count: int = FEW_POINTS,
) -> _Candidate:
    """Triangulate matches within `miss_px` of their points, and adjust poses, points and the `free` parameters.

    Fewer than STEPS steps adjust a choice of the points alone, `count` of each image.
    """
    sparse = triangulate_view(candidate.view, miss_px)
    if steps < STEPS:
        sparse = choose_points(sparse, count)
    parts, posed = find_parts(sparse), candidate.posed
    if not parts:
        return candidate
    model = _build_model(candidate, sparse, free[-1] if free else "focal")
    robust_px = ROBUST_SHARE * miss_px
    adjust(
        model,
        refine_focal="focal" in free,
        refine_center="center" in free,
        refine_lens="lens" in free,
        refine_poses=refine_poses,
        robust_px=robust_px,
        iterations=steps,
        threads=threads,
    )
    T = posed.T_camera_world
    if refine_poses:
        T = keep_world(_read_poses(model, len(posed.images)), T, parts)
    if not free:
        return _replace_poses(candidate, T)
    groups, virtual = _group_cameras(posed), candidate.view.camera
    cameras = [model.cameras[number + 1] for number in range(int(groups.max()) + 1)]
    factors = np.array([(camera.focal_length_x, camera.focal_length_y) for camera in cameras]) / virtual.focal_px
    centers = np.array([(camera.principal_point_x, camera.principal_point_y) for camera in cameras])
    shifts = (centers - 0.5 - virtual.center_px)[groups] * posed.K[:, (0, 1), (0, 1)] / virtual.focal_px
    bends = np.array([camera.params[-1] if "lens" in free else 0.0 for camera in cameras])
    changed = replace(change_cameras(posed, factors[groups], shifts, bends[groups]), T_camera_world=T)
    return _Candidate(changed, view_matches(changed, matches), candidate.sparse)


def choose_points(sparse: SparseMap, count: int) -> SparseMap:
    """Reduce a map to points that many images see, so that each image keeps at least `count` of its points."""
    lengths = np.bincount(sparse.observed[:, 1], minlength=len(sparse.points))
    order = np.argsort(sparse.observed[:, 1], kind="stable")
    images = np.split(sparse.observed[order, 0], np.cumsum(lengths)[:-1])
    seen, is_kept = np.zeros(len(sparse.frames), int), np.zeros(len(lengths), bool)
    for point in np.argsort(-lengths, kind="stable"):
        if (seen[images[point]] < count).any():
            seen[images[point]] += 1
            is_kept[point] = True
    return select_observations(sparse, is_kept[sparse.observed[:, 1]])


def _place_again(candidate: _Candidate, miss_px: float) -> _Candidate:
    """Place images whose features miss their points by the points of other images (two exchanged images, say)."""
    view, T = candidate.view, candidate.posed.T_camera_world.copy()
    frame, xy, track, _ = view.list_tracks()
    points, kept = triangulate_tracks(T, view.camera, frame, xy, track, miss_px)
    is_known = np.bincount(track[kept], minlength=len(points)) >= 2
    usable = is_known[track]
    count = np.bincount(frame[usable], minlength=len(T))
    fits = np.bincount(frame[usable & kept], minlength=len(T)) / np.maximum(count, 1)
    rays = (xy - view.camera.center_px) / view.camera.focal_px
    for row in np.flatnonzero((fits < MIN_FIT) & (count >= MIN_PLACED)):
        at = np.flatnonzero(usable & ~kept & (frame == row))
        if len(at) < MIN_PLACED:
            continue
        cv2.setRNGSeed(0)
        unit = float(np.median(np.abs(points[track[at]] - np.median(points[track[at]], 0)))) or 1.0
        middle = np.median(points[track[at]], 0)
        found, turn, t, fitting = cv2.solvePnPRansac(
            (points[track[at]] - middle) / unit,
            rays[at],
            np.eye(3),
            None,
            iterationsCount=PLACE_TRIES,
            reprojectionError=PLACE_PX / view.camera.focal_px,
            confidence=0.999,
            flags=cv2.SOLVEPNP_EPNP,
        )
        if found and fitting is not None and len(fitting) >= max(MIN_PLACED, fits[row] * count[row]):
            T[row, :3, :3] = cv2.Rodrigues(turn)[0]
            T[row, :3, 3] = t[:, 0] * unit - T[row, :3, :3] @ middle
    return _replace_poses(candidate, T)


def _exchange_poses(given: _Candidate) -> _Candidate:
    """Give an image that contradicts its pose the given pose of another image, if its matches fit that one.

    Points do not place an exchanged image that shares few of them with two others.
    """
    view, T = given.view, given.posed.T_camera_world
    from_world, K = invert_pose(T), view.camera.K
    pairs = [(*view.find_rows(pair).tolist(), pair.xy_first, pair.xy_second) for pair in view.list_pairs()]
    count, fits = np.zeros(len(T), int), np.zeros(len(T), int)
    for first, second, xy_first, xy_second in pairs:
        errors_px = epipolar_distance_px(xy_first, xy_second, K, K, T[second] @ from_world[first])
        count[[first, second]] += len(errors_px)
        fits[[first, second]] += int((errors_px < MISSES_PX[0]).sum())
    wrong = (fits < MIN_FIT * count) & (count >= MIN_PLACED)
    if not 2 <= wrong.sum() <= MAX_EXCHANGED * len(T):
        return given
    moved = T.copy()
    for row in np.flatnonzero(wrong):
        seen, fitting = np.zeros(len(T), int), np.zeros(len(T), int)
        for first, second, xy_first, xy_second in pairs:
            other = first if second == row else second
            if row not in (first, second) or wrong[other]:
                continue
            tried = T[wrong] @ from_world[other]
            xy = (xy_first, xy_second) if second == row else (xy_second, xy_first)
            seen[wrong] += len(xy_first)
            fitting[wrong] += (epipolar_distance_px(*xy, K, K, tried) < MISSES_PX[0]).sum(1)
        best = int(fitting.argmax())
        if fitting[best] >= max(MIN_PLACED, (1 - MIN_FIT) * seen[best]):
            moved[row] = T[best]
    return _replace_poses(given, moved)


def _converge(start: _Candidate, matches: ImageMatches, threads: int) -> _Candidate:
    """Triangulate and adjust several times, with ever smaller thresholds."""
    start = _place_again(start, MISSES_PX[0])
    for miss_px in MISSES_PX:
        start = _place_again(_adjust(start, matches, miss_px, threads), miss_px)
    return _judge(start.posed, matches)


def _search(given: _Candidate, matches: ImageMatches, focal_factor: float, threads: int) -> tuple[_Candidate, bool]:
    """Return adjusted poses from the start that explains held-out matches best, and whether it is the given one.

    The starts are the given poses, then the same with other focal lengths (`_list_focals`), then those of
    `_list_starts`.
    """
    best = _converge(_exchange_poses(given), matches, threads)
    has_converged = True
    if _measure_unexplained(best) < MAX_UNEXPLAINED:
        return best, has_converged
    scaled = [_judge(change_cameras(given.posed, factors), matches) for factors in _list_focals(given, focal_factor)]
    starts = chain(scaled, *(_list_starts(start, threads) for start in (given, *scaled)))
    for start in starts:
        tried = _converge(start, matches, threads)
        if compare_held_out(best.held, tried.held).gain > 0:
            best, has_converged = tried, start in scaled
        if _measure_unexplained(best) < MAX_UNEXPLAINED:
            break
    return best, has_converged


def _list_focals(given: _Candidate, focal_factor: float) -> Iterator[Array]:
    """Yield factors (F, 2) on the given focal lengths to start with: `focal_factor`, and those of square pixels."""
    ones = np.ones((len(given.posed.images), 2))
    if focal_factor != 1:
        yield focal_factor * ones
    roots = np.sqrt(given.posed.K[:, 1, 1] / given.posed.K[:, 0, 0])
    if np.abs(np.log(roots)).max() > MAX_SKEWED:
        yield focal_factor * np.column_stack((roots, 1 / roots))


def _finish(start: _Candidate, matches: ImageMatches, threads: int, free: Sequence[str] = ()) -> _Candidate:
    if free:
        start = _adjust(start, matches, MAX_MISS_PX, threads, free)
    return _judge(_adjust(start, matches, MAX_ERROR_PX, threads, free, STEPS).posed, matches)


def change_cameras(
    posed: PosedImages, factors: Array, shifts_px: Array | float = 0.0, bends: Array | float = 0.0
) -> PosedImages:
    """Return the images with other cameras.

    factors: (F, 2) factors on the focal lengths.
    shifts_px: (F, 2) changes of the principal points.
    bends: (F,) coefficients k of a lens before their own.
    """
    K, distortion = posed.K.copy(), posed.distortion.astype(np.float64)
    K[:, (0, 1), (0, 1)] *= factors
    K[:, :2, 2] += shifts_px
    # (r + k r^3)(1 + k1 (r + k r^3)^2 / r^2 + ...) has k1 + k at r^3; repeated adjustments take away the rest
    distortion[:, 0] += bends
    return replace(posed, K=K, distortion=distortion)


def _find_centers(T: Array) -> Array:
    return np.asarray(invert_pose(T)[:, :3, 3])


def _replace_poses(candidate: _Candidate, T: Array) -> _Candidate:
    posed = replace(candidate.posed, T_camera_world=T)
    return _Candidate(posed, replace(candidate.view, posed=posed), candidate.sparse)


# -- start without the given poses


def _list_starts(candidate: _Candidate, threads: int) -> Iterator[_Candidate]:
    """Yield poses to start from: the given positions with rotations averaged over pairs of images, and poses that use
    no given position.
    """
    pycolmap = import_pycolmap()
    view, count = candidate.view, len(candidate.posed.images)
    frame, xy, track, _ = view.list_tracks()
    first = np.unique(np.column_stack((track, frame)), axis=0, return_index=True)[1]  # one feature of an image a track
    first = first[(np.bincount(track[first]) >= 2)[track[first]]]
    tracks = np.unique(track[first], return_inverse=True)[1].ravel()
    observed = np.column_stack((frame[first], tracks)).astype(np.int64)
    points = np.random.default_rng(0).normal(size=(int(tracks.max(initial=-1)) + 1, 3))
    every = replace(candidate.sparse, points=points, observed=observed, xy=xy[first], colors=np.zeros((0, 3), np.uint8))
    model, graph = _build_model(candidate, every), pycolmap.PoseGraph()
    for pair in view.list_pairs():
        kept = ~pair.is_held
        if kept.sum() < MIN_EDGE:
            continue
        start, end = (int(row) for row in view.find_rows(pair))
        found = _find_relative_pose(view, pair.xy_first[kept], pair.xy_second[kept])
        if found is not None:
            edge = pycolmap.PoseGraphEdge(cam2_from_cam1=pycolmap.Rigid3d(found[0]), num_matches=found[1])
            graph.add_edge(start + 1, end + 1, edge)
    rotating = pycolmap.RotationEstimatorOptions()
    rotating.random_seed, rotating.skip_initialization = 0, True
    if not graph.num_edges or not pycolmap.run_rotation_averaging(rotating, graph, model, []):
        return
    yield _replace_poses(candidate, keep_positions(_read_poses(model, count), candidate.posed.T_camera_world))
    positioning = pycolmap.GlobalPositionerOptions()
    positioning.random_seed, positioning.use_gpu, positioning.generate_random_positions = 0, False, True
    positioning.min_num_view_per_track = 2 if count < 2 * MIN_SEEN else 3
    if not pycolmap.run_global_positioning(positioning, graph, model):
        return
    T = _read_poses(model, count)
    placed = [part[np.isfinite(T[part]).all((1, 2))] for part in find_parts(every)]
    placed = [part for part in placed if len(part) >= MIN_PART]
    yield _replace_poses(candidate, keep_world(T, candidate.posed.T_camera_world, placed))


def keep_positions(T: Array, T_given: Array) -> Array:
    """Return poses with the rotations of `T`, turned as a whole as the given ones are, and the given positions.

    T, T_given: (F, 4, 4) world-to-camera poses; the given ones stay where T is NaN.
    """
    moved, known = T_given.copy(), np.isfinite(T[:, :3, :3]).all((1, 2))
    moved[known, :3, :3] = T[known, :3, :3]
    moved[known, :3, :3] @= align_cameras(moved[known], T_given[known])[1].T
    moved[:, :3, 3] = -np.einsum("fij,fj->fi", moved[:, :3, :3], _find_centers(T_given))
    return moved


def _find_relative_pose(view: VirtualView, first: Array, second: Array) -> tuple[Array, int] | None:
    """Return the pose (3, 4) of the second camera in the first one, and the number of matches that fit."""
    cv2.setRNGSeed(0)
    E, fits = cv2.findEssentialMat(first, second, view.camera.K, cv2.RANSAC, 0.999, EDGE_PX)
    if E is None or E.shape != (3, 3):
        return None
    number, R, t, _ = cv2.recoverPose(E, first, second, view.camera.K, mask=fits.copy())
    return (np.column_stack((R, t)), int(fits.sum())) if number >= MIN_EDGE // 2 else None


# -- the whole


STAGES = 4


def adjust_poses(
    reconstruction: Reconstruction | PosedImages,
    matches: ImageMatches,
    *,
    focal_factor: float = 1.0,
    track: TrackProgress = no_progress,
    threads: int | None = None,
) -> AdjustedPoses:
    """Adjust a reconstruction to the matches between its images that are not held out.

    A focal length or a principal point is only changed if it differs by CLAIM standard deviations, and held-out matches
    fit better by more than their scatter.

    reconstruction: cameras and poses, or the images that have them.
    matches: independent matches.
    focal_factor: factor on the given focal lengths with which the adjustment starts.
    track: shows progress.
    threads: number of threads; None takes one for each processor.

    Raises DataError if fewer than 3 images have a pose, or the reconstruction has no camera.
    """
    threads = threads or os.cpu_count() or 1
    steps = iter(track(range(STAGES), STAGES, "adjusting"))
    next(steps, None)
    posed = pose_images(reconstruction, matches) if isinstance(reconstruction, Reconstruction) else reconstruction
    given = _judge(posed, matches)
    near, has_converged = _search(given, matches, focal_factor, threads)
    next(steps, None)
    longer = _finish(near, matches, threads, ("focal",))
    next(steps, None)
    if not np.array_equal(near.posed.K, posed.K):  # the focal length of the start counts only if matches confirm it
        near = _converge(_judge(replace(posed, T_camera_world=longer.posed.T_camera_world), matches), matches, threads)
    of_given = _finish(near, matches, threads)
    found = _try_cameras(given, of_given, longer, matches, threads)
    next(steps, None)
    found = _try_more_parameters(given, found, matches, threads)
    for _ in steps:
        pass
    best = found.best
    sparse = triangulate_view(best.view, MAX_ERROR_PX)
    covariances = measure_covariances(sparse, _group_cameras(posed), found.free)
    widened = [_widen(part, best, found.others) for part in covariances]
    return AdjustedPoses(
        given=posed,
        posed=best.posed,
        cameras=tuple(found.cameras),
        covariances=tuple(sorted(widened, key=lambda part: -len(part.rows))),
        sparse=sparse,
        gain=compare_held_out(given.held, best.held),
        unexplained=_measure_unexplained(best),
        has_converged=has_converged,
        ends=_list_ends(given.view),
        held_before=given.held,
        held_of_poses=of_given.held,
        held_after=best.held,
    )


def _try_cameras(
    given: _Candidate, of_given: _Candidate, longer: _Candidate, matches: ImageMatches, threads: int
) -> _FoundCameras:
    """Try cameras alone, and else another focal length.

    of_given: adjusted poses with the given cameras.
    longer: adjusted poses with a free focal length.
    """
    left = [name for name in LEVELS if name != "lens" or given.posed.lenses is None]
    alone = _adjust_cameras(given, of_given, matches, ["focal", *left], threads)
    if alone is not None:
        best, changed, of_changed = alone
        with_focal = best if "focal" in changed else _finish(best, matches, threads, ("focal",))
        cameras = _measure_cameras(given, with_focal, ("focal",))
        for name in changed:
            cameras = _take_parameter(cameras, name, of_changed)
        return _FoundCameras(best, best, cameras, (), [name for name in left if name not in changed], [])
    cameras = _measure_cameras(given, longer, ("focal",))
    if not any(camera.is_claimed("focal", CLAIM) for camera in cameras):
        return _FoundCameras(of_given, longer, cameras, (), left, [])
    if _is_confirmed(cameras, "focal", of_given, longer):
        return _FoundCameras(longer, longer, cameras, ("focal",), left, [])
    return _FoundCameras(of_given, longer, cameras, (), left, [longer])


def _try_more_parameters(given: _Candidate, found: _FoundCameras, matches: ImageMatches, threads: int) -> _FoundCameras:
    """Free one parameter of the cameras after the other, the one that explains held-out matches best first."""
    while found.left:
        cameras, others, confirmed = found.cameras, list(found.others), list[tuple[float, str, _Candidate]]()
        for name in found.left:
            candidate = _adjust(found.longer, matches, MAX_ERROR_PX, threads, ("focal", name))
            if name == "aspect" and _measure_skew(candidate.posed) > _measure_skew(given.posed) + MAX_SKEWED:
                continue  # sensors have square pixels; poses and scenes of few views can make up for other ones
            candidate = _judge(candidate.posed, matches)
            measured = _measure_cameras(given, candidate, ("focal", name), FEW_POINTS)
            cameras = _take_parameter(cameras, name, measured)
            if any(camera.is_claimed(name, CLAIM) for camera in measured):
                others.append(candidate)
                if _is_confirmed(measured, name, found.best, candidate):
                    gain = compare_held_out(found.best.held, candidate.held).gain
                    confirmed.append((gain, name, candidate))
        if not confirmed:
            return replace(found, cameras=cameras, others=others)
        _, name, best = max(confirmed, key=lambda one: one[0])
        for number in range(MORE + 1):
            again = _finish(best, matches, threads, ("focal", name))
            if number and compare_held_out(best.held, again.held).gain < MIN_GAIN:
                break
            best = again
        measured = _measure_cameras(given, best, ("focal", name))
        cameras = _take_parameter(_take_parameter(cameras, "focal", measured), name, measured)
        left = [other for other in found.left if other != name]
        found = _FoundCameras(best, best, cameras, ("focal", name), left, [])
    return found


def _take_parameter(
    cameras: Sequence[AdjustedCamera], name: str, others: Sequence[AdjustedCamera]
) -> list[AdjustedCamera]:
    """Return cameras with a parameter, a key of FREE, of the same cameras in another adjustment."""
    return [camera.take(name, other) for camera, other in zip(cameras, others, strict=True)]


def _widen(part: PoseCovariance, best: _Candidate, others: Sequence[_Candidate]) -> PoseCovariance:
    """Add to a covariance how poses change with cameras that matches ask for, but held-out matches do not confirm.

    The true poses may lie anywhere between both.
    """
    of_poses, T = part.of_poses, best.posed.T_camera_world[part.rows]
    for other in others:
        moved = keep_world(other.posed.T_camera_world[part.rows], T, [np.arange(len(T))])
        turns = so3_log(moved[:, :3, :3] @ T[:, :3, :3].swapaxes(1, 2))
        change = np.concatenate((turns, _find_centers(moved) - _find_centers(T)), 1).ravel()
        of_poses = of_poses + np.outer(change, change) / 3  # the mean square of a uniform distribution
    return replace(part, of_poses=of_poses)


def measure_gain(
    before: PosedImages, after: PosedImages, matches: ImageMatches, rows: NDArray[np.intp] | None = None
) -> HeldOutGain:
    """Return how held-out matches fit two sets of poses and cameras of the same images.

    rows: rows of the images whose matches count; None for all.
    """
    first, second = _judge(before, matches), _judge(after, matches)
    ends = _list_ends(first.view)
    at = range(len(ends)) if rows is None else _find_pairs(ends, rows)
    return compare_held_out([first.held[k] for k in at], [second.held[k] for k in at])


def _adjust_cameras(
    given: _Candidate, best: _Candidate, matches: ImageMatches, names: Sequence[str], threads: int
) -> tuple[_Candidate, list[str], list[AdjustedCamera]] | None:
    """Adjust the cameras of given poses that count as right, and then the poses.

    A few parameters of a camera explain more cheaply than all poses what both explain as well.

    best: adjusted poses with the given cameras.
    names: parameters that are tried, keys of FREE.

    Returns the adjusted cameras and poses, the changed parameters, and what is measured of the cameras; None if
    cameras alone explain less than poses.
    """
    gain = compare_held_out(given.held, best.held)
    if not gain.is_sure(MIN_GAIN_ALONE):
        return None
    changed, now, left = list[str](), given, list(names)

    def try_camera(start: _Candidate, name: str, misses_px: Sequence[float], count: int) -> _Candidate:
        free = ("focal", name) if name == "aspect" else (name,)
        for miss_px in misses_px:
            start = _adjust(start, matches, miss_px, threads, free, refine_poses=False, count=count)
        return _judge(start.posed, matches)

    while left:
        tried = []
        for name in left:
            candidate = try_camera(now, name, MISSES_PX[:2], TRIED_POINTS)
            shifts_px = candidate.posed.K[:, :2, 2] - given.posed.K[:, :2, 2]
            if (np.abs(shifts_px).max(1) <= MAX_SHIFT_ALONE * given.posed.sizes.max(1)).all():
                tried.append((compare_held_out(now.held, candidate.held).gain, name, candidate))
        found, name, candidate = max(tried, key=lambda one: one[0], default=(0.0, "", now))
        if found < (MIN_GAIN_ALONE if changed else MIN_TRIED_SHARE * gain.gain):
            break
        candidate = try_camera(candidate, name, (*MISSES_PX[2:], MAX_ERROR_PX, MAX_ERROR_PX), FEW_POINTS)
        if not compare_held_out(now.held, candidate.held).is_sure(MIN_GAIN_ALONE):
            break
        now = candidate
        changed.append(name)
        left.remove(name)
    if not changed or compare_held_out(given.held, now.held).gain < MIN_SHARE_ALONE * gain.gain:
        return None
    after = _finish(now, matches, threads)
    if compare_held_out(after.held, best.held).is_sure():
        return None
    changed = [*changed, "focal"] if "aspect" in changed and "focal" not in changed else changed
    groups = _group_cameras(given.posed)
    deviations = measure_camera_deviations(triangulate_view(now.view, MAX_ERROR_PX), groups, changed)
    return after, changed, _describe_cameras(given, now, deviations)


def _measure_cameras(
    given: _Candidate, adjusted: _Candidate, free: Sequence[str], count: int = 0
) -> list[AdjustedCamera]:
    """Return what the adjustment makes of each camera; with a `count`, the adjustment of so many points an image."""
    groups = _group_cameras(given.posed)
    sparse = triangulate_view(adjusted.view, MAX_ERROR_PX)
    sparse = choose_points(sparse, count) if count else sparse
    deviations = np.full((int(groups.max()) + 1, PARAMETERS), np.inf)
    for part in measure_covariances(sparse, groups, free):
        found = np.sqrt(np.diagonal(part.of_cameras, axis1=1, axis2=2))
        deviations[part.cameras] = np.fmin(deviations[part.cameras], found)
    return _describe_cameras(given, adjusted, deviations)


def _describe_cameras(given: _Candidate, adjusted: _Candidate, deviations: Array) -> list[AdjustedCamera]:
    """Return how adjusted cameras differ from given ones, with the deviations (C, PARAMETERS) of their parameters."""
    groups, deviations = _group_cameras(given.posed), deviations.copy()
    if given.posed.lenses is not None:
        # a pinhole is fitted to undistorted pixels, whose focal length is not that of another lens
        own = np.array([lens is not None for lens in given.posed.lenses])
        deviations[np.unique(groups[own])] = np.inf
    cameras = []
    for number, (of_focal, *of_center, of_aspect, of_bend) in enumerate(deviations.tolist()):
        rows = np.flatnonzero(groups == number)
        (fx, fy), (fx_after, fy_after) = (one.posed.K[rows[0], (0, 1), (0, 1)] for one in (given, adjusted))
        shift_px = adjusted.posed.K[rows[0], :2, 2] - given.posed.K[rows[0], :2, 2]
        bend = float(adjusted.posed.distortion[rows[0], 0] - given.posed.distortion[rows[0], 0])
        focal_factor = float(np.sqrt(fx_after * fy_after / (fx * fy)))
        aspect_factor = float(fy_after / fx_after * fx / fy)
        of_shift = fx_after * np.array(of_center)
        cameras.append(
            AdjustedCamera(rows, focal_factor, of_focal, shift_px, of_shift, aspect_factor, of_aspect, bend, of_bend)
        )
    return cameras


def _measure_skew(posed: PosedImages) -> float:
    """Return how far pixels are from squares: the largest logarithm of fy over fx of the images, without its sign."""
    return float(np.abs(np.log(posed.K[:, 1, 1] / posed.K[:, 0, 0])).max())


def _is_confirmed(cameras: Sequence[AdjustedCamera], name: str, before: _Candidate, after: _Candidate) -> bool:
    """Return whether held-out matches of the images of a camera confirm a parameter of it that is claimed."""
    for camera in cameras:
        if camera.is_claimed(name, CLAIM):
            at = _find_pairs(_list_ends(before.view), camera.rows)
            gain = compare_held_out([before.held[k] for k in at], [after.held[k] for k in at])
            if gain.is_sure() or (gain.gain > 0 and camera.is_claimed(name, CLEAR)):
                return True
    return False


def _find_pairs(ends: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return which pairs (P, 2) of images have one of these rows."""
    return np.flatnonzero(np.isin(ends, rows).any(1))


def _measure_unexplained(candidate: _Candidate) -> float:
    errors = np.concatenate(
        [np.fmax(line, point)[np.isfinite(line)] for line, point in candidate.held] or [np.empty(0)]
    )
    return float((errors > EXPLAINED_PX).mean()) if len(errors) else 0.0
