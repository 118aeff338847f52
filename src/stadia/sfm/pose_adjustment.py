"""Adjust poses and cameras to the matches that are not held out, from the start that explains them best.

The starts are the given poses, those with exchanged images, and those that pairs of images give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import find_centers, invert_pose
from stadia.geometry.two_views import epipolar_distance_px
from stadia.sfm.held_out import Candidate, compare_held_out, judge_candidate, measure_unexplained, replace_poses
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.match_triangulation import (
    MAX_MISS_PX,
    PosedImages,
    VirtualView,
    triangulate_tracks,
    triangulate_view,
    view_matches,
)
from stadia.sfm.pose_deviations import MIN_PART, MIN_SEEN, find_parts, select_observations
from stadia.sfm.reconstruction import MAX_ERROR_PX, adjust, build_model
from stadia.sfm.sparse_map import Array, SparseMap, align_cameras, import_pycolmap

ROBUST_SHARE = 0.25
"""Share of the largest distance at which the robust cost starts to grow slower than a square."""

MIN_LIKENESS = 0.5
"""Scale of the alignment with given positions over the ratio of the spreads, below which the given positions have
another form, and the spreads alone give the scale.
"""

STEPS, FEW_STEPS = 20, 8
"""Most steps of the last adjustments, and of those before them."""

FEW_POINTS = 300
"""Points of each image that are enough before the last adjustments."""

MAX_CAMERAS = 0.34
"""Most cameras, over the number of images, that change by themselves."""

MISSES_PX = (16.0, 8.0, MAX_MISS_PX)
"""Largest distances of a match from its triangulated point in successive adjustments, pixels of 640; the first ones
are wide, because poses may be off by degrees.
"""

MIN_EDGE = 30
"""Fewest matches of a pair of images that determine its relative rotation."""

EDGE_PX = 1.0
"""Largest distance of a match from the epipolar line of its relative pose, pixels."""

MAX_UNEXPLAINED = 0.1
"""Share of held-out matches farther than EXPLAINED_PX, above which the poses are also started from pairs of images."""

MIN_FIT = 0.4
"""An image whose features fit their points by less than this share is placed again by the points of other images."""

MIN_PLACED = 12
"""Fewest points, or matches, that place an image again."""

MAX_EXCHANGED = 0.34
"""Largest share of the images whose poses are exchanged one by one."""

PLACE_PX, PLACE_TRIES = 6.0, 300
"""Largest distance of these points from their features, pixels of 640, and number of random samples of them."""

MAX_SKEWED = 0.005
"""Largest logarithm of the root of fy over fx with which pixels count as square."""


def group_cameras(posed: PosedImages) -> NDArray[np.intp]:
    """Return the number of the camera of each image; images with the same intrinsics share one.

    If nearly every image has its own, all of them share the changes of one.
    """
    described = np.column_stack((posed.K.reshape(len(posed.K), -1), posed.distortion, posed.sizes))
    groups = np.asarray(np.unique(described, axis=0, return_inverse=True)[1].ravel(), np.intp)
    return groups if groups.max() + 1 <= len(groups) * MAX_CAMERAS else np.zeros_like(groups)


def build_candidate_model(candidate: Candidate, sparse: SparseMap, free: str = "focal") -> Any:
    """Return a pycolmap.Reconstruction: image and camera ids count from 1, in the order of the posed images.

    free: the parameter of FREE that its cameras have apart from the focal length.
    """
    camera, groups = candidate.view.camera, group_cameras(candidate.posed)
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


def read_poses(model: Any, count: int) -> Array:
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
    moved, centers, given = T_given.copy(), find_centers(T), find_centers(T_given)
    for part in parts:
        scale, R, _ = align_cameras(T[part], T_given[part])
        before, after = (float(np.linalg.norm(places[part] - places[part].mean(0))) for places in (given, centers))
        spread = before / max(after, 1e-12)
        scale = scale if scale > MIN_LIKENESS * spread else spread
        t = given[part].mean(0) - scale * R @ centers[part].mean(0)
        moved[part, :3, :3] = T[part, :3, :3] @ R.T
        moved[part, :3, 3] = scale * T[part, :3, 3] - np.einsum("fij,j->fi", moved[part, :3, :3], t)
    return moved


def adjust_candidate(
    candidate: Candidate,
    matches: ImageMatches,
    miss_px: float,
    threads: int,
    free: Sequence[str] = (),
    steps: int = FEW_STEPS,
    *,
    refine_poses: bool = True,
    count: int = FEW_POINTS,
) -> Candidate:
    """Triangulate matches within `miss_px` of their points, and adjust poses, points and the `free` parameters.

    Fewer than STEPS steps adjust a choice of the points alone, `count` of each image.
    """
    sparse = triangulate_view(candidate.view, miss_px)
    if steps < STEPS:
        sparse = choose_points(sparse, count)
    parts, posed = find_parts(sparse), candidate.posed
    if not parts:
        return candidate
    model = build_candidate_model(candidate, sparse, free[-1] if free else "focal")
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
        T = keep_world(read_poses(model, len(posed.images)), T, parts)
    if not free:
        return replace_poses(candidate, T)
    groups, virtual = group_cameras(posed), candidate.view.camera
    cameras = [model.cameras[number + 1] for number in range(int(groups.max()) + 1)]
    factors = np.array([(camera.focal_length_x, camera.focal_length_y) for camera in cameras]) / virtual.focal_px
    centers = np.array([(camera.principal_point_x, camera.principal_point_y) for camera in cameras])
    shifts = (centers - 0.5 - virtual.center_px)[groups] * posed.K[:, (0, 1), (0, 1)] / virtual.focal_px
    bends = np.array([camera.params[-1] if "lens" in free else 0.0 for camera in cameras])
    changed = replace(change_cameras(posed, factors[groups], shifts, bends[groups]), T_camera_world=T)
    return Candidate(changed, view_matches(changed, matches), candidate.sparse)


def finish_candidate(start: Candidate, matches: ImageMatches, threads: int, free: Sequence[str] = ()) -> Candidate:
    """Adjust to all points in STEPS steps, and measure held-out matches."""
    if free:
        start = adjust_candidate(start, matches, MAX_MISS_PX, threads, free)
    return judge_candidate(adjust_candidate(start, matches, MAX_ERROR_PX, threads, free, STEPS).posed, matches)


def choose_points(sparse: SparseMap, count: int) -> SparseMap:
    """Reduce a map to points that many images see, so that each image keeps at least `count` of its points."""
    lengths = np.bincount(sparse.observed[:, 1], minlength=len(sparse.points))
    images = sparse.observed[np.argsort(sparse.observed[:, 1], kind="stable"), 0].tolist()
    stops = np.cumsum(lengths)
    spans = np.column_stack((stops - lengths, stops)).tolist()
    missing = np.full(len(sparse.frames), count).tolist()
    is_kept = np.zeros(len(lengths), bool)
    for point in np.argsort(-lengths, kind="stable").tolist():
        start, stop = spans[point]
        of_point = images[start:stop]
        if any(missing[image] > 0 for image in of_point):
            is_kept[point] = True
            for image in of_point:
                missing[image] -= 1
    return select_observations(sparse, is_kept[sparse.observed[:, 1]])


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


# -- starts


def search_poses(given: Candidate, matches: ImageMatches, focal_factor: float, threads: int) -> tuple[Candidate, bool]:
    """Return adjusted poses from the start that explains held-out matches best, and whether it is the given one.

    The starts are the given poses, then the same with other focal lengths (`_list_focals`), then those of
    `_list_starts`. Another start must also leave fewer matches unexplained: the cost alone prefers poses that fit a car
    which stands in all images, and miss all other matches by a pixel.
    """
    best = converge(_exchange_poses(given), matches, threads)
    has_converged, unexplained = True, measure_unexplained(best)
    if unexplained < MAX_UNEXPLAINED:
        return best, has_converged
    scaled = [
        judge_candidate(change_cameras(given.posed, factors), matches) for factors in _list_focals(given, focal_factor)
    ]
    starts = chain(scaled, *(_list_starts(start, threads) for start in (given, *scaled)))
    for start in starts:
        tried = converge(start, matches, threads)
        left = measure_unexplained(tried)
        if left < unexplained and compare_held_out(best.held, tried.held).gain > 0:
            best, has_converged, unexplained = tried, start in scaled, left
        if unexplained < MAX_UNEXPLAINED:
            break
    return best, has_converged


def _exchange_poses(given: Candidate) -> Candidate:
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
    return replace_poses(given, moved)


def converge(start: Candidate, matches: ImageMatches, threads: int) -> Candidate:
    """Triangulate and adjust several times, with ever smaller thresholds."""
    start = _place_again(start, MISSES_PX[0])
    for miss_px in MISSES_PX:
        start = _place_again(adjust_candidate(start, matches, miss_px, threads), miss_px)
    return judge_candidate(start.posed, matches)


def _place_again(candidate: Candidate, miss_px: float) -> Candidate:
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
    return replace_poses(candidate, T)


def _list_focals(given: Candidate, focal_factor: float) -> Iterator[Array]:
    """Yield factors (F, 2) on the given focal lengths to start with: `focal_factor`, and those of square pixels."""
    ones = np.ones((len(given.posed.images), 2))
    if focal_factor != 1:
        yield focal_factor * ones
    roots = np.sqrt(given.posed.K[:, 1, 1] / given.posed.K[:, 0, 0])
    if np.abs(np.log(roots)).max() > MAX_SKEWED:
        yield focal_factor * np.column_stack((roots, 1 / roots))


def _list_starts(candidate: Candidate, threads: int) -> Iterator[Candidate]:
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
    model, graph = build_candidate_model(candidate, every), pycolmap.PoseGraph()
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
    yield replace_poses(candidate, keep_positions(read_poses(model, count), candidate.posed.T_camera_world))
    positioning = pycolmap.GlobalPositionerOptions()
    positioning.random_seed, positioning.use_gpu, positioning.generate_random_positions = 0, False, True
    positioning.min_num_view_per_track = 2 if count < 2 * MIN_SEEN else 3
    if not pycolmap.run_global_positioning(positioning, graph, model):
        return
    T = read_poses(model, count)
    placed = [part[np.isfinite(T[part]).all((1, 2))] for part in find_parts(every)]
    placed = [part for part in placed if len(part) >= MIN_PART]
    yield replace_poses(candidate, keep_world(T, candidate.posed.T_camera_world, placed))


def keep_positions(T: Array, T_given: Array) -> Array:
    """Return poses with the rotations of `T`, turned as a whole as the given ones are, and the given positions.

    T, T_given: (F, 4, 4) world-to-camera poses; the given ones stay where T is NaN.
    """
    moved, known = T_given.copy(), np.isfinite(T[:, :3, :3]).all((1, 2))
    moved[known, :3, :3] = T[known, :3, :3]
    moved[known, :3, :3] @= align_cameras(moved[known], T_given[known])[1].T
    moved[:, :3, 3] = -np.einsum("fij,fj->fi", moved[:, :3, :3], find_centers(T_given))
    return moved


def _find_relative_pose(view: VirtualView, first: Array, second: Array) -> tuple[Array, int] | None:
    """Return the pose (3, 4) of the second camera in the first one, and the number of matches that fit."""
    cv2.setRNGSeed(0)
    E, fits = cv2.findEssentialMat(first, second, view.camera.K, cv2.RANSAC, 0.999, EDGE_PX)
    if E is None or E.shape != (3, 3):
        return None
    number, R, t, _ = cv2.recoverPose(E, first, second, view.camera.K, mask=fits.copy())
    return (np.column_stack((R, t)), int(fits.sum())) if number >= MIN_EDGE // 2 else None
