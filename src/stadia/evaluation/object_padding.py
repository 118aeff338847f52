"""An image of another shape than the training's gets margins, so that a network sees objects in their training's
proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.evaluation.frames import Frame

NEAR = 0.03
"""Of the proportions: what differs by less is resized as it is."""


@dataclass(frozen=True)
class Padding:
    """image: (H + margins, W + margins, 3).  K: (3, 3) of it.  top, left: where the image lies in it.  size: (H, W) of
    the image.
    """

    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    top: int
    left: int
    size: tuple[int, int]

    def cut(self, values: NDArray) -> NDArray:
        """(H + margins, W + margins) to the image's (H, W)."""
        return values[self.top : self.top + self.size[0], self.left : self.left + self.size[1]]


def padded_size(
    size: tuple[int, int], K: NDArray[np.float64], height: int, width: int, pixel_ratio: float
) -> tuple[int, int]:
    """(H, W) of an image with margins, so that fx / fy is `pixel_ratio` once it is resized to height x width; without
    where it is.
    """
    wanted = width * K[0, 0] / (height * K[1, 1] * pixel_ratio)  # W / H
    h, w = size
    if abs(np.log(w / h / wanted)) < NEAR:
        return size
    return (round(w / wanted), w) if w / h > wanted else (h, round(h * wanted))


def is_padded(frame: Frame, height: int, width: int, pixel_ratio: float) -> bool:
    """Whether an image gets margins."""
    size = frame.image.shape[0], frame.image.shape[1]
    return padded_size(size, frame.K, height, width, pixel_ratio) != size


def padding_to(frame: Frame, height: int, width: int, pixel_ratio: float) -> Padding:
    """An image in the middle of its mean color; its principal point moves with it, exactly."""
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
