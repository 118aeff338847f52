"""Predicted motion against true, axis by axis: which of the six a pose network has learnt, and at what size."""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.se3 import so3_log

AXES = ("tx", "ty", "tz", "rx", "ry", "rz")
STILL = 1e-6
"""In the unit of translation, and in degrees: where the truth is spread by less, nothing can be said of an axis."""

STANDS, MOST = 0.1, 0.9
"""Of the length below which most motions are: what is shorter stands."""


def motion_axes(T_b_a: Tensor) -> Tensor:
    """(..., 4, 4) to (..., 6): translation along x, y, z, and the rotation vector in degrees; in the order of AXES."""
    return torch.cat([T_b_a[..., :3, 3], torch.rad2deg(so3_log(T_b_a[..., :3, :3]))], dim=-1)


def scale_of_translation(predicted: Tensor, true: Tensor) -> Tensor:
    """(N, 6) twice to the () factor that brings predicted translations to the true ones' size: the ratio of the median
    lengths.
    """
    return true[:, :3].norm(dim=-1).median() / predicted[:, :3].norm(dim=-1).median().clamp(
        min=torch.finfo(predicted.dtype).tiny
    )


def along_the_true(predicted: Tensor, true: Tensor) -> float | None:
    """How far predicted translations go along the true ones, (N, 6) twice: the median, in lengths of the true ones. 1
    where they are right, 0 where they stand still, -1 where they are the inverse. Of motions that are not much shorter
    than most (STANDS): a camera that waits goes anywhere. None where the truth does not move.
    """
    predicted, true = predicted[:, :3], true[:, :3]
    length = true.norm(dim=-1)
    if not (length > STILL).any():
        return None
    moves = (length > STILL) & (length > STANDS * length.quantile(MOST))
    return float(((predicted * true).sum(-1) / (true * true).sum(-1))[moves].quantile(0.5))


def agreement(predicted: Tensor, true: Tensor) -> dict[str, tuple[float, float]]:
    """Slope and correlation of each axis over N motions, (N, 6) twice; without axes along which the truth does not
    move.

    The slope is that of the straight line of predicted over true: 1 where motion has its size, 0 where it is always the
        same.
    Correlation is Pearson's, 0 where the prediction is always the same.
    """
    x, y = true - true.mean(0), predicted - predicted.mean(0)
    spread_x, spread_y, both = (x * x).mean(0), (y * y).mean(0), (x * y).mean(0)
    correlation = torch.where(spread_y > STILL**2, both / (spread_x * spread_y).sqrt(), 0)
    told = {
        name: (float(both[i] / spread_x[i]), float(correlation[i]))
        for i, name in enumerate(AXES)
        if spread_x[i] > STILL**2
    }
    return told if len(true) > 2 else {}
