"""Configuration of the recipe `objectpose`. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError
from stadia.dataloading.config import ColorConfig, NetworkPixels
from stadia.datasets.config import CacheConfig, check_format
from stadia.datasets.objects.open_objects import OBJECT_FORMATS
from stadia.losses.config import ObjectPoseLossConfig
from stadia.models.config import ObjectPoseNetConfig
from stadia.recipes.base.config import RecipeConfig, RunName, data_keys
from stadia.synthetic.config import TABLEWORLD_PRESETS, find_preset
from stadia.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig


class ObjectDataConfig(StrictModel):
    """Single images of objects with known poses.

    path: of a data set; null renders TableWorld into the cache, or reads it from there.
    format: "objects" (the stadia layout, also TableWorld), "bop", "nocs", `module:Class` of your own, or "auto" to
        detect it.
    tableworld: preset that is rendered without a path.
    train_split, val_split: as the data set names them; val_split=null holds out images of train_split.
    val_share: share of held-out images, the last ones.
    height, width: network size, multiples of 32; every image and its camera are resized to it.
    pixel_ratio: fx / fy of the training images at this size; null = from the data set. In prediction, an image of
        another aspect ratio is padded, so that it is not squeezed more than these.
    classes: names, background first; null = from the data set.
    """

    path: str | None = None
    format: str = "auto"
    tableworld: str = "demo"
    train_split: str = "train"
    val_split: str | None = "val"
    val_share: float = Field(default=0.25, gt=0, lt=1)
    height: NetworkPixels = 128
    width: NetworkPixels = 160
    pixel_ratio: float | None = Field(default=None, gt=0)
    classes: tuple[str, ...] | None = None
    color: ColorConfig = ColorConfig()
    cache: CacheConfig = CacheConfig()

    @field_validator("format")
    @classmethod
    def _check_format(cls, name: str) -> str:
        return check_format(OBJECT_FORMATS, name)

    @field_validator("tableworld")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            find_preset(TABLEWORLD_PRESETS, name)
        except ConfigError as error:
            raise ValueError(f"expected {error.expected}") from error
        return name


class DetectionConfig(StrictModel):
    """From maps to objects in prediction.

    min_px: minimum pixels of an object in the network image.
    hypotheses: crossings of two pixels' lines that are tried for each center; 0 fits all lines at once.
    pixels: number of pixels of each object that vote, evenly spaced; some hundred are as accurate as thousands.
    """

    min_px: int = Field(default=12, ge=1)
    hypotheses: int = Field(default=32, ge=0)
    pixels: int = Field(default=128, ge=2)


class ObjectPoseConfig(RecipeConfig):
    """Class, mask, rotation, translation and size of objects from one image (FastPoseCNN, arXiv 2406.11063).

    Data: none required, TableWorld is rendered; or images with known poses: BOP, NOCS, or your own
        (docs/how-to/objectpose.md). The defaults train on two cores in 15 minutes. Command: `stadia train objectpose`.
    Measured scores: docs/results/object-pose.md.

    recipe: name of this recipe.
    """

    evaluation_keys: ClassVar[tuple[str, ...]] = data_keys(
        *("path", "format", "tableworld", "train_split", "val_split", "val_share", "height", "width", "classes")
    )
    validation: ClassVar[tuple[str, ...]] = (
        *("mask_iou", "objects", "found", "false_alarms", "recall", "precision", "iou_3d", "ap_*", "recall_*deg_*cm"),
        *("rotation_error_deg", "rotation_error_deg_median", "rotation_error_deg_of_all"),
        *("translation_error_cm", "translation_error_cm_median"),
    )

    recipe: Literal["objectpose"] = "objectpose"
    name: RunName = "objectpose"
    data: ObjectDataConfig = ObjectDataConfig()
    model: ObjectPoseNetConfig = ObjectPoseNetConfig()
    loss: ObjectPoseLossConfig = ObjectPoseLossConfig()
    detection: DetectionConfig = DetectionConfig()
    optimizer: OptimizerConfig = OptimizerConfig(lr=4e-3)
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=100)
    training: TrainingConfig = TrainingConfig(
        max_epochs=None, max_steps=2500, batch_size=16, clip_norm=5.0, validate_every=500
    )
