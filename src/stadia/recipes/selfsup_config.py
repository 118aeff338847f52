"""Configuration of the recipe `selfsup`. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from stadia.data.config import DataConfig
from stadia.losses.config import LossConfig
from stadia.models.config import DepthAndMotionConfig
from stadia.recipes.config import RecipeConfig


class SelfsupConfig(RecipeConfig):
    """Depth and camera motion from unlabelled video, mono or stereo; at the level of Monodepth2 (arXiv 1806.01260).

    Data: KITTI's rectified pairs, or your own video. With stereo the baseline is in metres, and so is all that comes out;
    from mono video everything is up to one unknown scale, and says so.
    Command: `stadia train selfsup --data PATH`.
    Time and scores that were measured: docs/results.md.

    recipe: whose configuration this is.
    """

    recipe: Literal["selfsup"] = "selfsup"
    name: str = "selfsup"
    data: DataConfig
    model: DepthAndMotionConfig = DepthAndMotionConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        mistakes = []
        if not self.data.offsets and self.data.stereo is False:
            mistakes.append("data.offsets is empty and data.stereo is false: nothing is left to compare a picture with")
        if min(self.data.height, self.data.width) >> (self.loss.pyramid - 1) < 4:
            size = f"{self.data.width}x{self.data.height}"
            mistakes.append(f"loss.pyramid={self.loss.pyramid} halves a picture of {size} to less than 4 pixels")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
