"""Judge a map by its own matches: the error of its poses and camera, and whether its images can show one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stadia.judge.limits import MAP_CAMERA_LIMITS
from stadia.judge.map_verdict import MapEvidence
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.map_evidence import (
    find_points,
    is_expanding,
    measure_plane,
    measure_standing,
    measure_zoom,
    select_pairs,
)
from stadia.sfm.match_triangulation import PosedImages, triangulate_view, view_matches
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.pose_deviations import measure_covariances
from stadia.sfm.pose_error import (
    MIN_GAIN_OF_WRONG,
    MIN_PARTNERS,
    PoseDifference,
    find_differences,
    measure_error,
    open_images,
)
from stadia.sfm.pose_refinement import LEVELS, AdjustedPoses, adjust_poses
from stadia.sfm.reconstruction import MAX_ERROR_PX
from stadia.sfm.sparse_map import Array, SparseMap


def adjust_map_poses(
    sparse: SparseMap, pairs: Sequence[FramePair], *, has_camera: bool = True, threads: int | None = None
) -> tuple[AdjustedPoses, ImageMatches]:
    """Adjust the poses and the camera of a map to its matches, as if another program had made it.

    sparse: the map.
    pairs: matches of pairs of keyframes, with the held-out ones.
    has_camera: whether the user gave the camera. Else the principal point is in the middle by convention and pixels are
        square, as videos have them to a percent or two; a path along few directions makes up for much more.
    threads: number of threads; None takes one for each processor.

    Returns the poses before and after, and the matches.
    """
    camera, count = sparse.camera, len(sparse.frames)
    size = np.array([camera.width, camera.height])
    posed = PosedImages(
        images=sparse.frames.astype(np.intp),
        T_camera_world=sparse.T_camera_world,
        K=np.tile(camera.K, (count, 1, 1)),
        distortion=np.tile(camera.distortion, (count, 1)),
        sizes=np.tile(size, (count, 1)),
        rows=np.arange(count),
        how="order",
    )
    every = int(sparse.frames.max()) + 1
    names = tuple(f"{index:06d}" for index in range(every))
    still = remove_row_motion(sparse, select_pairs(sparse, pairs))
    matches = ImageMatches(names, np.tile(size, (every, 1)), still)
    names = LEVELS if has_camera else ("lens",)
    return adjust_poses(posed, matches, open_parameters=names, threads=threads), matches


def confirm_wrong_images(adjusted: AdjustedPoses, matches: ImageMatches) -> list[PoseDifference]:
    """Return how a map differs from its adjusted poses, with those wrong images that matches confirm.

    Matches confirm an image if held-out ones fit its adjusted pose better, or if fewer of its features meet in points
    from the given poses: along the direction of motion, a moved camera keeps all epipolar lines.

    adjusted: the poses of the map before and after.
    matches: the matches to which they were adjusted.
    """
    differences, confirmed = find_differences(adjusted), list[int]()
    count = len(adjusted.given.images)
    given = triangulate_view(view_matches(adjusted.given, matches), MAX_ERROR_PX)
    before, after = (np.bincount(part.observed[:, 0], minlength=count) for part in (given, adjusted.sparse))
    for row in (row for part in differences for row in part.rows[part.is_wrong].tolist()):
        if (adjusted.ends == row).any(1).sum() < MIN_PARTNERS:
            continue
        lost = before[row] < (1 - MIN_GAIN_OF_WRONG) * after[row]
        if lost or adjusted.compare_images(row).is_sure(MIN_GAIN_OF_WRONG):
            confirmed.append(int(adjusted.given.images[row]))
    return open_images(differences, adjusted.given.images, confirmed)


def free_focal_length(adjusted: AdjustedPoses) -> AdjustedPoses:
    """Return adjusted poses whose covariances contain, added to what they have, those with an unknown focal length.

    adjusted: the poses of a map before and after.
    """
    parts = measure_covariances(adjusted.sparse, free=("focal",), known=LEVELS)
    parts.sort(key=lambda part: -len(part.rows))
    joined = (
        replace(part, root=np.concatenate((part.root, free.root), 2)) if np.array_equal(part.rows, free.rows) else part
        for part, free in zip(adjusted.covariances, parts, strict=False)
    )
    return replace(adjusted, covariances=tuple(joined))


def remove_row_motion(sparse: SparseMap, pairs: Sequence[FramePair]) -> list[FramePair]:
    """Return matches at the pixels that a global shutter would see.

    Matches without a point in the map are left out if the map has a rolling shutter.

    sparse: the map.
    pairs: matches of pairs of its keyframes.
    """
    if not sparse.readout:
        return list(pairs)
    moved = []
    for pair in pairs:
        rows = np.searchsorted(sparse.frames, (pair.first, pair.second)).tolist()
        ends, kept = [], np.ones(len(pair.is_held), bool)
        for row, xy in zip(rows, (pair.xy_first, pair.xy_second), strict=True):
            is_known, points = find_points(sparse, row, xy)
            still = sparse.camera.project(sparse.move_to_cameras(np.full(len(points), row), points))
            place = xy.copy()
            place[is_known] -= sparse.move_to_rows(row, points, still) - still
            ends.append(place)
            kept &= is_known
        first, second = ends
        moved.append(replace(pair, xy_first=first[kept], xy_second=second[kept], is_held=pair.is_held[kept]))
    return moved


def measure_evidence(
    sparse: SparseMap,
    pairs: Sequence[FramePair],
    T_world_camera: Array,
    *,
    has_camera: bool,
    road_drift: float = 1.0,
    is_camera_determined: bool = True,
    focal_deviation: float = 0.0,
    in_other_parts: int = 0,
    threads: int | None = None,
) -> MapEvidence:
    """Measure, by the matches of its keyframes, what speaks for or against a map.

    The deviation of poses contains what an unknown focal length leaves open, unless the user gave the camera.

    sparse: the map.
    pairs: all matches of pairs of keyframes, with the held-out ones.
    T_world_camera: (N, 4, 4) poses of all video frames, NaN for those that are lost or interpolated.
    has_camera: whether the user gave the camera.
    road_drift: change of the camera's height over the road along the trajectory, as a factor; 1 without a road.
    is_camera_determined: whether the images determine a camera that the user did not give.
    focal_deviation: standard deviation of the focal length as its share; 0 for a given camera, 1 for an assumed one.
    in_other_parts: number of frames that have a pose in other parts of the video.
    threads: number of threads; None takes one for each processor.
    """
    adjusted, matches = adjust_map_poses(sparse, pairs, has_camera=has_camera, threads=threads)
    if not has_camera:
        adjusted = free_focal_length(adjusted)
    placed = np.isfinite(T_world_camera).all((1, 2))
    planar = measure_plane(pairs)
    is_flat = planar > MAP_CAMERA_LIMITS["planar"].doubtful
    return MapEvidence(
        error=measure_error(adjusted, confirm_wrong_images(adjusted, matches), matches.names),
        unexplained=adjusted.unexplained if adjusted.gain.count else math.nan,
        held_out_px=adjusted.gain.before_px,
        placed=float(placed.mean()),
        covered=min((np.count_nonzero(placed) + in_other_parts) / np.size(placed), 1.0),
        standing=measure_standing(pairs, sparse.camera.width),
        planar=planar,
        zoomed=measure_zoom(pairs),
        open_focal=focal_deviation if is_flat and not is_expanding(sparse, pairs) else 0.0,
        view_turn_deg=sparse.measure_turn_deg(),
        has_camera=has_camera,
        road_drift=road_drift,
        is_camera_determined=is_camera_determined,
    )
