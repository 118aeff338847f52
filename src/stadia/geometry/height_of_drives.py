"""Estimate one camera height and each drive's horizon from boxes of many objects of a class. No depth, no network.

The foot of a box relates to the horizon as the camera's height to the road, and the box's height to the object's
height. There is one height for all drives of a camera, and a pitch for each drive, which changes with load and tires.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.errors import GeometryError

TOP_BEHIND_FOOT_M = 1.2
"""Distance of a car's top behind its foot. A camera above the roof sees a higher box than of something flat, one below
it a lower box: 5 % for a camera at 2.1 m and a car 8 m away. Calibrated on RoadWorld's cars, with cameras at 1.2, 1.65
and 2.1 m.
"""

PITCH_STD_DEG, DRIVE_PITCH_STD_DEG, BOX_STD_PX, HEIGHT_STD = 0.3, 0.6, 0.5, 0.08
"""Standard deviations: of pitch within a drive and between drives, of an edge of a box, and of an object's height over
its class's.
"""

MIN_HEIGHT_PX = 8.0
"""Smallest expected height of an object in the image, from where it stands."""

_ROUNDS, _MIN_OBJECTS, _INIT_HEIGHT_M = 60, 12, 1.5
_LATE_POWER = 1.5  # power of Cauchy's weights in the second half: twice the class's height then has almost no weight


@dataclass(frozen=True, slots=True)
class DrivesHeight:
    """Camera height of several drives of one camera.

    height_m, low_m, high_m: the camera's, and its 95 % interval: over drives, and by the spread of objects of a class.
    horizon_px: (D,) rows from the principal point, downwards; each drive's.
    inlier_count: number of objects with half of their weight or more in a detection.
    """

    height_m: float
    low_m: float
    high_m: float
    horizon_px: Tensor
    inlier_count: int


def height_of_drives(
    drive: Tensor,
    track: Tensor,
    foot_px: Tensor,
    height_px: Tensor,
    height_m: Tensor,
    *,
    focal_px: float,
    draws: int = 100,
    seed: int = 0,
) -> DrivesHeight:
    """Return one height for all drives, and the horizon of each.

    Args:
        drive: (N,) int64, the drive of each detection, from 0.
        track: (N,) int64, the object within its drive: detections of one share a weight of 1.
        foot_px: (N,) row of the box's lower edge, from the principal point, downwards.
        height_px, height_m: (N,) of the box, and the object's prior by its class.
        focal_px: along y.
        draws: of the bootstrap over drives.  seed: the same objects and seed give the same result.

    Small detections are left out by their expected height, because selecting by measured height would favor tall
    objects among the far ones. Outliers weigh less (Cauchy's weights). Raises GeometryError where fewer than 12 objects
    are left.
    """
    if len(drive) == 0:
        raise _too_few_error(0)
    foot, px, metres = foot_px.double(), height_px.double(), height_m.double()
    weight = 1 / _track_sizes(drive, track)
    height, horizon, weights = _fit(drive, weight, foot, px, metres, focal_px)
    inlier_count = int(torch.unique(torch.stack((drive, track))[:, weights > 0.5 * weight], dim=1).shape[1])
    if inlier_count < _MIN_OBJECTS or not 0 < height < math.inf:
        raise _too_few_error(inlier_count)
    generator = torch.Generator().manual_seed(seed)
    drives = int(drive.max()) + 1
    logs = []
    for _ in range(draws):
        times = torch.bincount(torch.randint(drives, (drives,), generator=generator), minlength=drives)[drive]
        again = _fit(drive, weight * times, foot, px, metres, focal_px)[0]
        if 0 < again < math.inf:
            logs.append(math.log(again))
    spread = float(torch.tensor(logs, dtype=torch.float64).std()) if len(logs) > draws // 2 else math.inf
    width = math.hypot(1.96 * spread, 1.96 * HEIGHT_STD / math.sqrt(inlier_count))
    return DrivesHeight(height, height * math.exp(-width), height * math.exp(width), horizon, inlier_count)


def _too_few_error(inlier_count: int) -> GeometryError:
    return GeometryError(
        "camera height",
        found=f"{inlier_count} objects that agree",
        expected=f"at least {_MIN_OBJECTS}",
        fix="take more frames or drives",
    )


def _track_sizes(drive: Tensor, track: Tensor) -> Tensor:
    _, place, counts = torch.unique(torch.stack((drive, track)), dim=1, return_inverse=True, return_counts=True)
    return counts[place].double()


def _fit(
    drive: Tensor, weight: Tensor, foot: Tensor, px: Tensor, metres: Tensor, focal_px: float
) -> tuple[float, Tensor, Tensor]:
    """Return height, horizons (D,) and final weights (N,): px / metres = (foot - horizon) / height, reweighted each
    round.
    """
    horizon = foot.new_zeros(int(drive.max()) + 1)
    per_m, between = foot.new_tensor(1 / _INIT_HEIGHT_M), focal_px * math.radians(DRIVE_PITCH_STD_DEG)
    kept = weight
    for turn in range(_ROUNDS):
        below = (foot - horizon[drive]).clamp(min=1.0)
        flat = _correct_length(px, below, metres, 1 / per_m, focal_px) / metres
        deviation = (
            (HEIGHT_STD * per_m * below) ** 2
            + (per_m * focal_px * math.radians(PITCH_STD_DEG)) ** 2
            + (BOX_STD_PX / metres) ** 2
        ).sqrt()
        error = (flat - per_m * (foot - horizon[drive])) / deviation
        power = 1 if turn < _ROUNDS // 2 else _LATE_POWER
        kept = torch.where(per_m * below * metres >= MIN_HEIGHT_PX, weight / (1 + error.square()) ** power, 0.0)
        per_m, level = _fit_drive_lines(drive, kept / deviation.square(), foot, flat, 1 / (per_m * between).square())
        horizon = level / per_m
    return float(1 / per_m), horizon, kept


def _fit_drive_lines(drive: Tensor, precision: Tensor, x: Tensor, y: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
    """Fit slope and the level (D,) of each drive in y = slope x - level; `alike` is the precision of levels about their
    mean.
    """
    drives = int(drive.max()) + 1

    def total(values: Tensor) -> Tensor:
        return x.new_zeros(drives).index_add(0, drive, precision * values)

    sure = total(torch.ones_like(x))
    some = sure.clamp(min=torch.finfo(x.dtype).tiny)
    x_of, y_of = total(x) / some, total(y) / some
    within_x, within_y = x - x_of[drive], y - y_of[drive]
    share = sure * alike / (sure + alike)
    x_mean, y_mean = (share * x_of).sum() / share.sum(), (share * y_of).sum() / share.sum()
    across = (share * (x_of - x_mean) * (y_of - y_mean)).sum() + (precision * within_x * within_y).sum()
    slope = across / ((share * (x_of - x_mean).square()).sum() + (precision * within_x.square()).sum())
    mean = slope * x_mean - y_mean
    return slope, (sure * (slope * x_of - y_of) + alike * mean) / (sure + alike)


def _correct_length(px: Tensor, below: Tensor, metres: Tensor, height_m: Tensor, focal_px: float) -> Tensor:
    """Return the heights of the boxes for objects without length: see TOP_BEHIND_FOOT_M."""
    away = focal_px * height_m / below
    seen = 1 - (1 - metres / height_m) * away / (away + TOP_BEHIND_FOOT_M)
    return px * (metres / height_m) / seen
