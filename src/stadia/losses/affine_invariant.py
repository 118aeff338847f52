"""Losses of inverse depth that forgive its scale and shift: what a network trained on mixed data can know.

Prediction and truth are each brought to median 0 and mean deviation 1 over the labeled pixels of the image, and
compared.
Nothing here reads a pixel without a label: maps are (B, 1, H, W), `known` says where the truth is one.

Source: Ranftl et al., "Towards robust monocular depth estimation: mixing datasets for zero-shot cross-dataset
transfer",
PAMI 44(3), 2022, arXiv 1907.01341, eq. 5 to 8 and 11.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.align import median_and_deviation


def normalized(inverse_depth: Tensor, known: Tensor) -> Tensor:
    """(x - median) / mean |x - median| of each image, 0 where not known. (B, 1, H, W).

    A constant image has no deviation to divide by: it is all 0, with a slope of 1, not of infinity.
    """
    x, where = inverse_depth.flatten(1), known.flatten(1)
    x = x.where(where, 0.0)
    median, deviation = median_and_deviation(x, where)
    varied = deviation > 4 * torch.finfo(x.dtype).eps * median.abs()  # false for NaN: an image without labels
    relative = (x - median.where(where.any(1), 0.0)[:, None]) / deviation.where(varied, 1.0)[:, None]
    return relative.where(where, 0.0).view_as(inverse_depth)


def residual(inverse_depth: Tensor, true_inverse_depth: Tensor, known: Tensor) -> Tensor:
    """Normalized prediction less normalized truth, (B, 1, H, W), 0 where not known."""
    return normalized(inverse_depth, known) - normalized(true_inverse_depth, known)


def trimmed_mean(difference: Tensor, known: Tensor, trim: float = 0.2) -> Tensor:
    """1 / (2 M) times the sum of the M (1 - trim) smallest |r| of the M known ones of each image, (B,) (eq. 8).

    What is wrong in the truth is among the largest, and has no slope; the mean deviation that it was divided by still
    knows it. 0 for an image without labels.
    """
    where = known.flatten(1)
    size = difference.flatten(1).abs().where(where, 0.0)
    ordered = size.where(where, torch.inf).sort(1).values
    count = where.sum(1)
    kept = ((1 - trim) * count.double() + 1e-6).floor()  # 0.8 * 5 is 4, whatever floating point says
    rank = torch.arange(ordered.shape[1], device=ordered.device)
    not_finite = 0 * size.sum(1)  # must show, although it is trimmed
    return ordered.where(rank < kept[:, None], 0.0).sum(1) / (2 * count.clamp(min=1)) + not_finite


def gradient_matching(difference: Tensor, known: Tensor, scales: int = 4) -> Tensor:
    """1 / M times the sum of |dx r| + |dy r| over `scales` sizes, each every second pixel of the one before, (B,) (eq.
    11).

    Between neighbors of which both are known; M is the number of known pixels at full size. 0 for an image without
    labels.
    Sparse truth has next to no such neighbors: it is a loss for dense truth.
    """
    total = difference.new_zeros(difference.shape[0])
    for scale in range(scales):
        r, where = difference[..., :: 2**scale, :: 2**scale], known[..., :: 2**scale, :: 2**scale]
        for dim in (-1, -2):
            length = r.shape[dim] - 1
            both = where.narrow(dim, 0, length) & where.narrow(dim, 1, length)
            total = total + r.diff(dim=dim).abs().where(both, 0.0).flatten(1).sum(1)
    return total / known.flatten(1).sum(1).clamp(min=1)
