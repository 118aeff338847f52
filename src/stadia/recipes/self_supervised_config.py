"""What the configurations of recipes that learn from video without labels have in common. Imports no torch."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from stadia.data.config import DataConfig
from stadia.losses.config import LossConfig
from stadia.models.config import DepthAndMotionConfig
from stadia.recipes.config import RecipeConfig


class SelfSupervisedConfig(RecipeConfig):
    """Networks of depth and motion, and the loss that needs no labels."""

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
        if self.loss.scale_weights is not None and len(self.loss.scale_weights) != self.model.scales:
            mistakes.append(f"loss.scale_weights has {len(self.loss.scale_weights)} weights for the {self.model.scales} of model.scales")
        if self.loss.left_right_consistency and not self.model.right_view:
            mistakes.append("loss.left_right_consistency asks for two views, and model.right_view is false: set it true")
        if self.model.right_view and self.data.stereo is False:
            mistakes.append("model.right_view is true and data.stereo is false: the right picture teaches the right view")
        if self.model.right_view and "right" in self.data.target_sides:
            mistakes.append("model.right_view is true and data.target_sides holds right, whose partner is a left view: take ['left']")
        if self.model.brightness and not self.data.offsets:
            mistakes.append("model.brightness is true and data.offsets is empty: the pose network says brightness, and there is none")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
