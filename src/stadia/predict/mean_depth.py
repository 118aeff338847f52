"""Predict the mean depth of training recordings: a baseline that a network has to beat."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import Camera, DepthScale, Recording
from stadia.evaluation.depth_score import average_depths


class MeanDepthPredictor:
    """Predict the same depth map for every image, as a baseline that a network has to beat.

    depth_m: (H, W) predicted z in metres, positive everywhere.
    """

    def __init__(self, depth_m: NDArray[np.float32]) -> None:
        self.depth_m, self.depth_scale, self.crop = depth_m, DepthScale.METRES, "none"
        self.height, self.width = depth_m.shape

    def inverse_depth(self, image: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        """Return the inverse depth (B, 1, H, W) in 1/m for images (B, 3, H, W)."""
        return np.tile(np.float32(1) / self.depth_m, (len(image), 1, 1, 1))

    def T_next_now(
        self, now: NDArray[np.float32], camera: Camera, following: NDArray[np.float32], next_camera: Camera
    ) -> None:
        """Return None instead of motions (B, 4, 4), because the baseline predicts no motion."""


def average_recordings(
    recordings: Iterable[Recording], height: int, width: int, *, every: int = 1
) -> MeanDepthPredictor:
    """Return a baseline that predicts the mean depth of recordings at each pixel.

    Frames without ground truth are skipped.

    recordings: recordings with ground truth.
    height, width: size of the predicted maps in pixels.
    every: use each n-th frame.

    Raises DataError if no recording has true depth.
    """
    maps = (recording.depth_m(index) for recording in recordings for index in range(0, len(recording), every))
    mean = average_depths((depth_m for depth_m in maps if depth_m is not None), height, width)
    if mean is None:
        fix = "use recordings with ground truth"
        raise DataError("mean depth", found="no ground truth", expected="a depth somewhere", fix=fix)
    return MeanDepthPredictor(mean)
