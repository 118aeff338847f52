"""Find an unknown camera: map from several fields of view, and keep the best. Photos of several shapes have several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.optimize import minimize_scalar

from stadia.data.formats.photo_lens import read_lens
from stadia.geometry.numpy_camera import focal_px_from_fov
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.key_frames import MIN_FRAMES
from stadia.sfm.lens_intervals import MIN_TURN_DEG, LensIntervals, measure_lens
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
from stadia.sfm.sparse_map import Array, LensCamera, from_reconstruction, import_pycolmap

SEARCH_FRAMES = 30
"""Key frames that a start is tried with."""

MAX_RIVAL_COST = 1.2
MAX_START_DIFFERENCE = 0.04
"""A focal length is claimed if two starts lead to it, and all starts of up to MAX_RIVAL_COST times the least cost,
since the cost has several minima.
"""

AGAIN_FACTORS = 0.8, 1.25
"""Of the best focal length, in further starts if others contradict it."""

MAX_FOCAL_STEP = 0.01
MAX_ROUNDS = 4
"""Points are triangulated again until the focal length stays within MAX_FOCAL_STEP."""

START_ANGLES_DEG = (2.0, 6.0, 16.0)
"""Least angles of triangulation of the first pair, in this order: a wrong pair bends the path."""

GIVEN_FACTOR = 0.8  # of a given focal length in a second start, which finds another first pair
LAST_FACTOR = 1.25
"""Used if no start explains the images: a camera that moves little can stay in one minimum."""
GOOD_REGISTERED, GOOD_COST = 0.8, 0.2
FAIR_COST = 0.3  # of real images with the right first pair

MIN_FOV_DEG, MAX_FOV_DEG = 20.0, 140.0
ASSUMED_FOV_DEG = 60.0
"""Field of view of a camera that the motion does not determine: between dashcams and phones."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundCamera:
    """A camera of the small frames with its deviations.

    registered: share of the tried key frames that were placed.  cost: of `measure_cost`.
    model: the pycolmap.Reconstruction of the tried key frames, which the other frames continue.
    starts_agree: whether other starts with similar cost lead to this focal length.
    start_spread: their largest relative difference.
    """

    camera: LensCamera
    intervals: LensIntervals
    registered: float
    cost: float
    model: Any
    starts_agree: bool = True
    start_spread: float = 0.0

    @property
    def is_good(self) -> bool:
        """Return whether nearly all images are placed, so well that no other start is needed."""
        return self.registered >= GOOD_REGISTERED and self.cost < GOOD_COST

    @property
    def does_turn(self) -> bool:
        """Return whether the camera turns enough to claim a focal length."""
        return self.intervals.turn_deg >= MIN_TURN_DEG

    @property
    def is_fair(self) -> bool:
        """Return whether nearly all images are placed, with the residuals of a right first pair."""
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
    """Return camera and model of SEARCH_FRAMES key frames; None if no start places three of them.

    frames: indices of the key frames; the middle ones are tried.
    given: a known camera: then only the structure is searched, since the first pair can be wrong.
    before: found with fewer matches; if starts agreed on it, and one more comes out the same, no other is tried.
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
    starts = list[FoundCamera]()
    for angle_deg in START_ANGLES_DEG:
        found = [try_start(database, names, camera, None, angle_deg, workers) for camera in cameras]
        starts += [start for start in found if start is not None]
        if not starts:
            continue
        best = _choose_best(starts)
        if best.is_fair and (best.starts_agree or not best.does_turn):
            break
        if best.is_fair:  # from other focal lengths and another first pair it is found again, or it is none
            plain = replace(best.camera, distortion=(0.0, 0.0, 0.0, 0.0))
            cameras = [replace(plain, focal_px=factor * plain.focal_px) for factor in AGAIN_FACTORS]
    return _choose_best(starts) if starts else None


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


def _choose_best(starts: Sequence[FoundCamera]) -> FoundCamera:
    best = max(starts, key=_rank)
    rivals = [start for start in starts if start.cost <= MAX_RIVAL_COST * best.cost]
    spread = max(abs(start.camera.focal_px / best.camera.focal_px - 1) for start in rivals)
    agree = best.is_fair and len(rivals) > 1 and spread < MAX_START_DIFFERENCE
    return replace(best, starts_agree=agree, start_spread=spread)


def _find_structure(
    database: Path, every: Sequence[str], names: Sequence[str], given: LensCamera, workers: Workers
) -> FoundCamera | None:
    """Return the model with a known camera, of `every` key frame if possible, else of `names`."""
    starts = list[FoundCamera]()
    # with all key frames the first pair is mostly right
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
    """Map the frames from one camera and angle, and return the refined camera, or None if too little is mapped."""
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
    return FoundCamera(lens, intervals, len(sparse.frames) / len(names), measure_cost(model), model)


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
"""Pairs that are tried, with the largest motion: parallax grows with it."""

MIN_MOTION = 0.05
"""Least median motion of a pair, as a share of the width: below, noise hides parallax."""

MIN_MATCHES, MIN_PAIRS = 30, 3
MAX_RESIDUAL_PX = 0.7
"""Rotations explain EXPLAINED of the matches of a turning camera within this distance."""

EXPLAINED = 0.8
_FOVS_DEG = np.geomspace(22.0, 135.0, 12)
_KABSCH_ROUNDS, _KEPT = 3, 0.7


def find_rotation_focal(pairs: Sequence[tuple[Array, Array]], height: int, width: int) -> float | None:
    """Return the focal length, pixels, of a camera that only turns; None if the matches have parallax.

    A camera that moves along a wall resembles a very long lens that turns, so the ends of the range do not count.

    pairs: pixels of the matches of two images, (N, 2) each.
    height: of the images.
    width: of the images.
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
"""Focal length over the longer side that a camera starts from, as in COLMAP."""

MAX_RETURN_PX = 0.5
"""Difference after a way to the first camera and back, from which a place is beyond a lens."""

ENOUGH = 0.95
"""Share of the photos from which no other first pair is tried."""


def unify_photo_cameras(
    stream: FrameStream, files: Mapping[int, Path], work: Path, workers: Workers
) -> tuple[dict[int, Path], list[LensCamera]]:
    """Return the features of photos of several shapes as the first camera would see them, and all cameras.

    files: features by photo.
    work: a folder for the features and a first map.

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
    """Return the camera of each shape by a first map in which all are free; None if none of its photos was placed.

    files: features by photo.
    cameras: rows of `sizes`, of all photos.
    sizes: height and width of the small images of each camera.
    photos: whose EXIF may have the focal length to start from.
    work: a folder for the first map.
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
    """Write features as the first camera would see them, and return their files.

    Features that would not come back are left out: the first camera's lens is known only within its own image.

    cameras: rows of `lenses`, of all photos.
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
    """Return where another camera sees what a camera sees at places (N, 2), pixels."""
    if source == target:
        return xy
    rays = cv2.undistortPoints(xy[:, None], source.K, np.array(source.distortion), criteria=(3, 50, 1e-9))[:, 0]
    return target.project(np.column_stack((rays, np.ones(len(rays)))))
