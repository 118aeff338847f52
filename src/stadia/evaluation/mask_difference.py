"""The baseline that a mask has to beat: where image and background differ by more than a threshold, whatever differs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


def difference(image: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) twice to (H, W): the largest of the three channels' differences, 0 to 255."""
    return np.abs(image.astype(np.int16) - background).max(axis=2).astype(np.uint8)


def best_threshold(taught: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> int:
    """The threshold t of 0 to 255 at which `difference > t` has the best IoU over all pixels; of equal ones the least.

    taught: differences (H, W) with their masks (H, W); consumed one by one.
    """
    every, inside = np.zeros(LEVELS), np.zeros(LEVELS)
    for differs, mask in taught:
        every += np.bincount(differs.ravel(), minlength=LEVELS)
        inside += np.bincount(differs[mask], minlength=LEVELS)
    both, said = (counts.sum() - counts.cumsum() for counts in (inside, every))
    return int(np.argmax(both / np.maximum(said + inside.sum() - both, 1)))
