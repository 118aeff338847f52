"""Detect whether camera heights, measured at several places of a video, belong to more than one mount."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_VALUES = 5
"""Smallest number of values of a place for a meaningful median."""

MIN_HEIGHT_FACTOR, MIN_SIDE_SHARE = 1.2, 0.1
"""Several mounts: no median lies between two that differ by this factor, and each side has this share of the values."""


@dataclass(frozen=True, slots=True)
class MountsApart:
    """low_m, high_m: the medians of the places' medians.  low, high: the names of the places, by rising height."""

    low_m: float
    high_m: float
    low: tuple[str, ...]
    high: tuple[str, ...]


def mounts_apart(place: NDArray[np.str_], log_heights: NDArray[np.float64]) -> MountsApart | None:
    """Return the two heights at which a camera was mounted; None where one explains all.

    place: (N,) where each value was measured: a drive, or a part of one.  log_heights: (N,) logarithms, of metres.

    Places are sorted by their medians, and the widest gap between neighbors decides.
    """
    names, counts = np.unique(place, return_counts=True)
    names, counts = names[counts >= MIN_VALUES], counts[counts >= MIN_VALUES]
    if len(names) < 2:
        return None
    medians = np.array([np.median(log_heights[place == name]) for name in names])
    order = np.argsort(medians)
    names, counts, medians = names[order], counts[order], medians[order]
    share = np.cumsum(counts)[:-1] / counts.sum()
    gaps = np.where(np.minimum(share, 1 - share) >= MIN_SIDE_SHARE, np.diff(medians), 0)
    split = int(np.argmax(gaps)) + 1
    if gaps[split - 1] <= math.log(MIN_HEIGHT_FACTOR):
        return None
    low_m, high_m = (float(np.median(np.exp(some))) for some in (medians[:split], medians[split:]))
    return MountsApart(low_m, high_m, tuple(names[:split].tolist()), tuple(names[split:].tolist()))
