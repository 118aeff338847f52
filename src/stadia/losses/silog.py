"""Scale-invariant logarithmic error (SILog): a global factor of depth is partly ignored.

All functions take d = ln z - ln z_true and `known`, both (B, ...), and never read d where it is not known. With the
mean m over the known pixels,

    mean(d^2) - lam mean(d)^2 = mean((d - m)^2) + (1 - lam) m^2,

and the right side is computed, because rounding cannot make it negative for lam <= 1. An image without labels gives 0.

Source: Eigen et al., "Depth map prediction from a single image using a multi-scale deep network", NeurIPS 2014,
arXiv 1406.2283, eq. 4; the root is from Lee et al., "From big to small", arXiv 1907.10326, eq. 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FAR_INVERSE_DEPTH = 1e-3
"""1/m. Below it (beyond 1 km, farther than any label) the logarithm is continued by its tangent: see `log_ratio`."""

ROOT_EPS = 1e-6
"""Added under the root, whose slope at 0 is infinite; noticeable for log errors of about 0.001."""


def log_ratio(inverse_depth: Tensor, true_m: Tensor, known: Tensor) -> Tensor:
    """Compute d = ln z - ln z_true, 0 where not known.

    All are (B, 1, H, W): inverse depth in 1/m, truth in meters and positive where known.

    Predictions are not clamped, since a clamped one has no gradient. Below FAR_INVERSE_DEPTH the logarithm is continued
    by its tangent, so that inverse depth of 0 and less has a finite error and a gradient.
    """
    near = inverse_depth > FAR_INVERSE_DEPTH  # false for NaN, which the tangent propagates
    tangent = inverse_depth / FAR_INVERSE_DEPTH - 1 + math.log(FAR_INVERSE_DEPTH)
    return torch.where(known, -torch.where(near, inverse_depth.where(near, 1.0).log(), tangent) - true_m.log(), 0.0)


def silog_variance(d: Tensor, known: Tensor, *, lam: float = 0.5) -> Tensor:
    """Compute mean(d^2) - lam mean(d)^2 of each image, (B,) (Eigen). lam = 0 is the mean square."""
    d, known = d.flatten(1), known.flatten(1)
    count = known.sum(1).clamp(min=1)
    mean = d.where(known, 0.0).sum(1) / count
    spread = (d - mean[:, None]).where(known, 0.0).square().sum(1) / count
    return spread + (1 - lam) * mean.square()


def silog_root(d: Tensor, known: Tensor, *, lam: float = 0.85, alpha: float = 10.0) -> Tensor:
    """Compute alpha sqrt(mean(d^2) - lam mean(d)^2) of each image, (B,), with a finite gradient everywhere.

    ROOT_EPS is added under the root and its root subtracted: value and gradient are 0 at the truth.
    """
    return alpha * ((silog_variance(d, known, lam=lam) + ROOT_EPS).sqrt() - ROOT_EPS**0.5)


def pooled(d: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Reshape the pixels of a batch to those of one image, (1, N) each, as input of the functions above.

    The ignored factor is then that of the batch, and the value depends on the batch size.
    """
    return d.reshape(1, -1), known.reshape(1, -1)


def mean_over_labeled_images(of_each: Tensor, known: Tensor) -> Tensor:
    """Average (B,) over images with a label, a scalar; 0 if no image has one. `known`: (B, ...)."""
    labeled = known.flatten(1).any(1)
    return of_each.where(labeled, 0.0).sum() / labeled.sum().clamp(min=1)
