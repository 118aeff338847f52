"""Shift the metric scale loss from object heights to the camera height over the epochs."""

from __future__ import annotations

import math
from typing import NamedTuple

FINAL_OBJECT_SHARE = 0.005
"""Share of their weight that object heights keep at the end of the schedule."""


class ScaleLossShares(NamedTuple):
    """Shares of the weights of the object heights and of the camera height."""

    objects: float
    camera: float


def compute_scale_loss_shares(epoch: int, *, epochs: int) -> ScaleLossShares:
    """Return the shares of an epoch, counted from 0.

    Early depth of the road is poor, so the camera height enters slowly, as a logarithm. Object heights flatten the
    objects, so they fade out. Before a camera height is known, the objects keep their weight.

    Args:
        epochs: the schedule ends at this one (FUMET, arXiv 2312.04530: 20 of 60 on KITTI, 12 of 35 on Cityscapes).
    """
    if epoch >= epochs:
        return ScaleLossShares(FINAL_OBJECT_SHARE, 1.0)
    camera = math.log(epoch + 1) / math.log(epochs + 1)
    return ScaleLossShares(1 - camera, camera)
