"""Shift the metric scale loss from object heights to the camera height over the epochs."""

from __future__ import annotations

import math
from typing import NamedTuple

FINAL_OBJECT_SHARE = 0.005
"""Of their weight once the handing over has ended."""


class ScaleLossShares(NamedTuple):
    """What the heights of objects, and the camera's height, have of their weights."""

    objects: float
    camera: float


def compute_scale_loss_shares(epoch: int, *, epochs: int) -> ScaleLossShares:
    """The shares of an epoch, counted from 0.

    Early depth says little of the road, so the camera's height comes in slowly, as the logarithm; heights of objects
    make planes of them, so they fade.

    Args:
        epochs: the handing over has ended at this one (FUMET, arXiv 2312.04530: 20 of 60 on KITTI, 12 of 35 on
            Cityscapes).

    Before a camera height is known nothing takes the place of the objects: the first epoch in which one is known can
    stand for 0 or 1.
    """
    if epoch >= epochs:
        return ScaleLossShares(FINAL_OBJECT_SHARE, 1.0)
    camera = math.log(epoch + 1) / math.log(epochs + 1)
    return ScaleLossShares(1 - camera, camera)
