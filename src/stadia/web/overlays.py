"""Predict depth and mask of a composite picture by a run of `overlay`, from the picture and its background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.web.networks import OpenNetwork
from stadia.web.photo import KnownLength, PhotoCamera, PhotoPrediction, predict_photo

if TYPE_CHECKING:
    from torch import Tensor

    from stadia.core.types import Camera, DepthScale

RECIPE = "overlay"


class PairPredictor:
    """Depth (h, w) of one picture and its background, as a `Predictor` of that picture."""

    crop = "none"

    def __init__(self, depth_scale: DepthScale, depth: NDArray[np.float32]) -> None:
        self.depth_scale, self.depth = depth_scale, depth
        self.height, self.width = depth.shape

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Return 1 / depth (1, 1, h, w)."""
        import torch

        return torch.from_numpy(1 / self.depth)[None, None]

    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Return None: a pair has no motion."""


def predict_composite(
    network: OpenNetwork,
    image: NDArray[np.uint8],
    background: NDArray[np.uint8],
    camera: PhotoCamera,
    known: Sequence[KnownLength] = (),
) -> PhotoPrediction:
    """Predict depth and mask of a composite picture.

    Args:
        network: of `overlay`.
        image, background: (H, W, 3) RGB, of one camera that did not move.
        camera: of both.
        known: numbers in metres that set the scale.

    Raises DataError for a background of another size.
    """
    from stadia.overlay import task

    if image.shape != background.shape:
        found, expected = (f"{shape[1]}x{shape[0]} pixels" for shape in (background.shape, image.shape))
        fix = "give the picture that the same camera took without the object"
        raise DataError("the background", found=found, expected=expected, fix=fix)
    depth, logits = task.predict_pair(network.recipe, background, image)
    predictor = PairPredictor(network.recipe.depth_scale, depth)
    height, width = image.shape[:2]
    mask = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > 0
    return replace(predict_photo(network, image, camera, known, predictor), mask=mask)
