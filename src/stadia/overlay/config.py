"""Configuration of the recipe `overlay`. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from stadia.core.types import DepthScale
from stadia.dataloading.config import OverlayDataConfig
from stadia.losses.config import OverlayLossConfig
from stadia.models.config import OverlayNetConfig
from stadia.recipes.base.config import RecipeConfig, RunName, data_keys
from stadia.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig


class OverlayConfig(RecipeConfig):
    """Depth and foreground mask of a composite image, from it and its background image (docs/how-to/overlay.md).

    Data: none required, RoadWorld and TableWorld are rendered; or your own backgrounds with depth and cut-outs with
        alpha. The defaults train on two cores in 10 minutes. Command: `stadia train overlay`.
    Measured scores: docs/results/overlay.md.

    recipe: name of this recipe.
    depth_source: origin of the depth labels, "exact" or "teacher: NAME"; null = from the data set.
    depth_scale: scale of the depth labels; null = from the data set.
    """

    evaluation_keys: ClassVar[tuple[str, ...]] = (
        *("loss.min_depth", "loss.max_depth", "depth_source", "depth_scale"),
        *data_keys(
            "path", "height", "width", "backgrounds", "foregrounds", "placement", "val_samples", "val_share", "val_rule"
        ),
    )
    validation: ClassVar[tuple[str, ...]] = (
        *("depth_and_mask_error", "abs_rel", "rmse", "mse", "mae", "log10", "d1", "d2", "d3"),
        *("mask_iou", "mask_dice", "mask_boundary_f", "mask_mae", "mask_bce"),
    )

    recipe: Literal["overlay"] = "overlay"
    name: RunName = "overlay"
    data: OverlayDataConfig = OverlayDataConfig()
    model: OverlayNetConfig = OverlayNetConfig()
    loss: OverlayLossConfig = OverlayLossConfig()
    depth_source: str | None = None
    depth_scale: DepthScale | None = None
    optimizer: OptimizerConfig = OptimizerConfig(lr=3e-3)
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=100)
    training: TrainingConfig = TrainingConfig(
        max_epochs=None, max_steps=5000, batch_size=16, clip_norm=5.0, validate_every=1000
    )
