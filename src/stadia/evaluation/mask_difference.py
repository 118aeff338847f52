"""Mask baseline: a threshold on the difference between image and background."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


def difference(image: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest difference of the three channels, 0 to 255: (H, W, 3) twice to (H, W)."""
    return np.abs(image.astype(np.int16) - background).max(axis=2).astype(np.uint8)


def best_threshold(examples: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> int:
    """Return the threshold t of 0 to 255 at which `difference > t` has the best IoU over all pixels; the smallest of
    equals.

    examples: differences (H, W) with their masks (H, W); consumed one by one.
    """
    every, inside = np.zeros(LEVELS), np.zeros(LEVELS)
    for differs, mask in examples:
        every += np.bincount(differs.ravel(), minlength=LEVELS)
        inside += np.bincount(differs[mask], minlength=LEVELS)
    both, predicted = (counts.sum() - counts.cumsum() for counts in (inside, every))
    return int(np.argmax(both / np.maximum(predicted + inside.sum() - both, 1)))
