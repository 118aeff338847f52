"""Refine the poses of another program by bundle adjustment with independent matches.

Poses start as given, or as the relative rotations of pairs of images give them, whichever explains matches better that
took no part. A result is kept only if these matches fit better by more than their scatter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.progress import TrackProgress, no_progress
from stadia.geometry.poses import invert_pose
from stadia.io.records.reconstruction import Reconstruction
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.map_evidence import measure_epipolar, measure_errors
from stadia.sfm.match_triangulation import (
    MAX_MISS_PX,
    PosedImages,
    VirtualView,
    join_tracks,
    pose_images,
    triangulate_view,
    view_matches,
)
from stadia.sfm.pose_deviations import (
    MIN_NOISE_PX,
    MIN_PART,
    MIN_SEEN,
    find_parts,
    measure_deviations,
    measure_noise_px,
)
from stadia.sfm.reconstruction import MAX_ERROR_PX, adjust, build_model
from stadia.sfm.sparse_map import Array, SparseMap, align_cameras, import_pycolmap

MISSES_PX = (16.0, 8.0, MAX_MISS_PX, MAX_ERROR_PX)
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

START_SHARE = 0.05
"""Standard deviation of given positions that is assumed at first, as a share of the path."""

HOPELESS = 0.3
"""Share of unexplained held-out matches above which nothing of the given positions is kept."""

MAX_BEND = 1.4
"""Largest deviation of given positions over the whole path, in that from image to image, with which poses that were
started from pairs of images are taken.
"""

MIN_LIKENESS = 0.5
"""Scale of the alignment with given positions over the ratio of the spreads, below which the given positions have
another form, and the spreads alone give the scale.
"""

MIN_FOCAL_GAIN = 0.1
"""The same for a change of focal lengths, which also takes up distortion that the cameras do not have."""

MAX_FOCAL_DEVIATION = 0.01
"""Largest relative standard deviation of a focal length that is refined."""

MIN_FOCAL_CHANGE = 3.0
"""Least change of a focal length that is refined, in its standard deviations."""

STEPS = 20
"""Most steps of the last adjustment; FEW_STEPS of those before it."""

FEW_STEPS = 8
MEDIAN_OF_STEPS = 2.175
"""Median length of the difference of two vectors whose three coordinates have a standard deviation of 1."""

MAX_UNEXPLAINED = 0.1
"""Share of held-out matches farther than EXPLAINED_PX, above which the poses are also started from pairs of images."""

EXPLAINED_PX = 2.0
MIN_PRIOR = 1e-5
"""Least deviation of given positions from refined ones that is assumed, as a share of the path."""


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
class RefinedReconstruction:
    """A refined result.

    reconstruction: cameras and poses, in the world and scale of the given ones; the given one if nothing was better.
    is_changed: whether poses were refined.
    gain: how held-out matches fit before and after.
    images: (F,) indices of the images with a pose.
    rows: (F,) their rows in `reconstruction`.
    deviations_deg: (F,) standard deviation of each rotation, degrees; NaN if matches do not determine the pose.
    deviations: (F,) standard deviation of each position as a share of the path; NaN likewise.
    moved_deg: (F,) how far each pose was turned, degrees.
    moved: (F,) how far each position was moved, as a share of the path.
    focal_factors: (F,) factor on the focal length; 1 if the motion does not determine it.
    sparse: points triangulated from the final poses, in the virtual camera of `view_matches`.
    notes: sentences for the user.
    """

    reconstruction: Reconstruction
    is_changed: bool
    gain: HeldOutGain
    images: NDArray[np.intp]
    rows: NDArray[np.intp]
    deviations_deg: Array
    deviations: Array
    moved_deg: Array
    moved: Array
    focal_factors: Array
    sparse: SparseMap
    notes: tuple[str, ...] = ()


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


def _judge(posed: PosedImages, matches: ImageMatches) -> _Candidate:
    view = view_matches(posed, matches)
    sparse, held = triangulate_view(view), list[tuple[Array, Array]]()
    for pair in view.pairs:
        at = pair.is_held
        if at.any():
            out = replace(pair, xy_first=pair.xy_first[at], xy_second=pair.xy_second[at], is_held=at[at])
            held.append((measure_epipolar(sparse, out), measure_errors(sparse, out)))
    return _Candidate(posed, view, sparse, held)


def compare_held_out(before: Sequence[tuple[Array, Array]], after: Sequence[tuple[Array, Array]]) -> HeldOutGain:
    """Compare the errors of held-out matches, and measure their scatter by resampling the pairs of images.

    A match is compared by its distance from a triangulated point if it has one before and after, else by its distance
    from the epipolar line.

    before, after: for each pair of images, epipolar distances (N,) and distances from points (N,), pixels.
    """
    medians, costs = list[tuple[Array, Array]](), list[tuple[float, float]]()
    for (line, point), (line_after, point_after) in zip(before, after, strict=True):
        is_known = np.isfinite(point) & np.isfinite(point_after)
        errors = np.where(is_known, point, line), np.where(is_known, point_after, line_after)
        medians.append(errors)
        first, second = (float(np.log1p((error / HELD_PX) ** 2).sum()) for error in errors)
        costs.append((first, second))
    count = sum(len(first) for first, _ in medians)
    if not count:
        return HeldOutGain(float("nan"), float("nan"), 0.0, 0.0, 0)
    before_px, after_px = (float(np.median(np.concatenate(side))) for side in zip(*medians, strict=True))
    sums = np.array(costs)
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES) @ sums
    gains = 1 - drawn[:, 1] / np.maximum(drawn[:, 0], 1e-12)
    total = sums.sum(0)
    return HeldOutGain(
        before_px, after_px, float(1 - total[1] / max(total[0], 1e-12)), float(np.quantile(gains, SURE)), count
    )


# -- bundle adjustment


def _group_cameras(posed: PosedImages) -> NDArray[np.intp]:
    """Return the number of the camera of each image; images with the same intrinsics share one."""
    described = np.column_stack((posed.K.reshape(len(posed.K), -1), posed.distortion, posed.sizes))
    return np.asarray(np.unique(described, axis=0, return_inverse=True)[1].ravel(), np.intp)


def _build_model(candidate: _Candidate, sparse: SparseMap) -> Any:
    """Return a pycolmap.Reconstruction: image and camera ids count from 1, in the order of the posed images."""
    camera, groups = candidate.view.camera, _group_cameras(candidate.posed)
    params = [camera.focal_px, camera.center_px[0] + 0.5, camera.center_px[1] + 0.5]
    size = {"width": camera.width, "height": camera.height}
    cameras = [
        import_pycolmap().Camera(camera_id=number + 1, model="SIMPLE_PINHOLE", params=params, **size)
        for number in groups.tolist()
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
    miss_px: float,
    threads: int,
    *,
    refine_focal: bool = False,
    positions: Array | None = None,
    deviation: float = 1.0,
) -> tuple[Any, Array]:
    """Triangulate matches within `miss_px` of their points, and adjust poses and points.

    positions: (F, 3) known positions.
    deviation: standard deviation of their coordinates over the standard deviation of a matched pixel.

    Returns pycolmap's model, and the poses (F, 4, 4) in the world of the candidate.
    """
    sparse = triangulate_view(candidate.view, miss_px)
    parts, before = find_parts(sparse), candidate.posed.T_camera_world
    model = _build_model(candidate, sparse)
    if parts:
        known = None if positions is None else {int(row) + 1: positions[row] for part in parts for row in part}
        adjust(
            model,
            refine_focal=refine_focal,
            refine_lens=False,
            robust_px=ROBUST_SHARE * miss_px,
            iterations=FEW_STEPS if miss_px > MAX_ERROR_PX else STEPS,
            threads=threads,
            positions=known,
            position_deviation=deviation,
        )
    return model, keep_world(_read_poses(model, len(before)), before, parts)


def measure_position_noise(T: Array, T_given: Array, parts: Sequence[NDArray[np.intp]]) -> float:
    """Measure how much given positions scatter about refined ones from image to image; slow drift does not count.

    T, T_given: (F, 4, 4) world-to-camera poses in one world.
    parts: rows of the images that matches join.

    Returns the standard deviation of a coordinate, at least MIN_PRIOR of the path.
    """
    off = _find_centers(T_given) - _find_centers(T)
    steps = np.concatenate([np.diff(off[part], axis=0) for part in parts])
    length = sum(_measure_path(_find_centers(T[part])) for part in parts)
    noise = float(np.median(np.linalg.norm(steps, axis=1))) / MEDIAN_OF_STEPS
    return max(noise, MIN_PRIOR * length, 1e-12)


def _adjust_near(
    given: _Candidate, start: _Candidate, matches: ImageMatches, deviation: float, threads: int
) -> _Candidate:
    """Triangulate and adjust several times, with ever smaller thresholds, and the given positions as observations.

    The given positions hold together what few matches join, and hold back the drift of a visual path.

    deviation: standard deviation of the coordinates of given positions.
    """
    positions = _find_centers(given.posed.T_camera_world)
    for miss_px in MISSES_PX:
        over = max(measure_noise_px(start.sparse), MIN_NOISE_PX) if miss_px <= MAX_ERROR_PX else 1.0
        T = _adjust(start, miss_px, threads, positions=positions, deviation=deviation / over)[1]
        start = _replace_poses(start, T)
    return _judge(start.posed, matches)


def _adjust_from(given: _Candidate, start: _Candidate, matches: ImageMatches, threads: int) -> _Candidate:
    """Adjust poses near the given positions, whose deviation is measured on the way."""
    T_given = given.posed.T_camera_world
    near = _adjust_near(given, start, matches, START_SHARE * _measure_path(_find_centers(T_given)), threads)
    if parts := find_parts(near.sparse):
        noise = measure_position_noise(near.posed.T_camera_world, T_given, parts)
        near = _adjust_near(given, near, matches, noise, threads)
    return near


def _adjust_free(
    start: _Candidate, matches: ImageMatches, threads: int, misses_px: Sequence[float] = MISSES_PX[-2:]
) -> _Candidate:
    """Triangulate and adjust several times without the given positions."""
    for miss_px in misses_px:
        start = _replace_poses(start, _adjust(start, miss_px, threads)[1])
    return _judge(start.posed, matches)


def _search(given: _Candidate, matches: ImageMatches, threads: int) -> _Candidate:
    """Return adjusted poses, from the start that explains held-out matches best."""
    best = given
    for start, holds_positions in _list_starts(given, threads):
        if holds_positions:
            tried = _adjust_from(given, start, matches, threads)
        else:
            tried = _adjust_free(start, matches, threads, MISSES_PX)
        is_first = best is given
        is_possible = is_first or _measure_unexplained(best) > HOPELESS or _is_path_alike(tried, given)
        if is_first or (is_possible and compare_held_out(best.held, tried.held).gain > 0):
            best = tried
        if _measure_unexplained(best) < MAX_UNEXPLAINED:
            break
    return best


def _adjust_focal(candidate: _Candidate, matches: ImageMatches, threads: int) -> tuple[_Candidate, Array] | None:
    """Adjust the focal length of each camera whose matches determine it.

    Returns the candidate and the factor of each image's focal length; None if no camera changes.
    """
    groups = _group_cameras(candidate.posed)
    model, T = _adjust(candidate, MAX_MISS_PX, threads, refine_focal=True)
    deviations = measure_deviations(candidate.sparse, groups)[2]
    found = np.array([model.cameras[number + 1].focal_length for number in range(len(deviations))])
    factors = found / candidate.view.camera.focal_px
    is_sure = (deviations < MAX_FOCAL_DEVIATION) & (np.abs(factors - 1) > MIN_FOCAL_CHANGE * deviations)
    factors = np.where(is_sure, factors, 1.0)[groups]
    if (factors == 1).all():
        return None
    start = _judge(replace(scale_focal(candidate.posed, factors), T_camera_world=T), matches)
    T = _adjust(start, MAX_ERROR_PX, threads)[1]
    return _judge(replace(start.posed, T_camera_world=T), matches), factors


def scale_focal(posed: PosedImages, factors: Array) -> PosedImages:
    """Return the images with focal lengths multiplied by `factors` (F,), and with distortion that bends pixels equally.

    The radius of a pixel at a focal length of 1 becomes smaller by the factor, so the coefficients grow by its powers.
    """
    K = posed.K.copy()
    K[:, (0, 1), (0, 1)] *= factors[:, None]
    return replace(posed, K=K, distortion=posed.distortion * factors[:, None] ** np.array([2.0, 4, 1, 1]))


def _find_centers(T: Array) -> Array:
    return np.asarray(invert_pose(T)[:, :3, 3])


def _measure_path(centers: Array) -> float:
    return float(np.linalg.norm(np.diff(centers, axis=0), axis=1).sum())


def _replace_poses(candidate: _Candidate, T: Array) -> _Candidate:
    posed = replace(candidate.posed, T_camera_world=T)
    return _Candidate(posed, replace(candidate.view, posed=posed), candidate.sparse)


# -- start without the given poses


def _is_path_alike(candidate: _Candidate, given: _Candidate) -> bool:
    """Return whether positions differ from the given ones no more over the whole path than from image to image.

    A path that breaks where few matches join the images differs far more over the whole path.
    """
    T, T_given, parts = candidate.posed.T_camera_world, given.posed.T_camera_world, find_parts(candidate.sparse)
    if not parts:
        return False
    off = np.concatenate([(_find_centers(T_given) - _find_centers(T))[part] for part in parts])
    off -= off.mean(0)
    noise = measure_position_noise(T, T_given, parts)
    return bool(np.sqrt((off**2).mean()) < MAX_BEND * noise)


def _list_starts(candidate: _Candidate, threads: int) -> Iterator[tuple[_Candidate, bool]]:
    """Yield poses to start from, and whether their positions are the given ones.

    These are the given poses, the given positions with rotations averaged over pairs of images, and poses that use no
    given position.
    """
    yield candidate, True
    pycolmap = import_pycolmap()
    view, count = candidate.view, len(candidate.posed.images)
    frame, xy, track = join_tracks(view)
    first = np.unique(np.column_stack((track, frame)), axis=0, return_index=True)[1]  # one feature of an image a track
    first = first[(np.bincount(track[first]) >= 2)[track[first]]]
    tracks = np.unique(track[first], return_inverse=True)[1].ravel()
    observed = np.column_stack((frame[first], tracks)).astype(np.int64)
    points = np.random.default_rng(0).normal(size=(int(tracks.max(initial=-1)) + 1, 3))
    every = replace(candidate.sparse, points=points, observed=observed, xy=xy[first], colors=np.zeros((0, 3), np.uint8))
    model, graph = _build_model(candidate, every), pycolmap.PoseGraph()
    for pair in view.pairs:
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
    yield _replace_poses(candidate, keep_positions(_read_poses(model, count), candidate.posed.T_camera_world)), True
    positioning = pycolmap.GlobalPositionerOptions()
    positioning.random_seed, positioning.use_gpu, positioning.generate_random_positions = 0, False, True
    positioning.min_num_view_per_track = 2 if count < 2 * MIN_SEEN else 3
    if not pycolmap.run_global_positioning(positioning, graph, model):
        return
    T = _read_poses(model, count)
    placed = [part[np.isfinite(T[part]).all((1, 2))] for part in find_parts(every)]
    placed = [part for part in placed if len(part) >= MIN_PART]
    yield _replace_poses(candidate, keep_world(T, candidate.posed.T_camera_world, placed)), False


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


def refine_poses(
    reconstruction: Reconstruction,
    matches: ImageMatches,
    *,
    track: TrackProgress = no_progress,
    threads: int | None = None,
) -> RefinedReconstruction:
    """Refine a reconstruction by matches between its images.

    A change is kept only if held-out matches fit better by more than their scatter; each further freedom (positions far
    from the given ones, focal lengths) must improve them once more.

    reconstruction: cameras and poses.
    matches: independent matches.
    track: shows progress.
    threads: number of threads; None takes one for each processor.

    Raises DataError if fewer than 3 images have a pose, or the reconstruction has no camera.
    """
    threads = threads or os.cpu_count() or 1
    steps = iter(track(range(STAGES), STAGES, "refining"))
    next(steps, None)
    given = best = _judge(pose_images(reconstruction, matches), matches)
    near = _search(given, matches, threads)
    next(steps, None)
    factors = np.ones(len(given.posed.images))
    for tried in (near, _adjust_free(near, matches, threads)):
        best = tried if compare_held_out(best.held, tried.held).is_sure() else best
    next(steps, None)
    found = _adjust_focal(best, matches, threads)
    if found is not None and compare_held_out(best.held, found[0].held).is_sure(MIN_FOCAL_GAIN):
        best, factors = found
    for _ in steps:
        pass
    return _make_result(reconstruction, given, best, factors)


STAGES = 3


def _measure_unexplained(candidate: _Candidate) -> float:
    lines = np.concatenate([np.fmax(line, point) for line, point in candidate.held] or [np.empty(0)])
    return float((lines > EXPLAINED_PX).mean()) if len(lines) else 0.0


def _make_result(
    reconstruction: Reconstruction, given: _Candidate, best: _Candidate, factors: Array
) -> RefinedReconstruction:
    posed, before = best.posed, given.posed
    is_changed = best is not given
    sparse = triangulate_view(best.view, MAX_ERROR_PX)
    degrees, positions, _ = measure_deviations(sparse)
    length = max(_measure_path(_find_centers(posed.T_camera_world)), 1e-12)
    turn = np.einsum("fij,fkj->fik", posed.T_camera_world[:, :3, :3], before.T_camera_world[:, :3, :3])
    angle = np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))
    off = _find_centers(posed.T_camera_world) - _find_centers(before.T_camera_world)
    result, rows = _insert_poses(reconstruction, posed, factors) if is_changed else (reconstruction, posed.rows)
    notes = [*reconstruction.notes, *posed.notes]
    if is_changed and (left := int(np.isnan(degrees).sum())):
        notes.append(f"{left} of {len(degrees)} images have too few matches, and keep their pose")
    if is_changed and len(result) > len(rows):
        notes.append(f"{len(result) - len(rows)} poses belong to images that were not matched, and are as before")
    return RefinedReconstruction(
        reconstruction=result,
        is_changed=is_changed,
        gain=compare_held_out(given.held, best.held),
        images=posed.images,
        rows=rows,
        deviations_deg=degrees,
        deviations=positions / length,
        moved_deg=np.rad2deg(angle),
        moved=np.linalg.norm(off, axis=1) / length,
        focal_factors=factors,
        sparse=sparse,
        notes=tuple(notes),
    )


def _insert_poses(
    reconstruction: Reconstruction, posed: PosedImages, factors: Array
) -> tuple[Reconstruction, NDArray[np.intp]]:
    """Return the reconstruction with new poses and focal lengths, and the row of each image.

    A trajectory whose poses were interpolated at the times of the images becomes one with these times.
    """
    rows = posed.rows
    changed = reconstruction
    if posed.how == "time":
        changed = replace(reconstruction.rows(rows), times_s=posed.times_s, times_ns=None)
        rows = np.arange(len(rows))
    T, K, distortion = changed.T_camera_world.copy(), changed.K.copy(), changed.distortion.copy()
    T[rows] = posed.T_camera_world
    K[rows[:, None], (0, 1), (0, 1)] *= factors[:, None]
    distortion[rows] *= factors[:, None] ** np.array([2.0, 4, 1, 1])
    return replace(changed, T_camera_world=T, K=K, distortion=distortion), rows
