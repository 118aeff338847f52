"""Sharpen the edges of a depth map where the image has an edge too: `sharpen_edges`.

A network trained on pixels blurs an edge of depth over some pixels, which are points between object and background
that do not exist.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

WINDOW, CONTEXT = 5, 11
"""Sides, pixels, of the window that an edge is sharpened within, and of the one that tells an edge from a slope."""

GUIDE_RADIUS, GUIDE_VARIANCE = 2, 1e-4
"""Radius, pixels, and regularizer of the guided filter: the variance of brightness in [0, 1] that counts as an edge."""

SLOPE, EDGE = 0.5, 0.65
"""Contrast in WINDOW as a share of the contrast in CONTEXT: up to SLOPE, depth stays; from EDGE, it is sharpened.

A slope has (WINDOW - 1) / (CONTEXT - 1) = .4. Without this limit, floors become terraces: normals in rendered rooms are
47 degrees off instead of 27.
"""

NEIGHBORS = 3
"""Side, pixels, of the window whose largest weight a pixel takes, so that both feet of an edge are sharpened."""

MIN_CONTRAST = 0.08
"""Contrast of ln z in CONTEXT up to which depth stays; from twice as much, it is sharpened."""


def sharpen_edges(log_depth: Tensor, image: Tensor) -> Tensor:
    """Return depth whose edges are narrower and follow the edges of the image; slopes and surfaces stay.

    A guided filter (He et al., ECCV 2010) aligns edges with the image. Then each pixel near an edge takes the extreme
    of its window that is nearer to it (Kramer and Bruckner, Pattern Recognition 7, 1975). ln z and -ln z are treated
    alike.

    log_depth: (B, 1, H, W) ln z, or its negative.
    image: (B, 3, H, W) RGB in [0, 1].

    Example:
        >>> blurred = torch.tensor([0.0, 0, 0, 0, 0, 0.3, 0.7, 1, 1, 1, 1, 1]).expand(1, 1, 12, 12)
        >>> sharp = sharpen_edges(blurred, (blurred > 0.5).float().expand(1, 3, 12, 12))
        >>> [round(value, 2) for value in sharp[0, 0, 6, 4:8].tolist()]
        [0.03, 0.05, 0.95, 0.97]
    """
    aligned = _filter_guided(log_depth, image.mean(1, keepdim=True))
    highest, lowest = _pool_max(aligned, WINDOW), -_pool_max(-aligned, WINDOW)
    sharp = torch.where(highest - aligned < aligned - lowest, highest, lowest)
    rest = CONTEXT - WINDOW + 1
    wide = _pool_max(highest, rest) + _pool_max(-lowest, rest)
    steepness = (highest - lowest) / wide.clamp(min=1e-6)
    weight = ((steepness - SLOPE) / (EDGE - SLOPE)).clamp(0, 1) * (wide / MIN_CONTRAST - 1).clamp(0, 1)
    return log_depth + _pool_max(weight, NEIGHBORS) * (sharp - log_depth)


def _filter_guided(values: Tensor, guide: Tensor) -> Tensor:
    """Return values (B, 1, H, W) that are an affine function of the guide in each window."""
    mean, mean_guide = _average(values), _average(guide)
    variance = _average(guide * guide) - mean_guide * mean_guide
    slope = (_average(guide * values) - mean_guide * mean) / (variance + GUIDE_VARIANCE)
    return _average(slope) * guide + _average(mean - slope * mean_guide)


def _average(values: Tensor) -> Tensor:
    side = 2 * GUIDE_RADIUS + 1
    return _slide(values, side, torch.add) / side**2


def _pool_max(values: Tensor, side: int) -> Tensor:
    return _slide(values, side, torch.maximum)


def _slide(values: Tensor, side: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine each pixel's window, first along rows and then along columns: a tenth of the time of pooling layers."""
    for axis, padding in ((-1, (side // 2, side // 2, 0, 0)), (-2, (0, 0, side // 2, side // 2))):
        padded = functional.pad(values, padding, mode="replicate")
        parts = (padded.narrow(axis, shift, values.shape[axis]) for shift in range(side))
        values = functools.reduce(combine, parts)
    return values
