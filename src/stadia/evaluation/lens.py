"""The lens that a network was trained through, and what looking through another one changes. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

FOCAL_TOLERANCE, CENTER_TOLERANCE = 0.02, 0.15


class TrainingLens:
    """A network learns how large things look through its training camera. Through a longer lens everything looks nearer
    by the ratio of
    the focal lengths: inverse depth is divided by it.

    Args:
        focal: fx / width of the cameras that trained; several where the network learnt through several lenses, of which
            the nearest
            counts: what is seen through one of them is said as it was learnt.
        means: what another lens means for whoever asks, for the one line that says so.
    """

    def __init__(self, focal: float | Sequence[float], means: str) -> None:
        self.focal, self.means = np.atleast_1d(np.asarray(focal, np.float64)), means
        self._told = False

    def ratio(self, K: NDArray[np.floating], height: int, width: int) -> NDArray[np.float64]:
        """K (..., 3, 3) of images of this size to (...): their focal length over the training's, 1 within the
        tolerance; said once where it is another.
        """
        with np.errstate(divide="ignore"):  # 0 before training
            ratios = np.divide((K[..., 0, 0] / width)[..., None], self.focal, dtype=np.float64)
            nearest = np.abs(np.log(ratios)).argmin(-1)
        ratio = np.take_along_axis(ratios, nearest[..., None], -1)[..., 0]
        ratio = np.where(np.abs(ratio - 1) < FOCAL_TOLERANCE, 1.0, ratio)
        if not self._told and (ratio != 1).any():
            self._told = True
            log.warning(
                "focal length is %.2f times the training camera's: %s%s",
                ratio.max(),
                self.means,
                _doubt(K, height, width),
            )
        return ratio


def _doubt(K: NDArray[np.floating], height: int, width: int) -> str:
    """What may be wrong with K rather than another lens: a principal point far from the image's middle is that of
    another size.
    """
    x, y = (K.reshape(-1, 3, 3)[0, :2, 2] + 0.5) / (width, height)
    if max(abs(x - 0.5), abs(y - 0.5)) < CENTER_TOLERANCE:
        return ""
    return (
        f"; or K belongs to images of another size: its principal point is at {x:.2f} of the width, {y:.2f} of the"
        " height"
    )
