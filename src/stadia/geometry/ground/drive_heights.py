"""Estimate the camera height of several drives and each drive's horizon from boxes of objects; find changed mounts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from stadia.core.errors import GeometryError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DRIVE_PARTS = 8  # parts of a drive, because a camera may be moved during it
MIN_PART_FRAMES = 25
_MIN_IOU, _MEMORY_FRAMES = 0.3, 3  # smallest overlap of an object's boxes, and frames in which it may be missing


def track_boxes(frame: Integers, box: Floats) -> Integers:
    """Return the track number (N,) of each box. Tracks are numbered from 0 in the order of their first frame.

    A box is joined to the track whose last box it overlaps most; the pairs with the largest overlap are joined first.

    frame: (N,) frame index of each box, in order of time.
    box: (N, 4) left, top, right, bottom in pixels.
    """
    track = np.full(len(frame), -1, np.int64)
    last: dict[int, int] = {}  # last box of each track
    count = 0
    for now in np.unique(frame):
        rows = np.flatnonzero(frame == now)
        last = {known_track: row for known_track, row in last.items() if frame[row] >= now - _MEMORY_FRAMES}
        if last:
            tracks = list(last)
            overlap = _overlaps(box[list(last.values())], box[rows]).ravel()
            for pair in (-overlap).argsort(stable=True).tolist():
                one_track, row = tracks[pair // len(rows)], rows[pair % len(rows)]
                if overlap[pair] < _MIN_IOU:
                    break
                if track[row] < 0 and not (track[rows] == one_track).any():
                    track[row] = one_track
        for row in rows.tolist():
            if track[row] < 0:
                track[row] = count
                count += 1
            last[int(track[row])] = row
    return track


def _overlaps(a: Floats, b: Floats) -> Floats:
    """Return intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clip(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return both / (area_a[:, None] + area_b[None] - both).clip(min=1e-9)


TOP_BEHIND_FOOT_M = 1.2
"""The top of a car is this many metres behind its lowest visible edge. So a high camera sees a higher box."""

PITCH_STD_DEG, DRIVE_PITCH_STD_DEG, BOX_STD_PX, HEIGHT_STD = 0.3, 0.6, 0.5, 0.08
"""Standard deviations: pitch within a drive, pitch between drives, a box's edge, and the log height within a class."""

MIN_HEIGHT_PX = 8.0  # smallest expected height of an object in the image
_ROUNDS, _MIN_OBJECTS, _INIT_HEIGHT_M = 60, 12, 1.5
_DRAWS = 100  # bootstrap draws over drives
_VALUES_AT_ONCE = 1 << 20  # largest number of draws times detections in one fit
_LATE_POWER = 1.5  # power of Cauchy's weights in the second half, which nearly ignores twice the class's height


@dataclass(frozen=True, slots=True)
class DriveHeights:
    """The camera height that D drives with one camera share.

    height_m: the camera height in metres.
    low_m, high_m: its 95 % confidence interval.
    horizon_px: (D,) row of each drive's horizon, measured downwards from the principal point.
    inlier_count: number of objects with a detection that keeps at least half of its weight.
    """

    height_m: float
    low_m: float
    high_m: float
    horizon_px: Floats
    inlier_count: int


def estimate_drive_heights(
    drive: Integers, track: Integers, foot_px: Floats, height_px: Floats, height_m: Floats, *, focal_px: float
) -> DriveHeights:
    """Return one camera height for all drives, and the horizon of each drive.

    drive: (N,) number of each detection's drive, counted from 0.
    track: (N,) number of the object within its drive. All detections of one object share a weight of 1.
    foot_px: (N,) row of the box's lower edge, measured downwards from the principal point.
    height_px: (N,) height of the box in pixels.
    height_m: (N,) height in metres that is assumed for the object's class.
    focal_px: focal length along y in pixels.

    Detections with a small expected height are left out. A choice by measured height would prefer far objects that are
    taller than assumed.

    Raises GeometryError for fewer than 12 objects.
    """
    if len(drive) == 0:
        raise _too_few_error(0)
    of_object = np.stack((drive, track))
    _, place, counts = np.unique(of_object, axis=1, return_inverse=True, return_counts=True)
    weight = 1 / counts[place.ravel()]
    (height,), (horizon,), (weights,) = _fit(drive, weight[None], foot_px, height_px, height_m, focal_px)
    inlier_count = np.unique(of_object[:, weights > 0.5 * weight], axis=1).shape[1]
    if inlier_count < _MIN_OBJECTS or not 0 < height < math.inf:
        raise _too_few_error(inlier_count)
    random = np.random.default_rng(0)
    drives = int(drive.max()) + 1
    draws = random.integers(drives, size=(_DRAWS, drives))
    count, logs = max(1, _VALUES_AT_ONCE // len(drive)), list[float]()
    for first in range(0, _DRAWS, count):
        times = np.stack([np.bincount(drawn, minlength=drives)[drive] for drawn in draws[first : first + count]])
        again = _fit(drive, weight * times, foot_px, height_px, height_m, focal_px)[0]
        logs += [math.log(drawn_m) for drawn_m in again if 0 < drawn_m < math.inf]
    spread = float(np.std(logs, ddof=1)) if len(logs) > _DRAWS // 2 else math.inf
    width = math.hypot(1.96 * spread, 1.96 * HEIGHT_STD / math.sqrt(inlier_count))
    return DriveHeights(height, height * math.exp(-width), height * math.exp(width), horizon, inlier_count)


def _too_few_error(inlier_count: int) -> GeometryError:
    found, fix = f"{inlier_count} objects that agree", "take more frames or drives"
    return GeometryError("camera height", found=found, expected=f"at least {_MIN_OBJECTS}", fix=fix)


def _fit(
    drive: Integers, weight: Floats, foot: Floats, px: Floats, metres: Floats, focal_px: float
) -> tuple[list[float], Floats, Floats]:
    """Fit px / metres = (foot - horizon) / height for each row of `weight` (B, N), reweighted each round.

    Returns B heights, horizons (B, D), weights (B, N).
    """
    horizon = np.zeros((len(weight), int(drive.max()) + 1))
    per_m = np.full((len(weight), 1), 1 / _INIT_HEIGHT_M)
    between, kept = focal_px * math.radians(DRIVE_PITCH_STD_DEG), weight
    for turn in range(_ROUNDS):
        below = (foot - horizon[:, drive]).clip(min=1.0)
        flat = _correct_length(px, below, metres, 1 / per_m, focal_px) / metres
        by_pitch = per_m * focal_px * math.radians(PITCH_STD_DEG)
        deviation = np.sqrt((HEIGHT_STD * per_m * below) ** 2 + by_pitch**2 + (BOX_STD_PX / metres) ** 2)
        error = (flat - per_m * (foot - horizon[:, drive])) / deviation
        power = 1 if turn < _ROUNDS // 2 else _LATE_POWER
        kept = np.where(per_m * below * metres >= MIN_HEIGHT_PX, weight / (1 + error**2) ** power, 0.0)
        per_m, level = _fit_drive_lines(drive, kept / deviation**2, foot, flat, 1 / (per_m * between) ** 2)
        horizon = level / per_m
    return (1 / per_m)[:, 0].tolist(), horizon, kept


def _fit_drive_lines(drive: Integers, precision: Floats, x: Floats, y: Floats, alike: Floats) -> tuple[Floats, Floats]:
    """Fit slope (B, 1) and level (B, D) of each drive in y = slope x - level.

    precision, y: (B, N).
    x: (N,).
    alike: (B, 1) precision of levels about their mean.
    """
    members = csr_array((np.ones(len(drive)), (np.arange(len(drive)), drive)))  # (N, D), 1 for the drive of each

    def total(values: Floats | float) -> Floats:
        return (precision * values) @ members

    def add(values: Floats) -> Floats:
        return values.sum(1, keepdims=True)

    sure = total(1.0)
    some = sure.clip(min=np.finfo(np.float64).tiny)
    x_of, y_of = total(x) / some, total(y) / some
    within_x, within_y = x - x_of[:, drive], y - y_of[:, drive]
    share = sure * alike / (sure + alike)
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN if nothing determines a line, as `fit` expects
        x_mean, y_mean = add(share * x_of) / add(share), add(share * y_of) / add(share)
        across = add(share * (x_of - x_mean) * (y_of - y_mean)) + add(precision * within_x * within_y)
        slope = across / (add(share * (x_of - x_mean) ** 2) + add(precision * within_x**2))
    mean = slope * x_mean - y_mean
    return slope, (sure * (slope * x_of - y_of) + alike * mean) / (sure + alike)


def _correct_length(px: Floats, below: Floats, metres: Floats, height_m: Floats, focal_px: float) -> Floats:
    """Return the boxes' heights without the objects' length: see TOP_BEHIND_FOOT_M."""
    away = focal_px * height_m / below
    seen = 1 - (1 - metres / height_m) * away / (away + TOP_BEHIND_FOOT_M)
    return px * (metres / height_m) / seen


# -- detect whether camera heights of a video belong to more than one mount

MIN_VALUES = 5  # smallest number of values for a meaningful median of a place

MIN_HEIGHT_FACTOR, MIN_SIDE_SHARE = 1.2, 0.1
"""Two mounts differ by at least this factor in height, and each has at least this share of the values."""


@dataclass(frozen=True, slots=True)
class MountSplit:
    """The two heights at which a camera was mounted.

    low_m, high_m: median heights of the two mounts in metres.
    low, high: names of the places that belong to the lower and to the higher mount.
    """

    low_m: float
    high_m: float
    low: tuple[str, ...]
    high: tuple[str, ...]


def find_mount_split(place: NDArray[np.str_], log_heights: NDArray[np.float64]) -> MountSplit | None:
    """Return the two heights at which a camera was mounted, or None if one height explains all values.

    Places are sorted by their median heights. The widest gap between neighbors separates the two mounts.

    place: (N,) name of the drive, or of the part of a drive, of each value.
    log_heights: (N,) logarithms of camera heights in metres.
    """
    names, counts = np.unique(place, return_counts=True)
    names, counts = names[counts >= MIN_VALUES], counts[counts >= MIN_VALUES]
    if len(names) < 2:
        return None
    medians = np.array([np.median(log_heights[place == name]) for name in names])
    order = np.argsort(medians)
    names, counts, medians = names[order], counts[order], medians[order]
    share = np.cumsum(counts)[:-1] / counts.sum()
    gaps = np.where(np.minimum(share, 1 - share) >= MIN_SIDE_SHARE, np.diff(medians), 0)
    split = int(np.argmax(gaps)) + 1
    if gaps[split - 1] <= math.log(MIN_HEIGHT_FACTOR):
        return None
    low_m, high_m = (float(np.median(np.exp(some))) for some in (medians[:split], medians[split:]))
    return MountSplit(low_m, high_m, tuple(names[:split].tolist()), tuple(names[split:].tolist()))


def transform_box(box: Floats, K: Floats, K_to: Floats) -> Floats:
    """Convert a box (4,) of left, top, right, bottom to the pixels of another camera with the same orientation.

    K, K_to: (3, 3) intrinsics before and after.
    """
    scale = np.tile((K_to[0, 0] / K[0, 0], K_to[1, 1] / K[1, 1]), 2)
    return (box - np.tile(K[:2, 2], 2)) * scale + np.tile(K_to[:2, 2], 2)
