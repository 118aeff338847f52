"""Refine the poses of another program by bundle adjustment with independent matches: `stadia refine`.

Poses start as given, or as the relative rotations of pairs of images give them, whichever explains matches better that
took no part. A result is kept only if these matches fit better by more than their scatter.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stadia.core.types import TrackProgress, no_progress
from stadia.io.reconstruction_files import Reconstruction
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
from stadia.sfm.reconstruction import adjust
from stadia.sfm.sparse_map import Array, SparseMap, align_cameras, import_pycolmap

MISSES_PX = (16.0, 8.0, MAX_MISS_PX)
"""Largest distances of a match from its triangulated point in successive adjustments, pixels of 640; the first ones
are wide, because poses may be off by degrees.
"""

ROBUST_SHARE = 0.25
"""Share of the largest distance at which the robust cost starts to grow slower than a square."""

MIN_EDGE = 30
"""Fewest matches of a pair of images from which their relative rotation is taken."""

EDGE_PX = 1.0
"""Largest distance of a match from the epipolar line of its relative pose, pixels."""

MIN_SEEN = 15
"""Fewest observations of an image whose pose is refined; others keep the given pose."""

MIN_PART = 3
"""Fewest images that matches join and whose poses are refined."""

HELD_PX = 1.0
"""Error of a held-out match, pixels of 640, from which its cost grows slower than a square."""

RESAMPLES = 1000
SURE = 0.025
"""Largest share of the resamples of the pairs of images in which a refined result may be no better."""

MIN_GAIN = 0.01
"""Least relative reduction of the cost of held-out matches."""

MAX_FOCAL_DEVIATION = 0.01
"""Largest relative standard deviation of a focal length that is refined."""

MIN_FOCAL_CHANGE = 3.0
"""Least change of a focal length that is refined, in its standard deviations."""

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

    @property
    def is_sure(self) -> bool:
        """Return whether the matches fit better by more than their scatter."""
        return self.low > 0 and self.gain >= MIN_GAIN


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
    focal_factors: (F,) factor by which the focal length changed; 1 if the motion does not determine it.
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
    sparse = triangulate_view(view)
    held = [
        (measure_epipolar(sparse, part), measure_errors(sparse, part))
        for part in (
            replace(pair, xy_first=pair.xy_first[rows], xy_second=pair.xy_second[rows], is_held=pair.is_held[rows])
            for pair in view.pairs
            for rows in [pair.is_held]
        )
    ]
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
    pycolmap = import_pycolmap()
    model, camera, T = pycolmap.Reconstruction(), candidate.view.camera, candidate.posed.T_camera_world
    groups = _group_cameras(candidate.posed)
    x, y = camera.center_px[0] + 0.5, camera.center_px[1] + 0.5
    for number in range(groups.max() + 1):
        params = [camera.focal_px, x, y]
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(
                camera_id=number + 1, model="SIMPLE_PINHOLE", width=camera.width, height=camera.height, params=params
            )
        )
    place = np.zeros(len(sparse.observed), np.int64)
    for row in range(len(T)):
        seen = np.flatnonzero(sparse.observed[:, 0] == row)
        place[seen] = np.arange(len(seen))
        points = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in sparse.xy[seen] + 0.5])
        image = pycolmap.Image(name=f"{row:08d}", camera_id=int(groups[row]) + 1, image_id=row + 1, points2D=points)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(T[row, :3]))
    order = np.argsort(sparse.observed[:, 1], kind="stable")
    starts = np.searchsorted(sparse.observed[order, 1], np.arange(len(sparse.points) + 1))
    for point, (start, stop) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        elements = [pycolmap.TrackElement(int(sparse.observed[at, 0]) + 1, int(place[at])) for at in order[start:stop]]
        model.add_point3D(sparse.points[point], pycolmap.Track(elements=elements))
    return model


def _read_poses(model: Any, count: int) -> Array:
    T = np.tile(np.eye(4), (count, 1, 1))
    for row in range(count):
        T[row, :3] = model.images[row + 1].cam_from_world().matrix()
    return T


def find_parts(sparse: SparseMap) -> list[NDArray[np.intp]]:
    """Return the rows of the images that points join, of each part with at least MIN_PART images.

    Images with fewer than MIN_SEEN observations belong to no part.
    """
    count, points = len(sparse.frames), len(sparse.points)
    seen = np.bincount(sparse.observed[:, 0], minlength=count)
    kept = sparse.observed[seen[sparse.observed[:, 0]] >= MIN_SEEN]
    graph = coo_matrix((np.ones(len(kept)), (kept[:, 0], count + kept[:, 1])), (count + points, count + points))
    label = connected_components(graph, directed=False)[1][:count]
    parts = (np.flatnonzero((label == number) & (seen >= MIN_SEEN)) for number in np.unique(label))
    return [part for part in parts if len(part) >= MIN_PART]


def keep_world(T: Array, T_given: Array, parts: Sequence[NDArray[np.intp]]) -> Array:
    """Move the poses of each part by a similarity into the world of the given poses; images of no part get the given
    ones.

    T, T_given: (F, 4, 4) world-to-camera poses.
    parts: rows of each part.
    """
    moved = T_given.copy()
    for part in parts:
        scale, R, t = align_cameras(T[part], T_given[part])
        if not scale > 0:
            continue
        moved[part, :3, :3] = T[part, :3, :3] @ R.T
        moved[part, :3, 3] = scale * T[part, :3, 3] - np.einsum("fij,j->fi", moved[part, :3, :3], t)
    return moved


def _adjust_rounds(candidate: _Candidate, matches: ImageMatches, threads: int, misses_px: Sequence[float]) -> _Candidate:
    """Triangulate and adjust several times, with ever smaller thresholds."""
    given = candidate.posed.T_camera_world
    for miss_px in misses_px:
        sparse = triangulate_view(candidate.view, miss_px)
        parts = find_parts(sparse)
        if not parts:
            continue
        model = _build_model(candidate, sparse)
        adjust(model, refine_focal=False, refine_lens=False, robust_px=ROBUST_SHARE * miss_px, threads=threads)
        T = keep_world(_read_poses(model, len(given)), candidate.posed.T_camera_world, parts)
        candidate = replace_poses(candidate, T)
    return _judge(candidate.posed, matches)


def replace_poses(candidate: _Candidate, T: Array) -> _Candidate:
    posed = replace(candidate.posed, T_camera_world=T)
    return _Candidate(posed, replace(candidate.view, posed=posed), candidate.sparse)


# -- start without the given poses


def _start_from_pairs(candidate: _Candidate, threads: int) -> _Candidate | None:
    """Average the relative rotations of pairs of images, and place the images by their tracks.

    Returns None if that fails.
    """
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
        return None
    positioning = pycolmap.GlobalPositionerOptions()
    positioning.random_seed, positioning.use_gpu, positioning.generate_random_positions = 0, False, True
    positioning.min_num_view_per_track = 2 if count < 2 * MIN_SEEN else 3
    if not pycolmap.run_global_positioning(positioning, graph, model):
        return None
    parts = find_parts(every)
    T = keep_world(_read_poses(model, count), candidate.posed.T_camera_world, parts)
    return replace_poses(candidate, T) if np.isfinite(T).all() else None


def _find_relative_pose(view: VirtualView, first: Array, second: Array) -> tuple[Array, int] | None:
    """Return the pose (3, 4) of the second camera in the first one, and the number of matches that fit."""
    cv2.setRNGSeed(0)
    E, fits = cv2.findEssentialMat(first, second, view.camera.K, cv2.RANSAC, 0.999, EDGE_PX)
    if E is None or E.shape != (3, 3):
        return None
    number, R, t, _ = cv2.recoverPose(E, first, second, view.camera.K, mask=fits.copy())
    return (np.column_stack((R, t)), int(fits.sum())) if number >= MIN_EDGE // 2 else None
