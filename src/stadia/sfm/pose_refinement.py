"""Adjust the poses and cameras of another program to independent matches, starting from the given ones.

What the adjustment changes is the error of what was given: `judge.error` measures it, and `stadia refine` writes the
adjusted poses. Poses start as given, or as the relative rotations of pairs of images give them, whichever explains
matches better that took no part.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stadia.core.progress import TrackProgress, no_progress
from stadia.geometry.poses import find_centers, so3_log
from stadia.io.records.reconstruction import Reconstruction
from stadia.sfm.held_out import (
    MIN_GAIN,
    Candidate,
    HeldOutGain,
    compare_held_out,
    find_pairs,
    judge_candidate,
    list_ends,
    measure_unexplained,
)
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.match_triangulation import PosedImages, pose_images, triangulate_view
from stadia.sfm.pose_adjustment import (
    FEW_POINTS,
    MAX_SKEWED,
    MISSES_PX,
    adjust_candidate,
    choose_points,
    converge,
    finish_candidate,
    group_cameras,
    keep_world,
    search_poses,
)
from stadia.sfm.pose_deviations import (
    PoseCovariance,
    measure_camera_deviations,
    measure_covariances,
    measure_free_cameras,
)
from stadia.sfm.reconstruction import MAX_ERROR_PX
from stadia.sfm.sparse_map import Array, SparseMap

MORE = 3
"""Most repetitions of the adjustment of a camera that is far off."""

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

CLAIM, CLEAR = 3.0, 8.0
"""A parameter of a camera changes if it differs by at least CLAIM standard deviations, and held-out matches fit surely
better; beyond CLEAR, if they fit better.
"""

STAGES = 4

UNSURE_NOISE = 0.1
"""Share of the change of poses after cameras alone that counts as noise of the given poses, if held-out matches do not
surely confirm it: most is the scatter of the adjustment.
"""

MEDIAN_LENGTH = 1.538
"""Median length of vectors of three normally distributed numbers of deviation 1."""


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
        at = find_pairs(self.ends, np.atleast_1d(rows))
        return compare_held_out([self.held_before[k] for k in at], [self.held_after[k] for k in at])

    def compare_cameras(self, rows: NDArray[np.intp]) -> HeldOutGain:
        """Return how the held-out matches of some images fit adjusted poses with the given and the adjusted cameras."""
        at = find_pairs(self.ends, rows)
        return compare_held_out([self.held_of_poses[k] for k in at], [self.held_after[k] for k in at])


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

    best: Candidate
    longer: Candidate
    cameras: list[AdjustedCamera]
    free: tuple[str, ...]
    left: list[str]
    others: list[Candidate]


def adjust_poses(
    reconstruction: Reconstruction | PosedImages,
    matches: ImageMatches,
    *,
    focal_factor: float = 1.0,
    open_parameters: Sequence[str] = LEVELS,
    track: TrackProgress = no_progress,
    threads: int | None = None,
) -> AdjustedPoses:
    """Adjust a reconstruction to the matches between its images that are not held out.

    A focal length or a principal point is only changed if it differs by CLAIM standard deviations, and held-out matches
    fit better by more than their scatter.

    reconstruction: cameras and poses, or the images that have them.
    matches: independent matches.
    focal_factor: factor on the given focal lengths with which the adjustment starts.
    open_parameters: parameters of cameras that may be wrong next to the focal length, keys of FREE.
    track: shows progress.
    threads: number of threads; None takes one for each processor.

    Raises DataError if fewer than 3 images have a pose, or the reconstruction has no camera.
    """
    threads = threads or os.cpu_count() or 1
    steps = iter(track(range(STAGES), STAGES, "adjusting"))
    next(steps, None)
    posed = pose_images(reconstruction, matches) if isinstance(reconstruction, Reconstruction) else reconstruction
    given = judge_candidate(posed, matches)
    near, has_converged = search_poses(given, matches, focal_factor, threads)
    next(steps, None)
    longer = finish_candidate(near, matches, threads, ("focal",))
    next(steps, None)
    if not np.array_equal(near.posed.K, posed.K):  # the focal length of the start counts only if matches confirm it
        near = converge(
            judge_candidate(replace(posed, T_camera_world=longer.posed.T_camera_world), matches), matches, threads
        )
    of_given = finish_candidate(near, matches, threads)
    names = [name for name in open_parameters if name != "lens" or posed.lenses is None]
    found = _try_cameras(given, of_given, longer, matches, names, threads)
    next(steps, None)
    found = _try_more_parameters(given, found, matches, threads)
    for _ in steps:
        pass
    best = found.best
    sparse = triangulate_view(best.view, MAX_ERROR_PX)
    known = ("focal", *names)
    covariances = measure_covariances(sparse, group_cameras(posed), found.free, known=known)
    widened = [_widen(part, best, found.others) for part in covariances]
    return AdjustedPoses(
        given=posed,
        posed=best.posed,
        cameras=tuple(found.cameras),
        covariances=tuple(sorted(widened, key=lambda part: -len(part.rows))),
        sparse=sparse,
        gain=compare_held_out(given.held, best.held),
        unexplained=measure_unexplained(best),
        has_converged=has_converged,
        ends=list_ends(given.view),
        held_before=given.held,
        held_of_poses=of_given.held,
        held_after=best.held,
    )


def _try_cameras(
    given: Candidate, of_given: Candidate, longer: Candidate, matches: ImageMatches, names: Sequence[str], threads: int
) -> _FoundCameras:
    """Try cameras alone, and else another focal length.

    of_given: adjusted poses with the given cameras.
    longer: adjusted poses with a free focal length.
    names: the other parameters that may be wrong.
    """
    alone = _adjust_cameras(given, of_given, matches, ["focal", *names], threads)
    if alone is not None:
        best, changed, of_changed = alone
        with_focal = best if "focal" in changed else finish_candidate(best, matches, threads, ("focal",))
        cameras = _measure_cameras(given, with_focal, ("focal",))
        for name in changed:
            cameras = _take_parameter(cameras, name, of_changed)
        return _FoundCameras(best, best, cameras, (), [name for name in names if name not in changed], [])
    cameras = _measure_cameras(given, longer, ("focal",))
    if not any(camera.is_claimed("focal", CLAIM) for camera in cameras):
        return _FoundCameras(of_given, longer, cameras, (), [*names], [])
    if _is_confirmed(cameras, "focal", of_given, longer):
        return _FoundCameras(longer, longer, cameras, ("focal",), [*names], [])
    return _FoundCameras(of_given, longer, cameras, (), [*names], [longer])


def _try_more_parameters(given: Candidate, found: _FoundCameras, matches: ImageMatches, threads: int) -> _FoundCameras:
    """Free one parameter of the cameras after the other, the one that explains held-out matches best first."""
    while found.left:
        cameras, others, confirmed = found.cameras, list(found.others), list[tuple[float, str, Candidate]]()
        for name in found.left:
            candidate = adjust_candidate(found.longer, matches, MAX_ERROR_PX, threads, ("focal", name))
            if name == "aspect" and _measure_skew(candidate.posed) > _measure_skew(given.posed) + MAX_SKEWED:
                continue  # sensors have square pixels; poses and scenes of few views can make up for other ones
            candidate = judge_candidate(candidate.posed, matches)
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
            again = finish_candidate(best, matches, threads, ("focal", name))
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


def _widen(part: PoseCovariance, best: Candidate, others: Sequence[Candidate]) -> PoseCovariance:
    """Add to a covariance how poses change with cameras that matches ask for, but held-out matches do not confirm.

    The true poses may lie anywhere between both.
    """
    root, T = part.root, best.posed.T_camera_world[part.rows]
    for other in others:
        moved = keep_world(other.posed.T_camera_world[part.rows], T, [np.arange(len(T))])
        turns = so3_log(moved[:, :3, :3] @ T[:, :3, :3].swapaxes(1, 2))
        change = np.concatenate((turns, find_centers(moved) - find_centers(T)), 1)
        root = np.concatenate((root, change[:, :, None] / np.sqrt(3)), 2)  # the spread of a uniform distribution
    return replace(part, root=root)


def _adjust_cameras(
    given: Candidate, best: Candidate, matches: ImageMatches, names: Sequence[str], threads: int
) -> tuple[Candidate, list[str], list[AdjustedCamera]] | None:
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

    def try_camera(start: Candidate, name: str, misses_px: Sequence[float], count: int) -> Candidate:
        free = ("focal", name) if name == "aspect" else (name,)
        for miss_px in misses_px:
            start = adjust_candidate(start, matches, miss_px, threads, free, refine_poses=False, count=count)
        return judge_candidate(start.posed, matches)

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
    after = finish_candidate(now, matches, threads)
    if compare_held_out(after.held, best.held).is_sure():
        return None
    changed = [*changed, "focal"] if "aspect" in changed and "focal" not in changed else changed
    groups = group_cameras(given.posed)
    sparse = triangulate_view(now.view, MAX_ERROR_PX)
    is_noisy = compare_held_out(now.held, after.held).is_sure()
    noise = np.array(_measure_noise(given.posed, after.posed)) * (1.0 if is_noisy else UNSURE_NOISE)
    deviations = measure_camera_deviations(sparse, groups, changed, (noise[0], noise[1]))
    cameras = _describe_cameras(given, now, deviations)
    if not any(camera.is_claimed(name, CLAIM) for camera in cameras for name in changed):
        return None
    return after, changed, cameras


def _measure_noise(given: PosedImages, after: PosedImages) -> tuple[float, float]:
    """Return the standard deviations of a coordinate of given rotations, radians, and positions, from adjusted ones."""
    T, T_after = given.T_camera_world, after.T_camera_world
    turns = so3_log(T[:, :3, :3] @ T_after[:, :3, :3].swapaxes(1, 2))
    moves = find_centers(T) - find_centers(T_after)
    moved = (T_after != T).any((1, 2))  # others have too few matches
    if not moved.any():
        return np.inf, np.inf
    of_turns, of_moves = (
        float(np.median(np.linalg.norm(errors[moved], axis=1))) / MEDIAN_LENGTH for errors in (turns, moves)
    )
    return of_turns, of_moves


def _measure_cameras(
    given: Candidate, adjusted: Candidate, free: Sequence[str], count: int = 0
) -> list[AdjustedCamera]:
    """Return what the adjustment makes of each camera; with a `count`, the adjustment of so many points an image."""
    groups = group_cameras(given.posed)
    known = ("center", "lens") if given.posed.lenses is None else ("center",)
    sparse = triangulate_view(adjusted.view, MAX_ERROR_PX)
    sparse = choose_points(sparse, count) if count else sparse
    return _describe_cameras(given, adjusted, measure_free_cameras(sparse, groups, free, known))


def _describe_cameras(given: Candidate, adjusted: Candidate, deviations: Array) -> list[AdjustedCamera]:
    """Return how adjusted cameras differ from given ones, with the deviations (C, PARAMETERS) of their parameters."""
    groups, deviations = group_cameras(given.posed), deviations.copy()
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


def _is_confirmed(cameras: Sequence[AdjustedCamera], name: str, before: Candidate, after: Candidate) -> bool:
    """Return whether held-out matches of the images of a camera confirm a parameter of it that is claimed."""
    for camera in cameras:
        if camera.is_claimed(name, CLAIM):
            at = find_pairs(list_ends(before.view), camera.rows)
            gain = compare_held_out([before.held[k] for k in at], [after.held[k] for k in at])
            if gain.is_sure() or (gain.gain > 0 and camera.is_claimed(name, CLEAR)):
                return True
    return False
