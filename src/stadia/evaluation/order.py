"""Whether a prediction puts near and far in the order of the truth: what no scale, and no fit of scale and shift,
changes.
"""

from __future__ import annotations

from scipy.stats import spearmanr
from torch import Tensor

LOOKED_AT = 4096
"""Pixels of an image, evenly over those that are scored."""


def rank_correlation(predicted: Tensor, true: Tensor) -> float | None:
    """Spearman's, of (N,) pixels: 1 in the same order, -1 in the opposite one; None where one of them is constant."""
    step = max(len(true) // LOOKED_AT, 1)
    a, b = predicted[::step], true[::step]
    if len(a) < 2 or bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return None
    return float(spearmanr(a.numpy(), b.numpy()).statistic)
