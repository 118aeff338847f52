"""Configuration of the recipe `metric`. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stadia.data.road_config import RoadConfig
from stadia.losses.metric_scale_config import MetricScaleConfig
from stadia.recipes.self_supervised_config import SelfSupervisedConfig
from stadia.training.camera_heights_config import CameraHeightsConfig


class MetricConfig(SelfSupervisedConfig):
    """Depth in metres and camera motion from unlabeled mono road video (FUMET, arXiv 2312.04530): docs/metric.md.

    Data: KITTI or your own video, with masks of road and cars (`stadia prepare VIDEO --masks`); RoadWorld has them.
    Command: `stadia train metric --data PATH`.
    Measured time and scores: docs/results.md.

    recipe: name of this recipe.
    camera_groups: mounts of the cameras, or recordings, that each have one height; set from the data by road.cameras.
    first_height: initial height of a camera group. "silhouettes" estimates it from masks of objects of known height
        alone, if precise enough (docs/metric.md); it supervises from the first step. "depth" waits for
        `heights.first_epoch`.
    most_epochs: maximum epochs here and in `heights`. With more epochs of the data several count as one, because one
        pass through few data changes depth too little to estimate a height.
    hand_over_epochs: epochs in which the loss weight moves from objects to the camera height. "auto": a third of the
        training, at least 4.
    unmask_road: the auto-mask ignores the moving road.
    reinitialize_at_epoch: epoch, from 0, at whose start networks and optimizer are reinitialized and camera heights
        stay;
        null: never. For trainings that converge to depth without scale before a height is estimated.
    """

    validation: ClassVar[tuple[str, ...]] = (*SelfSupervisedConfig.validation, "abs_rel_scaled", "camera_height_m")

    recipe: Literal["metric"] = "metric"
    name: str = "metric"
    road: RoadConfig = RoadConfig()
    heights: CameraHeightsConfig = CameraHeightsConfig()
    scale: MetricScaleConfig = MetricScaleConfig()
    camera_groups: tuple[str, ...] | Literal["auto"] = "auto"
    first_height: Literal["silhouettes", "depth"] = "silhouettes"
    most_epochs: Annotated[int, Field(ge=3)] = 12
    hand_over_epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    unmask_road: bool = True
    reinitialize_at_epoch: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _of_one_camera(self) -> Self:
        mistakes = []
        for name, one in self.data.sets.items():
            if one.stereo is True:
                mistakes.append(f"{self.data.key_of(name)}.stereo is true: use selfsup, whose baseline gives metres")
        if not self.data.offsets:
            mistakes.append("data.offsets is empty: a single camera learns from its neighbors in time")
        if not self.road.objects:
            mistakes.append("road.objects is empty: nothing has a height")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
