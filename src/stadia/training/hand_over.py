"""How metric scale is handed over in the course of a training: from heights of objects to the camera's height."""

from __future__ import annotations

import math
from typing import NamedTuple

LEFT_TO_OBJECTS = 0.005
"""Of their weight once the handing over has ended."""


class Shares(NamedTuple):
    """What the heights of objects, and the camera's height, have of their weights."""

    objects: float
    camera: float


def hand_over(epoch: int, *, epochs: int, keep: int = 1) -> Shares:
    """The shares of an epoch, counted from 0.

    Early depth says little of the road, so the camera's height comes in slowly, as the logarithm; heights of objects make planes of
    them, so they fade.

    Args:
        epochs: the handing over has ended at this one (FUMET, arXiv 2312.04530: 20 of 60 on KITTI, 12 of 35 on Cityscapes).
        keep: so many epochs have the same shares.

    Before a camera height is known nothing takes the place of the objects: the first epoch in which one is known can stand for 0 or 1.
    Raises ValueError where keep is not from 1 to epochs.
    """
    if epoch >= epochs:
        return Shares(LEFT_TO_OBJECTS, 1.0)
    if not 1 <= keep <= epochs:
        raise ValueError(f"keep={keep}: from 1 to epochs={epochs}")
    camera = math.log(epoch // keep + 1) / math.log(epochs // keep + 1)
    return Shares(1 - camera, camera)
