"""Measure whether predictions rank near and far as the truth does. No scale or shift changes this."""

from __future__ import annotations

from scipy.stats import spearmanr
from torch import Tensor

LOOKED_AT = 4096
"""Number of pixels of an image that are ranked, evenly spread over the scored ones."""


def rank_correlation(predicted: Tensor, true: Tensor) -> float | None:
    """Return Spearman's correlation of (N,) pixels: 1 for the same order, -1 for the reverse; None where one is
    constant.
    """
    step = max(len(true) // LOOKED_AT, 1)
    a, b = predicted[::step], true[::step]
    if len(a) < 2 or bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return None
    return float(spearmanr(a.numpy(), b.numpy()).statistic)
