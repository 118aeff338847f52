"""Estimate an unknown camera: map some keyframes from several fields of view, and keep the camera of the best map.

`calibrate_pairs` estimates the focal length from pairs of images alone, as a start or in place of an assumed one.

A camera that only turns has no map; `find_rotation_focal` estimates its focal length.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from stadia.geometry.cameras import (
    ASSUMED_HORIZONTAL_FOV_DEG,
    MAX_SEARCHED_HORIZONTAL_FOV_DEG,
    MIN_SEARCHED_HORIZONTAL_FOV_DEG,
    focal_px_from_fov,
)
from stadia.sfm.camera_intervals import MIN_TURN_DEG, LensIntervals, measure_lens
from stadia.sfm.reconstruction import (
    MIN_POINTS,
    START_FOVS_DEG,
    Workers,
    adjust,
    change_model,
    map_frames,
    measure_cost,
    mirror_if_better,
    retriangulate,
)
from stadia.sfm.sparse_map import Array, LensCamera, from_reconstruction, import_pycolmap

SEARCH_FRAMES = 30
"""Number of keyframes, from the middle of the video, that each start value of the focal length is tried on."""

MAX_RIVAL_COST = 1.2
"""Largest cost of a start that can contradict the best one, as a multiple of the least cost."""

MAX_START_DIFFERENCE = 0.04
"""Largest relative difference of two focal lengths that count as the same result.

A focal length is claimed only if at least two starts end there, and if all starts end there whose cost is at most
MAX_RIVAL_COST times the least cost; the cost has several minima. Without a fair model, MIN_ALLIES starts and most of
those that were tried must end there: blurred or compressed images raise the cost of a right model.
"""

MIN_ALLIES = 3
"""Fewest starts that end at one focal length before it is claimed without a fair model. They have at least two first
pairs of images (START_ANGLES_DEG), since one wrong pair bends all of its starts.
"""

MIN_ALLY_REGISTERED = 1 / 3
"""Smallest share of keyframes with a pose of a start that supports the focal length of others."""

MAX_ALLY_COST = 0.5
"""Largest cost of a start that supports the focal length of others."""

MAX_OPEN_DIFFERENCE = 0.25
"""Relative difference of two focal lengths of fair models from which the focal length is open: a plane, or a camera
that only turns, fits with each of them, and no further start changes that.
"""

AGAIN_FACTORS = 0.8, 1.25
"""Factors on the best focal length found so far: further starts begin there if other starts ended elsewhere."""

TELEPHOTO_DEG = 28.0
"""Field of view, degrees, along the longer side of the images, of a further start if no usual one gives a map."""

MAX_FOCAL_STEP = 0.01
"""Relative change of the focal length below which no further round of triangulation and adjustment follows."""

MAX_ROUNDS = 4
"""Most rounds of triangulation and adjustment, if the focal length keeps changing."""

START_ANGLES_DEG = (2.0, 6.0, 16.0)
"""Smallest triangulation angles, degrees, of the first image pair of a COLMAP model; tried in this order.

A wrong first pair bends the camera trajectory, and another angle selects another pair.
"""

GIVEN_FACTOR = 0.8
"""A second start with this share of the given focal length finds another first pair."""

LAST_FACTOR = 1.25
"""Factor on the focal length of one last start if no earlier start explains the images.

The adjustment of a camera that moves little can stay in one local minimum.
"""
GOOD_REGISTERED = 0.8
"""Smallest share of the tried keyframes that have a pose in a good or fair model."""

GOOD_COST = 0.2
"""Largest cost of a good model: no other start needs to be tried after it."""

FAIR_COST = 0.3
"""Largest cost of real images with the right first pair."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundCamera:
    """A camera estimated from some keyframes, with its uncertainty and the model it comes from.

    camera: intrinsics and distortion that fit the small frames (the frames shrunk to at most 800 px, as used for
        features).
    intervals: standard deviations of the parameters of `camera`.
    registered: share (0 to 1) of the tried keyframes that got a pose.
    cost: mean robust reprojection cost of an observation, from `measure_cost`.
    model: the pycolmap.Reconstruction of the tried keyframes; the remaining keyframes are added to it later.
    starts_agree: whether other starts of similar cost ended at the same focal length.
    start_spread: largest relative difference between `camera.focal_px` and the focal lengths of those starts.
    angle_deg: smallest triangulation angle of the first image pair, degrees.
    is_open: whether fair models of very different focal lengths fit equally well.
    """

    camera: LensCamera
    intervals: LensIntervals
    registered: float
    cost: float
    model: Any
    starts_agree: bool = True
    start_spread: float = 0.0
    angle_deg: float = 0.0
    is_open: bool = False

    @property
    def is_good(self) -> bool:
        """Return whether nearly all tried keyframes have a pose at so low a cost that no other start needs to be
        tried.
        """
        return self.registered >= GOOD_REGISTERED and self.cost < GOOD_COST

    @property
    def may_turn(self) -> bool:
        """Return whether the tried keyframes turn at least half as far as a claimed focal length needs; all keyframes
        may turn farther.
        """
        return self.intervals.turn_deg >= MIN_TURN_DEG / 2

    @property
    def is_ally(self) -> bool:
        """Return whether the model is good enough to support the focal length of other starts."""
        return self.registered >= MIN_ALLY_REGISTERED and self.cost <= MAX_ALLY_COST

    @property
    def is_fair(self) -> bool:
        """Return whether nearly all tried keyframes have a pose, at a cost that only a right first pair of images
        reaches.
        """
        return self.registered >= GOOD_REGISTERED and self.cost < FAIR_COST


def find_camera(
    database: Path,
    frames: Sequence[int],
    height: int,
    width: int,
    *,
    given: LensCamera | None,
    workers: Workers,
    before: FoundCamera | None = None,
) -> FoundCamera | None:
    """Estimate the camera from SEARCH_FRAMES keyframes, by mapping them from several focal lengths.

    database: COLMAP database with the verified matches of the keyframes.
    frames: indices of all keyframes, rising; the SEARCH_FRAMES in the middle are tried.
    height, width: size of the small frames, pixels.
    given: the camera if the user gave it; then only poses and points are searched, since the first image pair can still
        be wrong.
    workers: number of threads, and how progress is shown.
    before: the camera that an earlier search with fewer matches found. If its starts agreed, and one start with the new
        matches ends at its focal length again, no further start is tried.

    Returns the camera with the model of the tried keyframes; None if no start gives a pose to three of them.
    """
    first = max(0, (len(frames) - SEARCH_FRAMES) // 2)
    every = [f"{index:08d}" for index in frames]
    names = every[first : first + SEARCH_FRAMES]
    if given is not None:
        return _find_structure(database, every, names, given, workers)
    agrees = before is not None and before.starts_agree
    confirmed = _confirm_camera(database, names, before, workers) if before and agrees else None
    if confirmed is not None:
        return confirmed
    cameras = [LensCamera.from_fov(deg, height, width) for deg in START_FOVS_DEG]
    starts, tried = list[FoundCamera](), 0
    for angle_deg in START_ANGLES_DEG:
        found = [try_start(database, names, camera, None, angle_deg, workers) for camera in cameras]
        starts += [start for start in found if start is not None]
        tried += len(found)
        if angle_deg == START_ANGLES_DEG[0] and not any(start.is_fair for start in starts):
            cameras += filter(None, [calibrate_pairs(database, height, width)])
            telephoto_px = focal_px_from_fov(TELEPHOTO_DEG, max(height, width))
            cameras += [] if starts else [replace(cameras[0], focal_px=telephoto_px)]
        if not starts:
            continue
        best = choose_best(starts, tried)
        if best.starts_agree or best.is_open or (best.is_fair and not best.may_turn):
            break
        if best.is_fair:  # A right result is found again from other focal lengths and another first pair.
            plain = replace(best.camera, distortion=(0.0, 0.0, 0.0, 0.0))
            cameras = [replace(plain, focal_px=factor * plain.focal_px) for factor in AGAIN_FACTORS]
    return choose_best(starts, tried) if starts else None


def calibrate_pairs(database: Path, height: int, width: int) -> LensCamera | None:
    """Estimate the focal length from the fundamental matrices of image pairs, before there is a map.

    COLMAP's calibration of the view graph (Sweeney et al., "Optimizing the Viewing Graph for Structure-from-Motion",
    ICCV 2015), from an assumed field of view; planes and weak perspective leave the result near it.

    database: COLMAP database with verified matches; it is not changed.
    height, width: size of the images, pixels.

    Returns a camera without distortion; None if too few pairs agree.
    """
    pycolmap = import_pycolmap()
    options = pycolmap.ViewGraphCalibrationOptions()
    options.random_seed, options.reestimate_relative_pose = 0, False
    start, changed = LensCamera.from_fov(ASSUMED_HORIZONTAL_FOV_DEG, height, width), database.with_name("calibrated.db")
    shutil.copyfile(database, changed)
    try:
        with pycolmap.Database.open(str(changed)) as store:
            for stored in store.read_all_cameras():
                camera = start.to_pycolmap()
                camera.camera_id, camera.has_prior_focal_length = stored.camera_id, False
                store.update_camera(camera)
        if not pycolmap.calibrate_view_graph(changed, options):
            return None
        with pycolmap.Database.open(str(changed)) as store:
            focal_px = float(store.read_all_cameras()[0].mean_focal_length())
    finally:
        changed.unlink()
    shortest_px, longest_px = _list_focal_limits(start)
    return replace(start, focal_px=focal_px) if shortest_px < focal_px < longest_px else None


def _list_focal_limits(camera: LensCamera) -> tuple[float, float]:
    """Return the shortest and the longest focal length, pixels, that is searched."""
    shortest_px = focal_px_from_fov(MAX_SEARCHED_HORIZONTAL_FOV_DEG, camera.width)
    return shortest_px, focal_px_from_fov(MIN_SEARCHED_HORIZONTAL_FOV_DEG, max(camera.height, camera.width))


def _confirm_camera(database: Path, names: Sequence[str], before: FoundCamera, workers: Workers) -> FoundCamera | None:
    """Return the model that starts from an earlier focal length, or None if it contradicts it."""
    start = replace(before.camera, distortion=(0.0, 0.0, 0.0, 0.0))
    found = try_start(database, names, start, None, START_ANGLES_DEG[0], workers)
    if found is None or found.registered < before.registered or found.cost > MAX_RIVAL_COST * before.cost:
        return None
    shift = abs(found.camera.focal_px / before.camera.focal_px - 1)
    if shift >= MAX_START_DIFFERENCE:
        return None
    return replace(found, starts_agree=before.starts_agree, start_spread=max(before.start_spread, shift))


def choose_best(starts: Sequence[FoundCamera], tried: int) -> FoundCamera:
    """Return the start with the best model, and whether the other starts ended at its focal length.

    starts: cameras that were found from several focal lengths, at least one.
    tried: number of starts that were tried, with those that found no model.
    """
    best = max(starts, key=_rank)

    def find_shift(start: FoundCamera) -> float:
        return abs(start.camera.focal_px / best.camera.focal_px - 1)

    rivals = [start for start in starts if start.cost <= MAX_RIVAL_COST * best.cost]
    allies = [start for start in starts if find_shift(start) < MAX_START_DIFFERENCE and start.is_ally]
    has_two_pairs = len({start.angle_deg for start in allies}) > 1
    is_confirmed = len(allies) >= MIN_ALLIES and len(allies) > tried / 2 and has_two_pairs
    is_unrivaled = max(map(find_shift, rivals)) < MAX_START_DIFFERENCE
    agree = is_unrivaled and (is_confirmed or (best.is_fair and len(rivals) > 1))
    fair = [find_shift(start) for start in rivals if start.is_fair]
    return replace(
        best,
        starts_agree=agree,
        start_spread=max(map(find_shift, allies + rivals if agree else rivals)),
        is_open=max(fair, default=0.0) > MAX_OPEN_DIFFERENCE,
    )


def _find_structure(
    database: Path, every: Sequence[str], names: Sequence[str], given: LensCamera, workers: Workers
) -> FoundCamera | None:
    """Return the model with a known camera, of `every` keyframe if possible, else of `names`."""
    starts = list[FoundCamera]()
    # The first pair is mostly right if all keyframes are used.
    starts += filter(None, [try_start(database, every, given, given, START_ANGLES_DEG[0], workers)])
    if starts and starts[0].is_good:
        return starts[0]
    cameras = [given, replace(given, focal_px=GIVEN_FACTOR * given.focal_px)]
    for angle_deg in START_ANGLES_DEG[1:2] if starts and starts[0].is_fair else START_ANGLES_DEG:
        for camera in cameras:
            starts += filter(None, [try_start(database, names, camera, given, angle_deg, workers)])
            if starts and (best := max(starts, key=_rank)).is_good:
                return best
    if not starts or not max(starts, key=_rank).is_fair:
        camera = replace(given, focal_px=LAST_FACTOR * given.focal_px)
        starts += filter(None, [try_start(database, names, camera, given, START_ANGLES_DEG[0], workers)])
    return max(starts, key=_rank, default=None)


def _rank(found: FoundCamera) -> tuple[float, float]:
    return round(5 * found.registered) / 5, -found.cost


def try_start(
    database: Path,
    names: Sequence[str],
    start: LensCamera,
    given: LensCamera | None,
    angle_deg: float,
    workers: Workers,
) -> FoundCamera | None:
    """Map keyframes from one start camera, and refine that camera by bundle adjustment.

    database: COLMAP database with the verified matches.
    names: image names of the keyframes in the database (8-digit indices).
    start: the camera that the mapping starts from.
    given: the camera if the user gave it, which is then kept instead of refined; else None.
    angle_deg: smallest triangulation angle of the first image pair, degrees.
    workers: number of threads, and how progress is shown.

    Returns None if fewer than 3 images or MIN_POINTS points were reconstructed, or the focal length left the plausible
    range.
    """
    camera, fov_deg = start.to_pycolmap(), math.degrees(2 * math.atan(start.width / 2 / start.focal_px))
    told = replace(workers, what=f"mapping, a try with {fov_deg:.0f} degrees")
    model = map_frames(database, names, camera, refine=False, workers=told, init_angle_deg=angle_deg)
    if model is None or model.num_reg_images() < 3 or model.num_points3D() < MIN_POINTS:
        return None
    if given is not None:
        next(iter(model.cameras.values())).params = given.to_pycolmap().params
    model = mirror_if_better(model, threads=workers.threads)
    if given is None:
        model = _adjust_camera(model, database, workers.threads)
    else:
        adjust(model, refine_focal=False, refine_lens=False, threads=workers.threads)
    if model.num_points3D() < MIN_POINTS:
        return None
    sparse = from_reconstruction(model, {})
    lens = sparse.camera
    shortest_px, longest_px = _list_focal_limits(start)
    if given is None and not shortest_px < lens.focal_px < longest_px:
        return None
    intervals = measure_lens(sparse)
    return FoundCamera(
        lens, intervals, len(sparse.frames) / len(names), measure_cost(model), model, angle_deg=angle_deg
    )


def _adjust_camera(model: Any, database: Path, threads: int) -> Any:
    change_model(model, "RADIAL")
    (camera,) = model.cameras.values()
    before_px = camera.mean_focal_length()
    for _ in range(MAX_ROUNDS):
        adjust(model, refine_focal=True, refine_lens=True, threads=threads)
        focal_px = next(iter(model.cameras.values())).mean_focal_length()
        if abs(focal_px / before_px - 1) < MAX_FOCAL_STEP:
            break
        before_px = focal_px
        model = retriangulate(model, database, threads=threads)
        if model.num_points3D() < MIN_POINTS:
            break
    return model


# -- a camera that only turns

MAX_PAIRS = 24
"""Number of image pairs that are tested for a pure rotation: those with the largest motion, since parallax grows with
it.
"""


MIN_MOTION = 0.05
"""Smallest median motion of the matches of a tested image pair, as a share of the image width; below it, noise hides
parallax.
"""


MIN_MATCHES = 30
"""Fewest matches of a tested image pair: fewer do not fix a rotation against outliers."""


MIN_PAIRS = 3
"""Fewest tested image pairs from which a focal length is estimated."""


MAX_RESIDUAL_PX = 0.7
"""A pure rotation explains the matches if its residual is at most this, pixels, for the share EXPLAINED of them."""


EXPLAINED = 0.8
"""Smallest share of the matches that a pure rotation explains."""


_FOVS_DEG = np.geomspace(22.0, 135.0, 12)
"""Fields of view, degrees, from which the best focal length is refined."""


_KABSCH_ROUNDS = 3
"""Fits of a rotation, each to the matches that the fit before explains best."""


_KEPT = 0.7
"""Share of the matches that the next fit of a rotation uses."""


def find_rotation_focal(pairs: Sequence[tuple[Array, Array]], height: int, width: int) -> float | None:
    """Find the focal length of a camera that only rotates, by fitting a rotation to the matches of each image pair.

    A camera that moves sideways along a wall resembles a rotating camera with a very long lens. So None is returned if
    the best focal length is at an end of the tested range of fields of view.

    pairs: for each image pair, the matched pixels in the first and in the second image, (N, 2) each.
    height, width: size of the images, pixels.

    Returns the focal length in pixels; None if rotations do not explain the matches (there is parallax) or too few
    pairs move.
    """
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    centered = [(first - center, second - center) for first, second in _choose_pairs(pairs, width)]
    if len(centered) < MIN_PAIRS:
        return None

    def measure(log_focal: float) -> float:
        residuals = [_measure_rotation_px(first, second, float(np.exp(log_focal))) for first, second in centered]
        return float(np.quantile(np.concatenate(residuals), EXPLAINED))

    grid = np.log([focal_px_from_fov(fov_deg, width) for fov_deg in _FOVS_DEG])
    best = int(np.argmin([measure(value) for value in grid]))
    if best in (0, len(grid) - 1):
        return None
    found = minimize_scalar(measure, bounds=(grid[best + 1], grid[best - 1]), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x)) if found.fun < MAX_RESIDUAL_PX else None


def _choose_pairs(pairs: Sequence[tuple[Array, Array]], width: int) -> list[tuple[Array, Array]]:
    rated = [
        (float(np.median(np.linalg.norm(second - first, axis=1))), place)
        for place, (first, second) in enumerate(pairs)
        if len(first) >= MIN_MATCHES
    ]
    wide = sorted((motion, place) for motion, place in rated if motion > MIN_MOTION * width)
    return [pairs[place] for _, place in wide[-MAX_PAIRS:]]


def _measure_rotation_px(first: Array, second: Array, focal_px: float) -> Array:
    """Return the residuals (N,) of pixels (N, 2) about the center after the best rotation."""
    rays, targets = (np.column_stack((xy / focal_px, np.ones(len(xy)))) for xy in (first, second))
    rays, targets = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in (rays, targets))
    kept = np.ones(len(rays), bool)
    for _ in range(_KABSCH_ROUNDS):
        U, _, Vt = np.linalg.svd(targets[kept].T @ rays[kept])
        turned = rays @ (U @ np.diag((1, 1, np.linalg.det(U @ Vt))) @ Vt).T
        residual_px = np.linalg.norm(focal_px * turned[:, :2] / np.maximum(turned[:, 2:], 1e-3) - second, axis=1)
        kept = residual_px <= np.quantile(residual_px, _KEPT)
    return residual_px
