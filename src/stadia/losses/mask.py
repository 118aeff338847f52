"""Losses of class masks: which class each pixel shows, 0 = background.

logits (B, C, H, W) and classes (B, H, W), whole numbers from 0 to C - 1, or UNKNOWN at pixels of no matter: they cost 0
and have no slope; leave them out of a mean (`known`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

UNKNOWN = -1


def known(classes: Tensor) -> Tensor:
    """(B, 1, H, W) bool, where the class is known."""
    return (classes != UNKNOWN)[:, None]


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """-log p of the true class at each pixel, (B, 1, H, W)."""
    return F.cross_entropy(_at_least_float32(logits), classes.long(), reduction="none", ignore_index=UNKNOWN)[:, None]


def focal(logits: Tensor, classes: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p)^gamma log p at each pixel, (B, 1, H, W): pixels that are right already count little (Lin et al., ICCV
    2017).

    gamma: 0 is cross-entropy; from 1 on the slope is finite everywhere. Raises ValueError for what lies between or
        below.
    """
    if gamma != 0 and gamma < 1:
        raise ValueError(f"gamma={gamma:g}: 0, or at least 1")
    surprise = cross_entropy(logits, classes)
    return (-torch.expm1(-surprise)).pow(gamma) * surprise


def dice(logits: Tensor, classes: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - Dice of each image, (B,): for each class but the background that the image shows, then their mean.

    Dice = (2 sum p t + smooth) / (sum p + sum t + smooth), t being 1 where the class is and p its probability
    (Milletari et al., "V-Net", 3DV 2016). Small classes count as much as large ones, and the background not at all. An
    image without an object gives 0 (mask it out of the mean), so false alarms in it are left to a loss of every pixel.
    """
    p = (_at_least_float32(logits).softmax(1)[:, 1:] * known(classes)).flatten(2)
    t = F.one_hot(classes.long().clamp(min=0), logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2).to(p.dtype)
    share = (2 * (p * t).sum(2) + smooth) / (p.sum(2) + t.sum(2) + smooth)
    shown = t.any(2)
    return (1 - share).where(shown, 0.0).sum(1) / shown.sum(1).clamp(min=1)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
