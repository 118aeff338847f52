"""The camera's height and each drive's horizon, from the boxes of many objects of a class. No depth, no network.

The foot of a box is as far below the horizon as the camera is high above the road, its height as the object is high:
one number for all drives of a camera, and a pitch for each drive, which is mounted alike but loaded, pumped up and
started anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.errors import GeometryError

TOP_BEHIND_FOOT_M = 1.2
"""How much farther away a car's top is than its foot. A camera above the roof sees a higher box of it than of something
flat, and one below
the roof a lower one: 5 % for a camera at 2.1 m and a car 8 m away. Calibrated on RoadWorld's cars, by cameras at 1.2,
1.65 and 2.1 m.
"""

NOD_DEG, DRIVES_DEG, BOX_PX, SCALE = 0.3, 0.6, 0.5, 0.08
"""Standard deviations: of pitch within a drive and between drives, of an edge of a box, and of an object's height over
its class's.
"""

LEAST_PX = 8.0
"""Of an object's height as it should be where it stands."""

_ROUNDS, _FEWEST, _START_M = 60, 12, 1.5
_SHARPER = 1.5  # power of Cauchy's weights in the second half: an object of twice its class's height hardly counts then


@dataclass(frozen=True, slots=True)
class DrivesHeight:
    """What objects of several drives of one camera say.

    height_m, low_m, high_m: the camera's, and its interval of 95 %: over drives, and by how objects of a class differ.
    horizon_px: (D,) rows from the principal point, downwards; each drive's.
    believed: objects that count for half or more in a sighting.
    """

    height_m: float
    low_m: float
    high_m: float
    horizon_px: Tensor
    believed: int


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
    """One height of all drives, and the horizon of each.

    Args:
        drive: (N,) int64, the drive of each sighting, from 0.
        track: (N,) int64, which object of its drive it is: sightings of one share a weight of 1.
        foot_px: (N,) row of the box's lower edge, from the principal point, downwards.
        height_px, height_m: (N,) of the box, and the object's as its class has it.
        focal_px: along y.
        draws: of the bootstrap over drives.  seed: the same objects and seed give the same answer.

    Sightings that should be too low to count are left out by where they stand, not by how high they are, which would
    choose the high ones among the far. Objects that are wrong weigh less (Cauchy's weights). Raises GeometryError where
    fewer than 12 objects are left.
    """
    if len(drive) == 0:
        raise _too_few(0)
    foot, px, metres = foot_px.double(), height_px.double(), height_m.double()
    weight = 1 / _counts(drive, track)
    height, horizon, weights = _fit(drive, weight, foot, px, metres, focal_px)
    believed = int(torch.unique(torch.stack((drive, track))[:, weights > 0.5 * weight], dim=1).shape[1])
    if believed < _FEWEST or not 0 < height < math.inf:
        raise _too_few(believed)
    generator = torch.Generator().manual_seed(seed)
    drives = int(drive.max()) + 1
    logs = []
    for _ in range(draws):
        times = torch.bincount(torch.randint(drives, (drives,), generator=generator), minlength=drives)[drive]
        again = _fit(drive, weight * times, foot, px, metres, focal_px)[0]
        if 0 < again < math.inf:
            logs.append(math.log(again))
    spread = float(torch.tensor(logs, dtype=torch.float64).std()) if len(logs) > draws // 2 else math.inf
    width = math.hypot(1.96 * spread, 1.96 * SCALE / math.sqrt(believed))
    return DrivesHeight(height, height * math.exp(-width), height * math.exp(width), horizon, believed)


def _too_few(believed: int) -> GeometryError:
    return GeometryError(
        "camera height",
        found=f"{believed} objects that agree",
        expected=f"at least {_FEWEST}",
        fix="take more frames or drives",
    )


def _counts(drive: Tensor, track: Tensor) -> Tensor:
    _, place, counts = torch.unique(torch.stack((drive, track)), dim=1, return_inverse=True, return_counts=True)
    return counts[place].double()


def _fit(
    drive: Tensor, weight: Tensor, foot: Tensor, px: Tensor, metres: Tensor, focal_px: float
) -> tuple[float, Tensor, Tensor]:
    """Height, horizons (D,) and final weights (N,): px / metres = (foot - horizon) / height, weighed anew in every
    round.
    """
    horizon = foot.new_zeros(int(drive.max()) + 1)
    per_m, between = foot.new_tensor(1 / _START_M), focal_px * math.radians(DRIVES_DEG)
    kept = weight
    for turn in range(_ROUNDS):
        below = (foot - horizon[drive]).clamp(min=1.0)
        flat = _as_flat(px, below, metres, 1 / per_m, focal_px) / metres
        deviation = (
            (SCALE * per_m * below) ** 2 + (per_m * focal_px * math.radians(NOD_DEG)) ** 2 + (BOX_PX / metres) ** 2
        ).sqrt()
        error = (flat - per_m * (foot - horizon[drive])) / deviation
        power = 1 if turn < _ROUNDS // 2 else _SHARPER
        kept = torch.where(per_m * below * metres >= LEAST_PX, weight / (1 + error.square()) ** power, 0.0)
        per_m, level = _line_of_each(drive, kept / deviation.square(), foot, flat, 1 / (per_m * between).square())
        horizon = level / per_m
    return float(1 / per_m), horizon, kept


def _line_of_each(drive: Tensor, precision: Tensor, x: Tensor, y: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
    """The slope, and the level (D,) of each drive, of y = slope x - level by least squares; levels are drawn to their
    mean by `alike`.
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


def _as_flat(px: Tensor, below: Tensor, metres: Tensor, height_m: Tensor, focal_px: float) -> Tensor:
    """The heights of boxes, had the objects no length: see TOP_BEHIND_FOOT_M."""
    away = focal_px * height_m / below
    seen = 1 - (1 - metres / height_m) * away / (away + TOP_BEHIND_FOOT_M)
    return px * (metres / height_m) / seen
