"""Estimate an unknown camera: map some keyframes from several fields of view, and keep the camera of the best map.

Photos of several image shapes have one camera for each shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from stadia.data.formats.photo_lens import read_lens
from stadia.geometry.cameras import focal_px_from_fov
from stadia.sfm.frame_stream import MIN_FRAMES, FrameStream
from stadia.sfm.pair_matching import list_photo_pairs, match_pairs, read_features, write_database, write_features
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
from stadia.sfm.sparse_map import Array, LensCamera, SparseMap, from_reconstruction, import_pycolmap

PARAMETERS = ("focal_px", "center_x_px", "center_y_px", "k1", "k2", "p1", "p2")

INFLATION = 4.0
"""Factor on standard deviations from the residuals: nearby residuals are correlated, and no real lens fits the
distortion model exactly.
"""

MAX_FOCAL_DEVIATION = 0.04
"""Largest relative standard deviation of a focal length that is reported as estimated."""

MIN_FOCAL_DEVIATION = 0.01
"""Relative standard deviation that is added (in squares) to the one of every focal length.

Rolling shutters and lenses that the model does not describe move a focal length of a real video by up to 3 %: the
intervals of nine recordings with a known focal length (7-Scenes, TUM, a HoloLens, a phone) hold it with this value,
and of six with half of it.
"""

MAX_USED_DEVIATION = 0.1
"""Largest relative standard deviation of a focal length that a map uses; above it, an assumed field of view is better.
"""

MIN_TURN_DEG = 15.0
"""Smallest rotation between two keyframes, degrees, with which a focal length is reported as estimated. With less
rotation, rolling shutter and unusual lenses influence it more.
"""

MIN_NEAR = 1e-3
"""Smallest depth of an observed point that counts, as a share of the median depth: derivatives of a wrong point at the
camera would outweigh all others.
"""

_STEP = 1e-6


@dataclass(frozen=True, slots=True)
class LensIntervals:
    """Standard deviations of the parameters of a camera.

    deviations: standard deviation by the names in PARAMETERS; 0 for a parameter that was held fixed, very large for one
        that the images do not determine.
    turn_deg: largest rotation between two keyframes, degrees.
    """

    deviations: dict[str, float]
    turn_deg: float

    def widen_focal(self, deviation_px: float) -> LensIntervals:
        """Return a copy with an independent standard deviation, pixels, added in squares to the focal length's."""
        focal_px = float(np.hypot(self.deviations["focal_px"], deviation_px))
        return replace(self, deviations={**self.deviations, "focal_px": focal_px})

    def is_focal_usable(self, camera: LensCamera) -> bool:
        """Return whether the estimated focal length of `camera` is more accurate than an assumed one (see
        MAX_USED_DEVIATION).
        """
        return self.deviations["focal_px"] <= MAX_USED_DEVIATION * camera.focal_px

    def is_focal_determined(self, camera: LensCamera) -> bool:
        """Return whether the focal length of `camera` is accurate enough, and the camera turned enough, to report it as
        estimated.
        """
        deviation = self.deviations["focal_px"] / camera.focal_px
        return deviation <= MAX_FOCAL_DEVIATION and self.turn_deg >= MIN_TURN_DEG


def measure_lens(sparse: SparseMap, free: tuple[str, ...] = ("focal_px", "k1", "k2")) -> LensIntervals:
    """Estimate the standard deviations of camera parameters in a map, while all poses and points are free too.

    sparse: the map.
    free: names of the parameters that were adjusted; all other parameters get the deviation 0.
    """
    information, _ = eliminate_scene(sparse, differentiate_lens(sparse, free))
    deviations = dict.fromkeys(PARAMETERS, 0.0)
    deviations |= dict(zip(free, np.sqrt(np.diag(invert_information(information))).tolist(), strict=True))
    return LensIntervals(deviations, measure_turn_deg(sparse))


def eliminate_scene(sparse: SparseMap, J: Array) -> tuple[Array, Array]:
    """Eliminate poses and points from the normal equations of a bundle adjustment, so that only L parameters remain.

    sparse: the map.
    J: (M, 2, L), derivatives of the M projected pixels with respect to the L parameters.

    Returns the information matrix (L, L) of the parameters and the gradient (L,) of the cost.
    """
    J_pose, J_point = _differentiate_poses(sparse)
    residuals = sparse.residuals_px()
    noise_px = max(sparse.measure_noise_px(), 1e-2)
    weight = 1 / np.sqrt(1 + (residuals.ravel() / (3 * noise_px)) ** 2) / noise_px
    depth = sparse.in_camera()[:, 2]
    weight *= np.repeat(depth > MIN_NEAR * np.median(depth), 2)
    frames, points, count = len(sparse.frames), len(sparse.points), J.shape[-1]
    rows = np.arange(2 * len(residuals)).reshape(-1, 2)
    A = sp.csr_matrix(J.reshape(-1, count) * weight[:, None])
    B = _place(J_pose, rows, sparse.observed[:, 0], 6, frames).multiply(weight[:, None]).tocsr()
    C = _place(J_point, rows, sparse.observed[:, 1], 3, points).multiply(weight[:, None]).tocsr()
    cameras = sp.hstack([A, B]).tocsr()
    blocks = np.zeros((points, 3, 3))
    of_point = J_point * weight.reshape(-1, 2)[:, :, None]
    np.add.at(blocks, sparse.observed[:, 1], np.einsum("mki,mkj->mij", of_point, of_point))
    inverses = np.linalg.pinv(blocks, rcond=1e-10, hermitian=True)
    inverse = sp.bsr_matrix(
        (inverses, np.arange(points), np.arange(points + 1)), shape=(3 * points, 3 * points)
    ).tocsr()
    to_points = (cameras.T @ C).tocsr() @ inverse
    reduced = np.asarray((cameras.T @ cameras - to_points @ (C.T @ cameras)).todense())
    weighted = residuals.ravel() * weight
    gradient = cameras.T @ weighted - to_points @ (C.T @ weighted)
    of_poses = reduced[:count, count:] @ _pseudo_inverse(reduced[count:, count:])
    return reduced[:count, :count] - of_poses @ reduced[count:, :count], gradient[:count] - of_poses @ gradient[count:]


def invert_information(information: Array) -> Array:
    """Return the covariance (L, L) of parameters from their information matrix (L, L), enlarged by INFLATION squared.

    Undetermined parameters get a very large variance.
    """
    scale = np.sqrt(np.maximum(np.diag(information), 1e-30))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    return INFLATION**2 * (vectors / np.maximum(values, 1e-9)) @ vectors.T / np.outer(scale, scale)


def _pseudo_inverse(symmetric: Array) -> Array:
    scale = np.sqrt(np.maximum(np.diag(symmetric), 1e-30))
    values, vectors = np.linalg.eigh(symmetric / np.outer(scale, scale))
    kept = values > 1e-9 * values[-1]
    kept[:7] = False
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)


def _place(J: Array, rows: NDArray[np.int64], column: NDArray[np.int64], size: int, count: int) -> sp.csr_matrix:
    """Return (2M, size count) sparse from blocks (M, 2, size) in the block columns `column` (M,)."""
    columns = (column[:, None] * size + np.arange(size))[:, None, :].repeat(2, 1)
    place = rows[:, :, None].repeat(size, 2)
    return sp.csr_matrix((J.ravel(), (place.ravel(), columns.ravel())), shape=(rows.size, size * count))


def differentiate_lens(sparse: SparseMap, names: tuple[str, ...]) -> Array:
    """Differentiate the M projected pixels of a map with respect to N camera parameters; returns (M, 2, N).

    sparse: the map.
    names: names of the parameters, from PARAMETERS.
    """
    inside = sparse.in_camera()
    x, y = inside[:, 0] / inside[:, 2], inside[:, 1] / inside[:, 2]
    squared, f = x**2 + y**2, sparse.camera.focal_px
    zero, one = np.zeros_like(x), np.ones_like(x)
    direction = (sparse.camera.project(inside) - np.array(sparse.camera.center_px)) / f
    by_name = {
        "focal_px": direction,
        "center_x_px": np.column_stack((one, zero)),
        "center_y_px": np.column_stack((zero, one)),
        "k1": f * np.column_stack((x * squared, y * squared)),
        "k2": f * np.column_stack((x * squared**2, y * squared**2)),
        "p1": f * np.column_stack((2 * x * y, squared + 2 * y**2)),
        "p2": f * np.column_stack((squared + 2 * x**2, 2 * x * y)),
    }
    return np.stack([by_name[name] for name in names], -1)


def _differentiate_poses(sparse: SparseMap) -> tuple[Array, Array]:
    """Return derivatives of the pixels by each camera's turn and shift (M, 2, 6), and by the point (M, 2, 3)."""
    inside = sparse.in_camera()
    J = np.empty((len(inside), 2, 3))
    base = sparse.camera.project(inside)
    for axis in range(3):
        step = _STEP * np.abs(inside[:, 2])
        moved = inside.copy()
        moved[:, axis] += step
        J[:, :, axis] = (sparse.camera.project(moved) - base) / step[:, None]
    cross = np.zeros((len(inside), 3, 3))
    x, y, z = inside.T
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = z, -y, x
    cross[:, 1, 0], cross[:, 2, 0], cross[:, 2, 1] = -z, y, -x
    R = sparse.T_camera_world[sparse.observed[:, 0], :3, :3]
    return np.concatenate((J @ cross, J), -1), J @ R


def measure_turn_deg(sparse: SparseMap) -> float:
    """Return the largest rotation angle between any two keyframes of a map, degrees."""
    R = sparse.T_camera_world[:, :3, :3]
    cosine = (np.einsum("aij,bij->ab", R, R) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine.min(initial=1.0), -1, 1))))


MIN_READOUT_FRAMES = 0.15
"""Smallest time from the readout of the first image row to the last, in frame intervals, that is reported as a rolling
shutter.
"""

MIN_DEVIATIONS = 3.0
MIN_ROW_KEY_FRAMES, MAX_ROW_KEY_FRAMES = 4, 120
_LENS = ("focal_px", "k1", "k2")


@dataclass(frozen=True, slots=True)
class RowReadout:
    """Time that the sensor takes from the readout of the first image row to the last (rolling shutter).

    frames: this time in frame intervals; negative if the last row is read first.
    deviation: standard deviation of `frames`.
    """

    frames: float
    deviation: float

    @property
    def is_rolling(self) -> bool:
        """Return whether the shutter rolls.

        It does if the readout time exceeds MIN_READOUT_FRAMES and MIN_DEVIATIONS standard deviations.
        """
        return abs(self.frames) > max(MIN_READOUT_FRAMES, MIN_DEVIATIONS * self.deviation)


def measure_readout(sparse: SparseMap) -> RowReadout | None:
    """Return the readout time of the rows, of the first MAX_ROW_KEY_FRAMES keyframes.

    Poses and points of the map are fitted for `sparse.readout`, and the result adds to it. None for fewer than
    MIN_ROW_KEY_FRAMES.
    """
    if len(sparse.frames) < MIN_ROW_KEY_FRAMES:
        return None
    first = sparse.observed[:, 0] < MAX_ROW_KEY_FRAMES
    sparse = replace(
        sparse,
        frames=sparse.frames[:MAX_ROW_KEY_FRAMES],
        T_camera_world=sparse.T_camera_world[:MAX_ROW_KEY_FRAMES],
        observed=sparse.observed[first],
        xy=sparse.xy[first],
    )
    J = np.concatenate((sparse.differentiate_rows()[..., None], differentiate_lens(sparse, _LENS)), -1)
    information, gradient = eliminate_scene(sparse, J)
    step = np.linalg.lstsq(information, -gradient, rcond=1e-12)[0]
    deviation = float(np.sqrt(invert_information(information)[0, 0]))
    return RowReadout(sparse.readout + float(step[0]), deviation)


SEARCH_FRAMES = 30
"""Number of keyframes, from the middle of the video, that each start value of the focal length is tried on."""

MAX_RIVAL_COST = 1.2
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

MIN_ALLY_REGISTERED, MAX_ALLY_COST = 1 / 3, 0.5
"""Smallest share of keyframes, and largest cost, of a start that supports the focal length of others."""

MAX_OPEN_DIFFERENCE = 0.25
"""Relative difference of two focal lengths of fair models from which the focal length is open: a plane, or a camera
that only turns, fits with each of them, and no further start changes that.
"""

AGAIN_FACTORS = 0.8, 1.25
"""Factors on the best focal length found so far: further starts begin there if other starts ended elsewhere."""

MAX_FOCAL_STEP = 0.01
MAX_ROUNDS = 4
"""Most rounds of triangulation and adjustment; the rounds end when the focal length changes by less than MAX_FOCAL_STEP
(relative).
"""

START_ANGLES_DEG = (2.0, 6.0, 16.0)
"""Smallest triangulation angles, degrees, of the first image pair of a COLMAP model; tried in this order.

A wrong first pair bends the camera trajectory, and another angle selects another pair.
"""

GIVEN_FACTOR = 0.8  # A second start with this share of the given focal length finds another first pair.
LAST_FACTOR = 1.25
"""Factor on the focal length of one last start if no earlier start explains the images.

The adjustment of a camera that moves little can stay in one local minimum.
"""
GOOD_REGISTERED, GOOD_COST = 0.8, 0.2
FAIR_COST = 0.3  # largest cost of real images with the right first pair

MIN_FOV_DEG, MAX_FOV_DEG = 20.0, 140.0
ASSUMED_FOV_DEG = 60.0
"""Horizontal field of view, degrees, that is assumed if the images do not determine it: between dashcams' and phones'.
"""


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
        if not starts:
            continue
        best = choose_best(starts, tried)
        if best.starts_agree or best.is_open or (best.is_fair and not best.may_turn):
            break
        if best.is_fair:  # A right result is found again from other focal lengths and another first pair.
            plain = replace(best.camera, distortion=(0.0, 0.0, 0.0, 0.0))
            cameras = [replace(plain, focal_px=factor * plain.focal_px) for factor in AGAIN_FACTORS]
    return choose_best(starts, tried) if starts else None


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
    shortest_px, longest_px = (focal_px_from_fov(deg, start.width) for deg in (MAX_FOV_DEG, MIN_FOV_DEG))
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


MAX_PAIRS = 24
"""Number of image pairs that are tested for a pure rotation: those with the largest motion, since parallax grows with
it.
"""

MIN_MOTION = 0.05
"""Smallest median motion of the matches of a tested image pair, as a share of the image width; below it, noise hides
parallax.
"""

MIN_MATCHES, MIN_PAIRS = 30, 3
MAX_RESIDUAL_PX = 0.7
"""A pure rotation explains the matches if its residual is at most this, pixels, for the share EXPLAINED of them."""

EXPLAINED = 0.8
_FOVS_DEG = np.geomspace(22.0, 135.0, 12)
_KABSCH_ROUNDS, _KEPT = 3, 0.7


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


# -- photos of several shapes, each with a camera of its own

FOCAL_SHARE = 1.2
"""Start value of an unknown photo camera's focal length over the longer image side, as in COLMAP."""

MAX_RETURN_PX = 0.5
"""Largest distance, pixels, between a feature and itself after it was moved into the first camera's image and back. A
feature with a larger distance is outside the range that the first lens is known in.
"""

ENOUGH = 0.95
"""No other first image pair is tried if this share of the photos has a pose."""


def unify_photo_cameras(
    stream: FrameStream, files: Mapping[int, Path], work: Path, workers: Workers
) -> tuple[dict[int, Path], list[LensCamera]]:
    """Move the features of photos of several image shapes to their position in the camera of the first shape.

    Afterwards one camera model fits all photos.

    stream: the photos.
    files: feature file of each photo, by the photo's index.
    work: folder for the moved features and a first map.
    workers: number of threads, and how progress is shown.

    Returns the new feature files by photo index, without photos whose camera is unknown, and the cameras of all shapes.

    Raises DataError if too few photos can be mapped.
    """
    assert stream.photos is not None
    cameras, sizes = stream.photos.cameras, stream.small_sizes()
    known = find_photo_cameras(files, cameras, sizes, stream.find_files(), work, workers)
    files = {index: file for index, file in files.items() if known[cameras[index]] is not None}
    if len(files) < MIN_FRAMES:
        raise stream.make_no_map_error("photos of several shapes without enough matches", "photos of one scene")
    lenses = [lens or LensCamera.from_fov(ASSUMED_FOV_DEG, *size) for lens, size in zip(known, sizes, strict=True)]
    return move_features(files, cameras, lenses, work), lenses


def find_photo_cameras(
    files: Mapping[int, Path],
    cameras: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    photos: Sequence[Path],
    work: Path,
    workers: Workers,
) -> list[LensCamera | None]:
    """Estimate one camera for each image shape among the photos, by a first map with all cameras as free parameters.

    files: feature file of each photo, by the photo's index.
    cameras: for every photo, the number of its shape (an index into `sizes`).
    sizes: (height, width) of the small images of each shape, pixels.
    photos: image files of all photos; the focal length in their EXIF data is the start value if present.
    work: folder for the database of the first map.
    workers: number of threads, and how progress is shown.

    Returns a camera for each shape; None for a shape whose photos all have no pose.
    """
    pycolmap, database = import_pycolmap(), work / "photos.db"
    starts = list[Any]()
    for row, (height, width) in enumerate(sizes):
        focal_mm, longer_mm = read_lens(photos[cameras.index(row)]) or (FOCAL_SHARE, 1.0)
        focal_px = focal_mm / longer_mm * max(height, width)
        starts.append(pycolmap.Camera.create_from_model_name(row + 1, "RADIAL", focal_px, width, height))
    write_database(database, files, [starts[cameras[index]] for index in sorted(files)], None)
    match_pairs(database, list_photo_pairs(files), workers)
    names, best = [f"{index:08d}" for index in sorted(files)], None
    for angle_deg in reversed(START_ANGLES_DEG):
        model = map_frames(database, names, starts[0], refine=True, workers=workers, init_angle_deg=angle_deg)
        if model is not None and (best is None or model.num_reg_images() > best.num_reg_images()):
            best = model
        if best is not None and best.num_reg_images() >= ENOUGH * len(names):
            break
    if best is None:
        return [None] * len(sizes)
    adjust(best, refine_focal=True, refine_lens=True, threads=workers.threads)
    found = {
        image.camera_id: LensCamera.from_pycolmap(image.camera) for image in best.images.values() if image.has_pose
    }
    return [found.get(row + 1) for row in range(len(sizes))]


def move_features(
    files: Mapping[int, Path], cameras: Sequence[int], lenses: Sequence[LensCamera], work: Path
) -> dict[int, Path]:
    """Write features as the camera of the first shape would see them.

    Features that do not return to their place when moved to the first camera and back are left out. The reason is that
    the first lens is known only within its own image.

    files: feature file of each photo, by the photo's index.
    cameras: for every photo, the number of its shape (an index into `lenses`).
    lenses: the camera of each shape.
    work: folder for the new files.

    Returns the new files by photo index.
    """
    moved = dict[int, Path]()
    for index, file in files.items():
        features, moved[index] = read_features(file), work / f"moved-{index:08d}.npz"
        own, before = lenses[cameras[index]], np.asarray(features.xy, np.float64)
        xy = move_places(before, own, lenses[0])
        comes_back = np.linalg.norm(move_places(xy, lenses[0], own) - before, axis=1) < MAX_RETURN_PX
        write_features(moved[index], replace(features, xy=xy.astype(np.float32)).select(comes_back))
    return moved


def move_places(xy: Array, source: LensCamera, target: LensCamera) -> Array:
    """Return the pixels (N, 2) at which the camera `target` sees the rays that the camera `source` sees at pixels xy
    (N, 2).

    Both cameras have the same position and orientation.
    """
    if source == target:
        return xy
    rays = cv2.undistortPoints(xy[:, None], source.K, np.array(source.distortion), criteria=(3, 50, 1e-9))[:, 0]
    return target.project(np.column_stack((rays, np.ones(len(rays)))))
