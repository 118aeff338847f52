"""Losses of inverse depth up to scale and shift, as networks trained on mixed data predict it.

Prediction and truth are normalized to median 0 and mean deviation 1 over the labeled pixels of each image. Maps are
(B, 1, H, W); pixels that are not `known` are never read.

Source: Ranftl et al., "Towards robust monocular depth estimation: mixing datasets for zero-shot cross-dataset
transfer", PAMI 44(3), 2022, arXiv 1907.01341, eq. 5 to 8 and 11.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.align import median_and_deviation


def normalize_median_deviation(inverse_depth: Tensor, known: Tensor) -> Tensor:
    """Compute (x - median) / mean |x - median| of each image, 0 where not known. (B, 1, H, W).

    A constant image has no deviation: it becomes 0 everywhere, with a slope of 1 instead of infinity.
    """
    x, where = inverse_depth.flatten(1), known.flatten(1)
    x = x.where(where, 0.0)
    median, deviation = median_and_deviation(x, where)
    varied = deviation > 4 * torch.finfo(x.dtype).eps * median.abs()  # false for NaN: an image without labels
    relative = (x - median.where(where.any(1), 0.0)[:, None]) / deviation.where(varied, 1.0)[:, None]
    return relative.where(where, 0.0).view_as(inverse_depth)


def affine_invariant_residual(inverse_depth: Tensor, true_inverse_depth: Tensor, known: Tensor) -> Tensor:
    """Return the normalized prediction minus the normalized truth, (B, 1, H, W), 0 where not known."""
    return normalize_median_deviation(inverse_depth, known) - normalize_median_deviation(true_inverse_depth, known)


def trimmed_mean(difference: Tensor, known: Tensor, trim: float = 0.2) -> Tensor:
    """Sum the M (1 - trim) smallest |r| of the M known pixels of each image, times 1 / (2 M), (B,) (eq. 8).

    Wrong labels are among the largest errors, which get no gradient; they still affect the mean deviation. 0 for an
    image without labels.
    """
    where = known.flatten(1)
    size = difference.flatten(1).abs().where(where, 0.0)
    ordered = size.where(where, torch.inf).sort(1).values
    count = where.sum(1)
    kept = ((1 - trim) * count.double() + 1e-6).floor()  # 0.8 * 5 is 4 despite rounding
    rank = torch.arange(ordered.shape[1], device=ordered.device)
    not_finite = 0 * size.sum(1)  # propagates, although it is trimmed
    return ordered.where(rank < kept[:, None], 0.0).sum(1) / (2 * count.clamp(min=1)) + not_finite


def gradient_matching_error(difference: Tensor, known: Tensor, scales: int = 4) -> Tensor:
    """Sum |dx r| + |dy r| over `scales` sizes, each with every second pixel of the one before, over M, (B,) (eq. 11).

    Only between neighbors that are both known; M is the number of known pixels at full size. 0 for an image without
    labels. For dense ground truth: sparse labels have almost no such neighbors.
    """
    total = difference.new_zeros(difference.shape[0])
    for scale in range(scales):
        r, where = difference[..., :: 2**scale, :: 2**scale], known[..., :: 2**scale, :: 2**scale]
        for dim in (-1, -2):
            length = r.shape[dim] - 1
            both = where.narrow(dim, 0, length) & where.narrow(dim, 1, length)
            total = total + r.diff(dim=dim).abs().where(both, 0.0).flatten(1).sum(1)
    return total / known.flatten(1).sum(1).clamp(min=1)
