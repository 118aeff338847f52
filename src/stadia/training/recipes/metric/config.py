"""Configuration of the recipe `metric`. Imports no torch."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel
from stadia.data.height_priors import RoadConfig
from stadia.losses.config import MetricScaleConfig
from stadia.training.recipes.base.config import RunName, SelfSupervisedConfig, TeacherConfig

PLAUSIBLE_HEIGHT_M = 0.1, 30.0
"""A camera above the road has a height in this range."""

Height = Annotated[float, Field(ge=PLAUSIBLE_HEIGHT_M[0], le=PLAUSIBLE_HEIGHT_M[1])]


class CameraHeightsConfig(StrictModel):
    """The learnt camera height above the road, one for each group of cameras with the same mount.

    known_m: known heights in metres, by group, 0.1 to 30. They supervise from the first step on, and start the average.
    between_m: lowest and highest height that depth may give, by group (`first_height`).
    first_epoch: the first height is estimated at the end of this epoch, from 0, and then after each one.
    last_epoch: the last epoch with an estimate; -1: none, so that known_m stays. null: every epoch.
    test_from_epoch: outliers against the horizon are left out from this epoch on.
    test: the reference of the test. centered: the median over all objects of the group. absolute: the average height
        (eq. 2 of Scale Field, CVPR 2023); more robust to many wrong objects, but a wrong height confirms itself (H17).
    tolerance: an object is an outlier if the logarithm of its camera height differs by more from the reference.
    min_frames, min_frame_share: an epoch has no estimate with fewer frames than either, and never with fewer than 5.
    min_inlier_share: an epoch has no estimate if the share of inlier objects is not larger.
    max_spread: nor if the quartiles of the frames differ by this much, over their median.
    max_horizon_disagreement: nor if the height differs by this share from the one by the horizon.
    max_height_mismatch: nor if the median over frames of the log ratio of two heights, over a plane through the road
        and over the road pixels, is this large: a curved road has no height.
    max_change: a height that changes by a larger factor counts half.
    max_jump: an epoch's height that differs by this factor from the known one is rejected; null: never.
    update_every: epochs between two updates; the last of them counts.
    hold_epochs: number of epochs with a constant height after the first one, and after `reinitialize_at_epoch`.
    momentum: share of the height before in the new one; null: the average over epochs with weights 1, 2, 3, ...
    pool: how the frames of an epoch become one height: their "median", their "mean", or "weighted", the mean weighted
        by the number of objects: the variance of a frame falls with it.
    object_depth: how an object gives a height: "smaller" of its silhouette and its box, or its box at the "nearest",
        first "quartile", "median" or "mean" depth of its pixels.
    """

    experimental: ClassVar[frozenset[str]] = frozenset({"max_jump", "update_every", "momentum", "pool"})
    former_keys: ClassVar[Mapping[str, Any]] = {"outlier_sigma": None}
    known_m: dict[int, Height] = Field(default_factory=dict)
    between_m: dict[int, tuple[float, float]] = Field(default_factory=dict)
    first_epoch: int = Field(default=1, ge=0)
    last_epoch: int | None = Field(default=None, ge=-1)
    test_from_epoch: int = Field(default=2, ge=0)
    test: Literal["centered", "absolute"] = "centered"
    tolerance: float = Field(default=0.2, gt=0)
    min_frames: int = Field(default=200, ge=1)
    min_frame_share: float = Field(default=0.02, ge=0, le=1)
    min_inlier_share: float = Field(default=0.4, ge=0, lt=1)
    max_spread: float = Field(default=0.5, gt=0)
    max_horizon_disagreement: float = Field(default=0.15, gt=0)
    max_height_mismatch: float = Field(default=0.05, gt=0)
    max_change: float = Field(default=1.3, gt=1)
    max_jump: float | None = Field(default=None, gt=1)
    update_every: int = Field(default=1, ge=1)
    hold_epochs: int = Field(default=0, ge=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    pool: Literal["median", "mean", "weighted"] = "median"
    object_depth: Literal["smaller", "nearest", "quartile", "median", "mean"] = "smaller"

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if not self.known_m and self.last_epoch is not None and self.last_epoch < self.first_epoch:
            epochs = f"last_epoch={self.last_epoch} is before first_epoch={self.first_epoch}"
            raise ValueError(f"{epochs} and known_m is empty, so there is never a height")
        return self


class ShapeTeacherConfig(TeacherConfig):
    """A teacher that keeps the shape of depth to the end: heights give metres only to a road that is flat.

    weight, until: other defaults than in `selfsup` (docs/results/metres.md).
    """

    weight: float = Field(default=0.5, gt=0)
    until: float | None = Field(default=None, gt=0, le=1)


class MetricConfig(SelfSupervisedConfig):
    """Depth in metres and camera motion from unlabeled mono road video (FUMET, arXiv 2312.04530).

    Data: KITTI or your own video, with masks of road and cars (`stadia masks VIDEO`); RoadWorld has them.
    Command: `stadia train metric --data PATH`. Results: docs/results/metres.md. The method: docs/explanation/metric.md.

    recipe: name of this recipe.
    camera_groups: mounts of the cameras, or recordings, that each have one height; set from the data by road.cameras.
    first_height: initial height of a camera group. "silhouettes" estimates it from masks of objects of known height, if
        that is precise enough; it supervises from the first step. "depth" waits for `heights.first_epoch`.
    max_height_epochs: maximum epochs of heights. With more epochs of the data several count as one.
    scale_schedule_epochs: number of epochs until the loss weight has moved from objects to the camera height. "auto": a
        third of the training, at least 4.
    unmask_road: the auto-mask ignores the moving road.
    reinitialize_at_epoch: epoch, from 0, at whose start networks and optimizer are reinitialized and camera heights
        stay; null: never.
    """

    validation: ClassVar[tuple[str, ...]] = (*SelfSupervisedConfig.validation, "abs_rel_scaled", "camera_height_m")

    recipe: Literal["metric"] = "metric"
    name: RunName = "metric"
    teacher: ShapeTeacherConfig = ShapeTeacherConfig()
    road: RoadConfig = RoadConfig()
    heights: CameraHeightsConfig = CameraHeightsConfig()
    scale: MetricScaleConfig = MetricScaleConfig()
    camera_groups: tuple[str, ...] | Literal["auto"] = "auto"
    first_height: Literal["silhouettes", "depth"] = "silhouettes"
    max_height_epochs: Annotated[int, Field(ge=3)] = 12
    scale_schedule_epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    unmask_road: bool = True
    reinitialize_at_epoch: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check_one_camera(self) -> Self:
        mistakes = []
        for name, data_set in self.data.sets.items():
            if data_set.stereo is True:
                mistakes.append(f"{self.data.key_of(name)}.stereo is true: use selfsup, which gives metres")
        if not self.data.offsets:
            mistakes.append("data.offsets is empty: one camera needs neighbors in time")
        if not self.road.objects:
            mistakes.append("road.objects is empty: name objects of known height")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
