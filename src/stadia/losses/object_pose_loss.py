"""Losses of objects: rotation (ROTATION_LOSSES), direction to the center, log depth and size; class masks.

Rotation losses take `quaternion` (..., 4) w, x, y, z of any length, `true` (..., 4) of length 1, and the objects'
`Symmetry` or None, and return (...). Each is minimal at the truth and its symmetric equivalents, and rises up to the
farthest orientation; q and -q have equal loss. (A negated logarithm falls towards 180 degrees and is refused.)
Gradients are finite everywhere: at the truth, at 180 degrees, and for the zero quaternion, which counts as 180 degrees.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.geometry.boxes import Symmetry, half_angle_sin_cos
from stadia.geometry.se3 import at_least_float32

BOUNDED_LOG_EPS = 0.1
"""The slope of `bounded_log` in 1 - a^2 is 1 / EPS at the truth and 1 / (1 + EPS) at 180 degrees."""


MIN_QUATERNION_NORM = 1e-18
"""Shorter quaternions have no angle, since their squares underflow in float32."""


def _some_angle(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None) -> tuple[Tensor, Tensor]:
    """Return `half_angle_sin_cos`, or 180 degrees without a gradient for a zero quaternion."""
    sine, cosine = half_angle_sin_cos(quaternion, true, symmetry)
    return sine.where(torch.maximum(sine, cosine) > MIN_QUATERNION_NORM, 1.0), cosine


def geodesic(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Compute the angle in radians, 0 to pi. The gradient's size is constant, so steps have to shrink to converge.

    Independent of the quaternion's length.
    """
    return 2 * torch.atan2(*_some_angle(quaternion, true, symmetry))


def bounded_log(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Compute log((1 - a^2 + eps) / eps) with a = |q . q_true|: from 0 to log(1 + 1 / eps), steepest near the truth.

    Independent of the quaternion's length.
    """
    return torch.log1p(one_minus_dot_squared(quaternion, true, symmetry) / BOUNDED_LOG_EPS)


def one_minus_dot_squared(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Compute 1 - a^2 with a = |q . q_true|, the squared sine of half the angle: 0 to 1, smooth, flat at both ends.

    Independent of the quaternion's length.
    """
    sine, cosine = _some_angle(quaternion, true, symmetry)
    return sine.square() / (sine.square() + cosine.square())


def squared_error(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Compute |q - q_true|^2 to the nearer of q_true and -q_true: the baseline.

    It also trains the length to 1 (`loss.rotation_of=pixel`). The mean of an object has length 1 already, which leaves
    2 - 2 |q . q_true|. Symmetric objects: to the nearest equivalent quaternion.
    """
    sine, cosine = half_angle_sin_cos(quaternion, true, symmetry)
    return sine.square() + (cosine - 1).square()


def norm_penalty(quaternion: Tensor) -> Tensor:
    """Compute (|q| - 1)^2, (...). Losses that ignore the length only make it grow, which shrinks the steps."""
    dtype = torch.promote_types(quaternion.dtype, torch.float32)
    return (torch.linalg.vector_norm(quaternion.to(dtype), dim=-1) - 1).square()


def center_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Compute smooth L1 of the direction to the center, (..., 2) x, y to (...) (Peng et al., "PVNet", CVPR 2019).

    true: unit vectors (`unit_directions`). The prediction is not normalized: its length is trained to 1, and the
    opposite direction still has a gradient.
    """
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    return F.smooth_l1_loss(predicted.to(dtype), true.to(dtype), reduction="none").sum(-1)


def log_depth_error(log_depth: Tensor, true_m: Tensor) -> Tensor:
    """Compute |log_depth - ln z_true|, (...); 0 where true_m is 0 = none, so exclude it from means."""
    known = true_m > 0
    return (log_depth - true_m.where(known, 1.0).log()).abs().where(known, 0.0)


def size_error(size_m: Tensor, true_m: Tensor) -> Tensor:
    """Average |size - size_true| over x, y, z, divided by the true diagonal, (..., 3) to (...).

    true_m: with a diagonal above 0. Predicted sizes may have any sign.
    """
    return (size_m - true_m).abs().mean(-1) / torch.linalg.vector_norm(true_m, dim=-1)


# -- class masks, 0 = background
#
# logits (B, C, H, W) and integer classes (B, H, W) from 0 to C - 1, or IGNORE_INDEX. Such pixels cost 0 without a
# gradient; exclude them from a mean by `labeled_pixels`.

IGNORE_INDEX = -1


def labeled_pixels(classes: Tensor) -> Tensor:
    """Return (B, 1, H, W) bool, true where the class is labeled."""
    return (classes != IGNORE_INDEX)[:, None]


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Compute -log p of the true class at each pixel, (B, 1, H, W)."""
    values = F.cross_entropy(at_least_float32(logits), classes.long(), reduction="none", ignore_index=IGNORE_INDEX)
    return values[:, None]


def focal_loss(logits: Tensor, classes: Tensor, gamma: float = 2.0) -> Tensor:
    """Compute -(1 - p)^gamma log p at each pixel, (B, 1, H, W): correct pixels count little (Lin et al., ICCV 2017).

    gamma: 0 is cross-entropy; from 1 on the gradient is finite everywhere. Raises ValueError for other values.
    """
    if gamma != 0 and gamma < 1:
        raise ValueError(f"gamma={gamma:g}: 0, or at least 1")
    surprise = cross_entropy(logits, classes)
    return (-torch.expm1(-surprise)).pow(gamma) * surprise


def dice_loss(logits: Tensor, classes: Tensor, smooth: float = 1.0) -> Tensor:
    """Compute 1 - Dice of each image, (B,): the mean over the foreground classes in the image.

    Dice = (2 sum p t + smooth) / (sum p + sum t + smooth), with probability p and indicator t of the class (Milletari
    et al., "V-Net", 3DV 2016). Small classes count as much as large ones, and the background not at all. An image
    without objects gives 0 (exclude it from the mean), so a pixel loss has to penalize its false positives.
    """
    p = (at_least_float32(logits).softmax(1)[:, 1:] * labeled_pixels(classes)).flatten(2)
    t = F.one_hot(classes.long().clamp(min=0), logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2).to(p.dtype)
    share = (2 * (p * t).sum(2) + smooth) / (p.sum(2) + t.sum(2) + smooth)
    shown = t.any(2)
    return (1 - share).where(shown, 0.0).sum(1) / shown.sum(1).clamp(min=1)
