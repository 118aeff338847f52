"""Pad images of another aspect ratio than the training images, so that objects keep their proportions."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.evaluation.frames import Frame

NEAR = 0.03
"""Largest difference of aspect ratios, in the logarithm, without padding."""


@dataclass(frozen=True)
class Padding:
    """A padded image.

    image: (H + margins, W + margins, 3).
    K: (3, 3) of it.
    top, left: position of the original image.
    size: (H, W) of the original image.
    """

    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    top: int
    left: int
    size: tuple[int, int]

    def cut(self, values: NDArray) -> NDArray:
        """Cut (H + margins, W + margins) to the original (H, W)."""
        return values[self.top : self.top + self.size[0], self.left : self.left + self.size[1]]


def padded_size(
    size: tuple[int, int], K: NDArray[np.float64], height: int, width: int, pixel_ratio: float
) -> tuple[int, int]:
    """Return (H, W) with margins so that fx / fy is `pixel_ratio` after resizing to height x width; unchanged if it is
    near.
    """
    wanted = width * K[0, 0] / (height * K[1, 1] * pixel_ratio)  # W / H
    h, w = size
    if abs(np.log(w / h / wanted)) < NEAR:
        return size
    return (round(w / wanted), w) if w / h > wanted else (h, round(h * wanted))


def is_padded(frame: Frame, height: int, width: int, pixel_ratio: float) -> bool:
    """Return whether an image gets margins."""
    size = frame.image.shape[0], frame.image.shape[1]
    return padded_size(size, frame.K, height, width, pixel_ratio) != size


def padding_to(frame: Frame, height: int, width: int, pixel_ratio: float) -> Padding:
    """Center an image on its mean color. The principal point moves with it, exactly."""
    size = frame.image.shape[0], frame.image.shape[1]
    rows, columns = padded_size(size, frame.K, height, width, pixel_ratio)
    top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
    if (rows, columns) == size:
        return Padding(frame.image, frame.K, 0, 0, size)
    mean = frame.image.reshape(-1, 3).mean(0).round().tolist()
    margins = top, rows - size[0] - top, left, columns - size[1] - left
    image = cv2.copyMakeBorder(frame.image, *margins, cv2.BORDER_CONSTANT, value=mean)
    K = frame.K.copy()
    K[:2, 2] += left, top
    return Padding(np.asarray(image, np.uint8), K, top, left, size)
