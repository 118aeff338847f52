"""Configuration that `selfsup` and `metric` share: learning from video without labels. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import model_validator

from stadia.data.config import YARDSTICK, DataConfig, OneDataConfig
from stadia.losses.config import LossConfig
from stadia.models.config import DepthAndMotionConfig
from stadia.recipes.config import RecipeConfig


class SelfSupervisedConfig(RecipeConfig):
    """Networks of depth and motion, and a loss that needs no labels."""

    yardstick: ClassVar[tuple[str, ...]] = tuple(f"data.{key}" for key in YARDSTICK)
    validation: ClassVar[tuple[str, ...]] = (
        *(
            "abs_rel",
            "rmse",
            "d1",
            "residual",
            "residual_unwarped",
            "residual_over_sigma",
            "residual_spearman",
            "inside_??",
        ),
        *("ause", "ause_of_random", "motion_slope/*", "motion_correlation/*", "motion_along", "motion_scale"),
    )

    data: DataConfig
    model: DepthAndMotionConfig = DepthAndMotionConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="before")
    @classmethod
    def _once_through(cls, values: Any) -> Any:
        """Set `training.max_epochs` to 1 if data sets train one after another: each has its own epochs."""
        data, training = (values.get(key) or {} if isinstance(values, Mapping) else {} for key in ("data", "training"))
        if (
            not isinstance(data, Mapping)
            or not isinstance(training, Mapping)
            or data.get("order") != "sequential"
        ):
            return values
        return (
            values
            if {"max_epochs", "max_steps"} & training.keys()
            else {**values, "training": {**training, "max_epochs": 1}}
        )

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        mistakes = [
            mistake for name, one in self.data.sets.items() for mistake in self._mistakes(self.data.key_of(name), one)
        ]
        if self.loss.scale_weights is not None and len(self.loss.scale_weights) != self.model.scales:
            mistakes.append(
                f"loss.scale_weights has {len(self.loss.scale_weights)} weights for the {self.model.scales} of"
                " model.scales"
            )
        if self.loss.left_right_consistency and not self.model.right_view:
            mistakes.append("loss.left_right_consistency needs two views, and model.right_view is false: set it true")
        sizes = {(stage.height, stage.width) for stage in self.training.stages} - {(self.data.height, self.data.width)}
        if sizes and self.model.pose_head == "linear":
            mistakes.append(
                "model.pose_head=linear is bound to one size of image, training.stages has several: take pool or"
                " convolution"
            )
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _mistakes(self, key: str, one: OneDataConfig) -> list[str]:
        """Return the mistakes of one data set that networks and loss cannot train on.

        key: prefix of its configuration keys.
        """
        mistakes = []
        if not one.offsets and one.stereo is False:
            mistakes.append(
                f"{key}.offsets is empty and {key}.stereo is false: no source is left to compare an image with"
            )
        if min(one.height, one.width) >> (self.loss.pyramid - 1) < 4:
            mistakes.append(
                f"loss.pyramid={self.loss.pyramid} halves an image of {one.width}x{one.height} to less than 4 pixels"
            )
        if self.model.right_view and one.stereo is False:
            mistakes.append(
                f"model.right_view is true and {key}.stereo is false: the right image trains the right view"
            )
        if self.model.right_view and "right" in one.target_sides:
            mistakes.append(
                f"model.right_view is true and {key}.target_sides holds right, whose partner is a left view: take"
                " ['left']"
            )
        if self.model.brightness and not one.offsets:
            mistakes.append(
                f"model.brightness is true and {key}.offsets is empty: the pose network "
                "predicts brightness, and there is none"
            )
        if bool(one.offsets) != bool(self.data.offsets):
            mistakes.append(
                f"{key}.offsets and data.offsets: either all data sets have neighbors in time, which the pose network"
                " needs, or none"
            )
        if self.model.pose_head == "linear" and (one.height, one.width) != (self.data.height, self.data.width):
            mistakes.append(
                f"model.pose_head=linear is bound to one size of image, and {key} has another: take pool or convolution"
            )
        return mistakes
