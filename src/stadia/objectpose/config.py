"""Configuration of the recipe `objectpose`. This module does not import torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from stadia.core.config import StrictModel, check_range, check_registered
from stadia.core.errors import ConfigError
from stadia.data.config import CacheConfig, ColorConfig, NetworkPixels, check_format
from stadia.losses.config import LossName, TermWeight
from stadia.objectpose import ROTATION_LOSSES
from stadia.objectpose.data.open_objects import OBJECT_FORMATS
from stadia.synthetic.config import SceneCounts, Supersampling, find_preset
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from stadia.training.recipes.base.config import RecipeConfig, RunName, data_keys

TABLEWORLD_CLASSES = ("background", "bottle", "bowl", "can", "cup", "box", "laptop")
"""Names of TableWorld's classes by class number."""


class TableWorldConfig(SceneCounts):
    """A rendered dataset of objects on tables: number of tables, views of each table, and the camera.

    train, val, test: number of tables in each split. Splits share no object shape either.
    views: number of images of each table.
    height, width: size of an image in pixels.
    objects: smallest and largest number of objects on a table.
    field_of_view_deg: range of the horizontal field of view.
    elevation_deg, distance_m: ranges of the camera's elevation above its target, and of its distance from it.
    supersampling: N for N x N samples per pixel. N is odd, so that the middle sample is the center of the pixel.
    noise: add the shot and read noise of a sensor.
    """

    scene_name = "table"
    views: Annotated[int, Field(ge=1, le=1000)] = 4
    height: Annotated[int, Field(ge=16, le=4096)] = 128
    width: Annotated[int, Field(ge=16, le=4096)] = 160
    objects: Annotated[tuple[int, int], check_range(1, 20)] = (3, 6)
    field_of_view_deg: Annotated[tuple[float, float], check_range(20, 110)] = (48.0, 60.0)
    elevation_deg: Annotated[tuple[float, float], check_range(5, 85)] = (15.0, 60.0)
    distance_m: Annotated[tuple[float, float], check_range(0.45, 1.4)] = (0.6, 1.0)
    supersampling: Supersampling = 3
    noise: bool = True


TABLEWORLD_TINY = TableWorldConfig(train=4, val=2, test=2, views=2)  # eight tables, rendered in seconds

TABLEWORLD_SMALL = TableWorldConfig(train=100, val=8, test=12)
"""120 tables with four views each, 160x128: rendered in half a minute on two cores, for a first training."""

TABLEWORLD_DEMO = TableWorldConfig(train=600, val=30, test=60)
"""690 tables with four views each, 160x128: finds objects of more shapes."""

TABLEWORLD_FULL = TableWorldConfig(train=4000, val=100, test=200, height=256, width=320)
"""4300 tables with four views each, 320x256."""

TABLEWORLD_PRESETS: dict[str, TableWorldConfig] = {
    "tiny": TABLEWORLD_TINY,
    "small": TABLEWORLD_SMALL,
    "demo": TABLEWORLD_DEMO,
    "full": TABLEWORLD_FULL,
}


class ObjectDataConfig(StrictModel):
    """Single images of objects with known poses.

    path: path of a dataset. null renders TableWorld into the cache.
    format: "objects" (stadia's layout, also TableWorld), "bop", "nocs", your own `module:Class`, or "auto".
    tableworld: preset that is rendered once if no path is given: "small", "demo" with six times as many tables, ...
    train_split, val_split: names of the splits in the dataset. val_split=null holds out images of train_split.
    val_share: share of held-out images; they are the last ones.
    height, width: size of the network's input, multiples of 32. Every image is resized to it together with its camera.
    pixel_ratio: fx / fy of the training images at this size. null takes it from the dataset. In prediction, images of
        another aspect ratio are padded to it.
    classes: names of the classes, background first. null takes them from the dataset.
    """

    path: str | None = None
    format: str = "auto"
    tableworld: str = "small"
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


def _in_fours(channels: int) -> int:
    if channels % 4:
        raise ValueError("expected a multiple of 4")
    return channels


class ObjectPoseNetConfig(StrictModel):
    """One encoder, and one decoder per output (FastPoseCNN, arXiv 2406.11063).

    The decoder is the semantic branch of Panoptic FPN (arXiv 1901.02446). The reference networks are `resnet18` and
    `resnext50_32x4d` with 256 and 128 channels.

    encoder: "base", or any timm model (`stadia list encoders`). NAME@REVISION takes one commit of its weights.
    pretrained: start the encoder from the weights of `base`, or from timm's if available.
    pyramid_channels: number of channels of each level of the pyramid.
    segmentation_channels: number of channels of each level after upsampling to the finest size.
    dropout: share of whole channels that are dropped before each head.
    rotation_frame: "ray" predicts the quaternion relative to each pixel's ray, so that it does not depend on the
        object's position in the image. "camera" predicts it relative to the camera's axes.
    """

    encoder: str = "base"
    pretrained: bool = True
    pyramid_channels: int = Field(default=64, ge=4)
    segmentation_channels: Annotated[int, Field(ge=4), AfterValidator(_in_fours)] = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rotation_frame: Literal["ray", "camera"] = "ray"


class RotationLossConfig(StrictModel):
    """The loss between predicted and true quaternions.

    name: a name of `stadia list rotation-losses`, or module:function of your own.
    eps: constant of bounded_log, log_dot and minus_log_dot, and of your own function if it has this parameter.
    also: weights of further losses that are added: {"squared_error": 0.5}.
    norm_penalty: weight of (|q| - 1)^2.
    """

    name: Annotated[str, AfterValidator(check_registered(ROTATION_LOSSES))] = "bounded_log"
    eps: float = Field(default=0.1, gt=0, le=1)
    also: dict[str, TermWeight] = Field(default_factory=dict)
    norm_penalty: float = Field(default=0.1, ge=0)

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each loss by name. The loss `name` has the weight 1."""
        return {self.name: 1.0, **{name: weight for name, weight in self.also.items() if weight}}

    @model_validator(mode="after")
    def _counts_each_once(self) -> Self:
        for name in self.also:
            check_registered(ROTATION_LOSSES)(name)
        if self.name in self.also:
            raise ValueError(f"rotation.also: '{self.name}' is already rotation.name")
        return self


class ObjectPoseLossConfig(StrictModel):
    """The terms of the object pose loss and their weights. All terms except the mask's are means over objects.

    name: the loss (`stadia list losses`). Your own module:Class derives from it.
    cross_entropy, focal, dice: weights of the mask terms.
    focal_gamma: how little pixels count that are already right, 1 or more.
    rotation: name of the rotation loss, others that are added, and the penalty on the length of the quaternion.
    rotation_weight: weight of the rotation loss.
    rotation_of: "object" compares the mean over the object's pixels, which has length 1. "pixel" compares each pixel
        with its predicted length, which squared_error needs.
    pixels: compared pixels: "all" of the object, or only those whose predicted class is right ("predicted").
    center: weight of the direction to the center at each pixel.
    depth: weight of the logarithm of z.
    size: weight of the size error relative to the true diagonal.
    """

    name: LossName = "object_pose"
    cross_entropy: TermWeight = 2.0
    focal: TermWeight = 0.0
    focal_gamma: float = Field(default=2.0, ge=1)
    dice: TermWeight = 1.0
    rotation: RotationLossConfig = RotationLossConfig()
    rotation_weight: TermWeight = 1.0
    rotation_of: Literal["object", "pixel"] = "object"
    pixels: Literal["all", "predicted"] = "all"
    center: TermWeight = 1.0
    depth: TermWeight = 1.0
    size: TermWeight = 1.0


class DetectionConfig(StrictModel):
    """How predictions are turned from maps into objects.

    min_px: smallest number of pixels of an object in the network's image.
    hypotheses: number of crossings of two pixels' lines that are tried for each center. 0 fits all lines at once.
    pixels: number of pixels of each object that vote, evenly spaced.
    """

    min_px: int = Field(default=12, ge=1)
    hypotheses: int = Field(default=32, ge=0)
    pixels: int = Field(default=128, ge=2)


class ObjectPoseConfig(RecipeConfig):
    """Class, mask, rotation, translation and size of objects from one image (FastPoseCNN, arXiv 2406.11063).

    Data: none required, TableWorld is rendered; or images with known poses: BOP, NOCS, or your own
        (docs/how-to/objectpose.md). The defaults train on two cores in 15 minutes. Command: `stadia train objectpose`.
    Measured scores: docs/results/objects-and-composites.md.

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
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-3)
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=100)
    training: TrainingConfig = TrainingConfig(
        max_epochs=None, max_steps=1000, batch_size=16, clip_norm=5.0, validate_every=100
    )
