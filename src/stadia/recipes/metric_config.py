"""Configuration of the recipe `metric`. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stadia.data.road_config import RoadConfig
from stadia.losses.metric_scale_config import MetricScaleConfig
from stadia.recipes.self_supervised_config import SelfSupervisedConfig
from stadia.training.camera_heights_config import CameraHeightsConfig


class MetricConfig(SelfSupervisedConfig):
    """Depth in metres and camera motion from unlabeled mono video of roads (FUMET, arXiv 2312.04530): docs/metric.md.

    Data: KITTI or your own video, with masks of road and cars beside it (`stadia prepare VIDEO --masks`); RoadWorld has
        them.
    Command: `stadia train metric --data PATH`.
    Time and scores that were measured: docs/results.md.

    recipe: whose configuration this is.
    camera_groups: the mounts of the cameras, or the recordings, that each have a height; settled from the data by
        road.cameras.
    first_height: of a group of cameras, before depth says one: "silhouettes" takes what objects of known height say by
        masks alone, where they are sure enough (docs/metric.md), and it teaches from the first step on; "depth" waits
        for `heights.first_epoch`.
    most_epochs: what counts as an epoch here and in `heights`: one of the data's, or several together where these are
        gone through more often than this. One pass through little data teaches too little of depth to learn a height
        from.
    hand_over_epochs: within so many epochs the objects hand the scale over to the camera's height. "auto": a third of
        the training's, and at least 4.
    unmask_road: the auto-mask leaves a road alone that moves past.
    reinitialize_at_epoch: at its start, counted from 0, networks and optimizer begin anew, and what is known of the
        camera's height stays;
        null: they never do. For trainings that settle at a depth without scale before a height is known.
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
                mistakes.append(
                    f"{self.data.key_of(name)}.stereo is true: a baseline gives metres without this recipe, take"
                    " selfsup"
                )
        if not self.data.offsets:
            mistakes.append("data.offsets is empty: a single camera learns from its neighbors in time")
        if not self.road.objects:
            mistakes.append("road.objects is empty: nothing has a height")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
