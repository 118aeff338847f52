"""Predicted motion against true, axis by axis: which of the six axes a pose network has learned, and its scale."""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.se3 import so3_log

AXES = ("tx", "ty", "tz", "rx", "ry", "rz")
MIN_SPREAD = 1e-6
"""In the unit of translation, and in degrees: an axis with a smaller true spread is not evaluated."""

MIN_LENGTH_SHARE, LENGTH_QUANTILE = 0.1, 0.9
"""A motion counts as standing below this share of the length that this quantile of motions does not exceed."""


def motion_axes(T_b_a: Tensor) -> Tensor:
    """Convert (..., 4, 4) to (..., 6): translation along x, y, z, and the rotation vector in degrees; in the order of
    AXES.
    """
    return torch.cat([T_b_a[..., :3, 3], torch.rad2deg(so3_log(T_b_a[..., :3, :3]))], dim=-1)


def scale_of_translation(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the factor () from predicted to true translations (N, 6): the ratio of the median lengths."""
    return true[:, :3].norm(dim=-1).median() / predicted[:, :3].norm(dim=-1).median().clamp(
        min=torch.finfo(predicted.dtype).tiny
    )


def along_the_true(predicted: Tensor, true: Tensor) -> float | None:
    """Return the median projection of predicted on true translations, (N, 6) both, in lengths of the true ones.

    1 is right, 0 is no motion, -1 is the inverse. Standing frames (MIN_LENGTH_SHARE) are left out. None where the truth
    does not move.
    """
    predicted, true = predicted[:, :3], true[:, :3]
    length = true.norm(dim=-1)
    if not (length > MIN_SPREAD).any():
        return None
    moves = (length > MIN_SPREAD) & (length > MIN_LENGTH_SHARE * length.quantile(LENGTH_QUANTILE))
    return float(((predicted * true).sum(-1) / (true * true).sum(-1))[moves].quantile(0.5))


def agreement(predicted: Tensor, true: Tensor) -> dict[str, tuple[float, float]]:
    """Return slope and correlation of each axis over N motions, (N, 6) twice; without axes whose truth does not move.

    The slope of predicted over true is 1 where motion has the right size, 0 where it is constant. Correlation is
    Pearson's, 0 where the prediction is constant.
    """
    x, y = true - true.mean(0), predicted - predicted.mean(0)
    spread_x, spread_y, both = (x * x).mean(0), (y * y).mean(0), (x * y).mean(0)
    correlation = torch.where(spread_y > MIN_SPREAD**2, both / (spread_x * spread_y).sqrt(), 0)
    found = {
        name: (float(both[i] / spread_x[i]), float(correlation[i]))
        for i, name in enumerate(AXES)
        if spread_x[i] > MIN_SPREAD**2
    }
    return found if len(true) > 2 else {}
