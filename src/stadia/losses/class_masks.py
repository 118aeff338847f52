"""Losses of class masks; class 0 is the background: cross-entropy, focal loss and Dice.

Logits are (B, C, H, W). Classes are (B, H, W) integers from 0 to C - 1 or IGNORE_INDEX. An ignored pixel costs 0 and
has no gradient; use `labeled_pixels` to exclude it from a mean.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.geometry.poses import at_least_float32

IGNORE_INDEX = -1  # label of pixels without a class, which no loss counts


def labeled_pixels(classes: Tensor) -> Tensor:
    """Return whether each pixel of classes (B, H, W) is labeled, (B, 1, H, W) bool.

    Examples:
        >>> labeled_pixels(torch.tensor([[[0, 2, IGNORE_INDEX]]])).tolist()
        [[[[True, True, False]]]]
    """
    return (classes != IGNORE_INDEX)[:, None]


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Return -log p of the true class at each pixel, (B, 1, H, W).

    logits: (B, C, H, W).
    classes: (B, H, W).

    Examples:
        >>> round(cross_entropy(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1)).item(), 4)  # ln 2: undecided
        0.6931
    """
    values = F.cross_entropy(at_least_float32(logits), classes.long(), reduction="none", ignore_index=IGNORE_INDEX)
    return values[:, None]


def focal_loss(logits: Tensor, classes: Tensor, gamma: float = 2.0) -> Tensor:
    """Return -(1 - p)^gamma log p of the true class at each pixel, (B, 1, H, W) (Lin et al., ICCV 2017).

    Pixels that are already classified well count little.

    logits: (B, C, H, W).
    classes: (B, H, W).
    gamma: 0 gives cross-entropy. From 1 on, the gradient is finite. Other values raise ValueError.

    Examples:
        >>> round(focal_loss(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1)).item(), 4)
        0.1733
    """
    if gamma != 0 and gamma < 1:
        raise ValueError(f"gamma={gamma:g}: 0, or at least 1")
    surprise = cross_entropy(logits, classes)
    return (-torch.expm1(-surprise)).pow(gamma) * surprise


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return 1 - Dice of each image, (B,): the mean over the classes that the image shows; 0 without objects.

    Dice = (2 sum p t + 1) / (sum p + sum t + 1), with the probability p and the indicator t of a class
    (Milletari et al., V-Net, 3DV 2016). Small and large classes have the same weight.

    logits: (B, C, H, W).
    classes: (B, H, W).

    Examples:
        >>> logits = torch.tensor([[-9.0, -9.0], [9.0, 9.0]]).view(1, 2, 1, 2)  # both pixels: the object
        >>> round(dice_loss(logits, torch.ones(1, 1, 2)).item(), 4)
        0.0
    """
    p = (at_least_float32(logits).softmax(1)[:, 1:] * labeled_pixels(classes)).flatten(2)
    t = F.one_hot(classes.long().clamp(min=0), logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2).to(p.dtype)
    share = (2 * (p * t).sum(2) + 1) / (p.sum(2) + t.sum(2) + 1)
    shown = t.any(2)
    return (1 - share).where(shown, 0.0).sum(1) / shown.sum(1).clamp(min=1)
