"""Correct depth for images taken with another focal length than the training images. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

FOCAL_TOLERANCE, CENTER_TOLERANCE = 0.02, 0.15


class TrainingLens:
    """The focal length that a network was trained with.

    A network learns apparent sizes at its training focal length. With a longer lens everything seems nearer by the
    ratio of the focal lengths, so inverse depth is divided by this ratio.

    Args:
        focal: fx / width of the training cameras. Of several, the nearest to each image is used.
        means: consequence of another focal length, for the one line of the warning.
    """

    def __init__(self, focal: float | Sequence[float], means: str) -> None:
        self.focal, self.means = np.atleast_1d(np.asarray(focal, np.float64)), means
        self._warned = False

    def ratio(self, K: NDArray[np.floating], height: int, width: int) -> NDArray[np.float64]:
        """Return the ratio (...) of the focal lengths of K (..., 3, 3) to the training's, 1 within the tolerance.

        Logs one warning for another focal length.
        """
        with np.errstate(divide="ignore"):  # 0 before training
            ratios = np.divide((K[..., 0, 0] / width)[..., None], self.focal, dtype=np.float64)
            nearest = np.abs(np.log(ratios)).argmin(-1)
        ratio = np.take_along_axis(ratios, nearest[..., None], -1)[..., 0]
        ratio = np.where(np.abs(ratio - 1) < FOCAL_TOLERANCE, 1.0, ratio)
        if not self._warned and (ratio != 1).any():
            self._warned = True
            log.warning(
                "focal length is %.2f times the training camera's: %s%s",
                ratio.max(),
                self.means,
                _off_center_hint(K, height, width),
            )
        return ratio


def _off_center_hint(K: NDArray[np.floating], height: int, width: int) -> str:
    """Return a hint for a K with a principal point far from the middle: it belongs to another image size."""
    x, y = (K.reshape(-1, 3, 3)[0, :2, 2] + 0.5) / (width, height)
    if max(abs(x - 0.5), abs(y - 0.5)) < CENTER_TOLERANCE:
        return ""
    return (
        f"; or K belongs to images of another size: its principal point is at {x:.2f} of the width, {y:.2f} of the"
        " height"
    )
