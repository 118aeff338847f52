"""Shift the metric scale loss from object heights to the camera height over the epochs of a training."""

from __future__ import annotations

import math
from typing import NamedTuple

LEFT_TO_OBJECTS = 0.005
"""Share of their weight that object heights keep at the end of the schedule."""


class Shares(NamedTuple):
    """Shares of the weights of the object heights and of the camera height."""

    objects: float
    camera: float


def hand_over(epoch: int, *, epochs: int) -> Shares:
    """Return the shares of an epoch, counted from 0.

    Early depth of the road is poor, so the camera height enters slowly, as a logarithm. Object heights flatten the
    objects, so they fade out. Before a camera height is known, the objects keep their weight.

    Args:
        epochs: the schedule ends at this one (FUMET, arXiv 2312.04530: 20 of 60 on KITTI, 12 of 35 on Cityscapes).
    """
    if epoch >= epochs:
        return Shares(LEFT_TO_OBJECTS, 1.0)
    camera = math.log(epoch + 1) / math.log(epochs + 1)
    return Shares(1 - camera, camera)
