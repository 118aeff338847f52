"""Configuration of the recipe `objectpose`. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError
from stadia.data.config import CacheConfig, ColorConfig, NetworkPixels
from stadia.data.tableworld.presets import preset
from stadia.losses.rotation_config import RotationLossConfig
from stadia.models.object_pose_config import ObjectPoseNetConfig
from stadia.recipes.config import RecipeConfig
from stadia.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig

Weight = Annotated[float, Field(ge=0)]


class ObjectDataConfig(StrictModel):
    """Single images with objects in known poses.

    path: of a data set; null renders TableWorld into the cache, or takes it from there.
    format: "objects" (stadia's own layout, TableWorld's too), "bop", "nocs", or "auto" to look.
    tableworld: the preset that is rendered where no path is given.
    train_split, val_split: as the data set names them; val_split=null holds images of train_split out.
    val_share: how many of them, the last ones.
    height, width: the network's size, multiples of 32; every image is resized to it, its camera with it.
    pixel_ratio: fx / fy of the training's images at this size; null asks the data set. Predicting, an image of another
        shape gets
    margins, so that it is not squeezed more than they are.
    classes: by name, the background first; null asks the data set.
    """

    path: str | None = None
    format: Literal["auto", "objects", "bop", "nocs"] = "auto"
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

    @field_validator("tableworld")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            preset(name)
        except ConfigError as error:
            raise ValueError(f"expected {error.expected}; {error.fix}") from error
        return name


class ObjectLossConfig(StrictModel):
    """What is compared, and how much it counts. All but the mask's are means over objects: a small one counts as much
    as a large one.

    cross_entropy, focal, dice: of the mask.  focal_gamma: how little pixels that are right already count, 1 or more.
    rotation: which one, by name, and its penalty of a quaternion's length.  rotation_weight: of it.
    rotation_of: "object" compares the mean over the object's pixels, which has length 1; "pixel" each of them as long
        as it is said,
    without which squared_error sees no length.
    center: of the direction to the center at each pixel.  depth: of the logarithm of z.  size: relative to the true
        diagonal.
    """

    cross_entropy: Weight = 2.0
    focal: Weight = 0.0
    focal_gamma: float = Field(default=2.0, ge=1)
    dice: Weight = 1.0
    rotation: RotationLossConfig = RotationLossConfig()
    rotation_weight: Weight = 1.0
    rotation_of: Literal["object", "pixel"] = "object"
    center: Weight = 1.0
    depth: Weight = 1.0
    size: Weight = 1.0


class FindingConfig(StrictModel):
    """From the maps to objects, when predicting.

    fewest_px: of the network's image that an object has.
    hypotheses: crossings of two pixels' lines that are tried for each center; 0 fits all lines at once.
    pixels: of each object that are asked, spread evenly over it: what thousands say, some hundred say too.
    """

    fewest_px: int = Field(default=12, ge=1)
    hypotheses: int = Field(default=32, ge=0)
    pixels: int = Field(default=128, ge=2)


class ObjectPoseConfig(RecipeConfig):
    """Class, mask, rotation, translation and size of objects, from one image (FastPoseCNN, arXiv 2406.11063).

    Data: none needed, TableWorld renders itself; or images in known poses: BOP, NOCS, or your own (docs/objectpose.md).
    The defaults train on two cores in 15 minutes. Command: `stadia train objectpose`.
    Scores that were measured: docs/results.md.

    recipe: whose configuration this is.
    """

    yardstick: ClassVar[tuple[str, ...]] = tuple(
        f"data.{key}"
        for key in (
            "path",
            "format",
            "tableworld",
            "train_split",
            "val_split",
            "val_share",
            "height",
            "width",
            "classes",
        )
    )
    validation: ClassVar[tuple[str, ...]] = (
        *("mask_iou", "objects", "found", "false_alarms", "recall", "precision", "iou_3d", "ap_*", "recall_*deg_*cm"),
        *("rotation_error_deg", "rotation_error_deg_median", "rotation_error_deg_of_all"),
        *("translation_error_cm", "translation_error_cm_median"),
    )

    recipe: Literal["objectpose"] = "objectpose"
    name: str = "objectpose"
    data: ObjectDataConfig = ObjectDataConfig()
    model: ObjectPoseNetConfig = ObjectPoseNetConfig()
    loss: ObjectLossConfig = ObjectLossConfig()
    finding: FindingConfig = FindingConfig()
    optimizer: OptimizerConfig = OptimizerConfig(lr=4e-3)
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=100)
    training: TrainingConfig = TrainingConfig(
        max_epochs=None, max_steps=2500, batch_size=16, clip_norm=5.0, validate_every=500
    )
