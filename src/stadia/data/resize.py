"""Resize images and depth to the network's size. Imports no torch."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (h, w, 3) to (height, width, 3): area average where it shrinks, bilinear where it grows.

    Pixel x goes to (x + 0.5) s - 0.5, as the principal point in `geometry.camera.resized`.
    """
    if image.shape[:2] == (height, width):
        return image
    smaller = (
        min(width, image.shape[1]),
        min(height, image.shape[0]),
    )  # OpenCV's area mode averages only if both axes shrink
    return cv2.resize(
        cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_LINEAR
    )


def resize_depth(depth_m: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize (h, w) to (height, width) by the nearest pixel center: depths are not mixed, 0 stays none."""
    return cv2.resize(depth_m, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def resize_returns(depth_m: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize (h, w) single LiDAR returns, 0 = none, to (height, width): each goes to the pixel that it falls on.

    The nearest of several returns on one pixel stays, since it occludes the others. Enlarging keeps their number.
    (`resize_depth` reads one pixel in each neighborhood and would drop most returns.)
    """
    rows, columns = np.nonzero(depth_m > 0)
    h, w = depth_m.shape
    nearest = np.full((height, width), np.inf, np.float32)
    # Pixel x covers [x - 0.5, x + 0.5); its center goes to (x + 0.5) s - 0.5, which lies in pixel floor((x + 0.5) s).
    np.minimum.at(
        nearest, ((2 * rows + 1) * height // (2 * h), (2 * columns + 1) * width // (2 * w)), depth_m[rows, columns]
    )
    nearest[np.isinf(nearest)] = 0
    return nearest
