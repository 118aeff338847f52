"""Find the window of each object in a mask, so that reading one object does not take a pass over the whole image.

An image of 65,535 objects took hours otherwise. Masks whose windows are too many or too large together are refused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError

Window = tuple[slice, slice]
"""Rows and columns of an image."""

MAX_OBJECTS = 10_000
MAX_WINDOWS_PX = 1 << 29
"""Pixels of all windows of an image: some seconds. Windows of objects that interlace overlap."""


def find_windows(instance: NDArray[np.integer]) -> dict[int, Window]:
    """Return the smallest window of each object of a map (H, W), by its number, in rising order; 0 is none.

    Examples:
        >>> find_windows(np.array([[0, 7, 0], [0, 7, 7]]))
        {7: (slice(0, 2, None), slice(1, 3, None))}
    """
    height, width = instance.shape
    count = int(instance.max(initial=0)) + 1
    top, left = np.full(count, height), np.full(count, width)
    bottom, right = np.full(count, -1), np.full(count, -1)
    for row, numbers in enumerate(instance):
        columns = np.flatnonzero(numbers)
        shown = numbers[columns]
        top[shown] = np.minimum(top[shown], row)
        bottom[shown] = row
        right[shown] = np.maximum(right[shown], columns)  # of equal indices the last one is kept
        left[shown[::-1]] = np.minimum(left[shown[::-1]], columns[::-1])
    return {
        int(number): (
            slice(int(top[number]), int(bottom[number]) + 1),
            slice(int(left[number]), int(right[number]) + 1),
        )
        for number in np.flatnonzero(bottom >= 0)
    }


def check_objects(what: object, instance: NDArray[np.integer]) -> None:
    """Raise DataError for a map of more objects than are read one by one; `what` is its place, for messages."""
    windows = find_windows(instance).values()
    check_window_sizes(what, [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows])


def check_window_sizes(what: object, pixels: NDArray[np.integer] | list[int]) -> None:
    """Raise DataError for too many windows, or too large ones; pixels: of each."""
    total = int(np.sum(pixels, dtype=np.int64))
    if len(pixels) > MAX_OBJECTS or total > MAX_WINDOWS_PX:
        found = f"{len(pixels)} objects in windows of {total} pixels together"
        expected = f"at most {MAX_OBJECTS} objects, and {MAX_WINDOWS_PX} pixels"
        raise DataError(what, found=found, expected=expected, fix="remove noise from the mask, or make it smaller")
