"""The scale-invariant logarithmic error (SILog), which forgives part of one common factor: twice as near, everywhere.

Everything here takes d = ln z - ln z_true and `known`, both (B, ...), and never reads d where it is not known.
With one mean m and one count n, all over the same pixels,

    mean(d^2) - lam mean(d)^2 = mean((d - m)^2) + (1 - lam) m^2,

and the right side is computed: it cannot be negative for lam <= 1, not by rounding either. An image without labels
gives 0.

Source: Eigen et al., "Depth map prediction from a single image using a multi-scale deep network", NeurIPS 2014,
arXiv 1406.2283, eq. 4; the root is of Lee et al., "From big to small", arXiv 1907.10326, eq. 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FAR_INVERSE_DEPTH = 1e-3
"""1/m. Below it (beyond 1 km, where nobody has labels) the logarithm goes on as its tangent: see `log_ratio`."""

ROOT_EPS = 1e-6
"""Added under the root, whose slope at 0 is infinite; it shows where the error of the logarithms is about 0.001."""


def log_ratio(inverse_depth: Tensor, true_m: Tensor, known: Tensor) -> Tensor:
    """The error d = ln z - ln z_true, 0 where not known.

    All are (B, 1, H, W): inverse depth in 1/m, truth in metres and positive where known.

    A prediction is not clamped: one that is cut off has no gradient, and stays where it is. Below FAR_INVERSE_DEPTH
    the logarithm is continued by its tangent, so that 0 and less are wrong by a finite amount and pulled back.
    """
    near = inverse_depth > FAR_INVERSE_DEPTH  # false for NaN, which the tangent hands on
    tangent = inverse_depth / FAR_INVERSE_DEPTH - 1 + math.log(FAR_INVERSE_DEPTH)
    return torch.where(known, -torch.where(near, inverse_depth.where(near, 1.0).log(), tangent) - true_m.log(), 0.0)


def silog_variance(d: Tensor, known: Tensor, *, lam: float = 0.5) -> Tensor:
    """Eigen's form, mean(d^2) - lam mean(d)^2 of each image, (B,). lam = 0 is the mean square, lam = 1 forgives any
    factor.
    """
    d, known = d.flatten(1), known.flatten(1)
    count = known.sum(1).clamp(min=1)
    mean = d.where(known, 0.0).sum(1) / count
    spread = (d - mean[:, None]).where(known, 0.0).square().sum(1) / count
    return spread + (1 - lam) * mean.square()


def silog_root(d: Tensor, known: Tensor, *, lam: float = 0.85, alpha: float = 10.0) -> Tensor:
    """The root of it, alpha sqrt(mean(d^2) - lam mean(d)^2) of each image, (B,), with a finite gradient everywhere.

    ROOT_EPS stands under the root and what it adds is taken off again: 0 at the truth, where the gradient is 0 too.
    """
    return alpha * ((silog_variance(d, known, lam=lam) + ROOT_EPS).sqrt() - ROOT_EPS**0.5)


def pooled(d: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels of a batch as those of one image, (1, N) each: what any form above then takes.

    Images are no longer independent: the factor that is forgiven is that of the batch, and the value depends on its
        size.
    """
    return d.reshape(1, -1), known.reshape(1, -1)


def mean_of_labeled(of_each: Tensor, known: Tensor) -> Tensor:
    """The mean of (B,) over images with a label, a scalar; 0 where no image has one. `known`: (B, ...)."""
    labeled = known.flatten(1).any(1)
    return of_each.where(labeled, 0.0).sum() / labeled.sum().clamp(min=1)
