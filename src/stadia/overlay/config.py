"""Configuration of the recipe `overlay`. This module does not import torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from stadia.core.config import StrictModel, check_range, check_registered
from stadia.core.types import DepthScale
from stadia.data.config import CacheConfig, ColorConfig, Share, SourceOptions, SplitConfig, require_multiple
from stadia.losses.config import LossName, TermWeight, describe_empty_range
from stadia.networks.config import check_size_multiple
from stadia.overlay import OVERLAY_LOSSES, OVERLAY_NETWORKS
from stadia.synthetic.config import SceneCounts, Scenes, Supersampling
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from stadia.training.recipes.base.config import RecipeConfig, RunName, data_keys

OVERLAY_STRIDE = 8  # image sides are multiples of it: both networks halve the image three times

CompositePixels = Annotated[int, Field(ge=16, le=4096), require_multiple(OVERLAY_STRIDE, "the stride of the networks")]


class CutoutConfig(SceneCounts):
    """A set of rendered cut-out objects: number of objects, views of each, and image size.

    train, val, test: number of objects in each split.
    views: number of images of each object.
    side: height and width of an image in pixels.
    elevation_deg: range of the camera's elevation above the object.
    field_of_view_deg: field of view of the camera.
    supersampling: N for N x N samples per pixel.
    """

    scene_name = "object"
    train: Scenes = 240
    val: Scenes = 40
    test: Scenes = 40
    views: Annotated[int, Field(ge=1, le=100)] = 3
    side: Annotated[int, Field(ge=16, le=2048)] = 128
    elevation_deg: Annotated[tuple[float, float], check_range(0, 85)] = (2.0, 25.0)
    field_of_view_deg: Annotated[float, Field(ge=5, le=90)] = 30.0
    supersampling: Supersampling = 5


class BackgroundConfig(SourceOptions):
    """Images with depth onto which cut-outs are pasted. The depth is true depth, or the depth by a teacher network.

    path, format: see `open_recordings`. null takes RoadWorld's demo worlds, which are rendered once into the cache.
    split_by: which images validate. Splits that a dataset itself defines are kept.
    sides: cameras of the rig.
    teacher: a folder that `stadia predict` wrote for these images. Its depth replaces true depth.
    """

    path: str | None = None
    format: str = "auto"
    split_by: SplitConfig = SplitConfig()
    sides: Annotated[tuple[Literal["left", "right"], ...], Field(min_length=1)] = ("left",)
    teacher: str | None = None


class ForegroundConfig(StrictModel):
    """Cut-outs: PNG files with an alpha channel.

    path: FOLDER/NAME.png, FOLDER/OBJECT/VIEW.png, or either of them in FOLDER/SPLIT. null renders objects of
        TableWorld.
    val_share: share of the objects that validate, if the folder defines no splits.
    """

    path: str | None = None
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2


class PlacementConfig(StrictModel):
    """Position and size of cut-outs.

    rule: "random", or "grid": 4 rows of 5 places, each also mirrored. Objects in higher rows are smaller and farther.
    size: for "random": smallest and largest longer side of a cut-out, as a share of the image's shorter side.
    foot: for "random": range of the lower edge, as a share of the image's height from above.
    """

    rule: Literal["random", "grid"] = "random"
    size: Annotated[tuple[Annotated[float, Field(gt=0)], float], check_range(0)] = (0.3, 0.6)
    foot: Annotated[tuple[float, float], check_range(0, 1)] = (0.7, 1.0)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.size[1] > 1:
            raise ValueError(f"size: {self.size[1]:g} is larger than the background; expected at most 1")
        return self


MAX_SAMPLES = 1_000_000  # composite images of an epoch or of a split on disk


class OverlayDataConfig(StrictModel):
    """Composite images: cut-outs pasted onto backgrounds.

    path: a set that `stadia data overlay` wrote, or one in the published layout. null composes images during training.
    height, width: size of the composite images, multiples of 8.
    backgrounds, foregrounds, placement: what is composed, if no path is given.
    samples, val_samples: number of images that are composed for an epoch and for validation.
    per_background: number of consecutive training images with the same background (4000 in the published set).
    fresh: compose new images in each epoch.
    val_share: share of the published layout's backgrounds and foregrounds that validate. Mixed pairs are left out.
    val_rule: "disjoint" holds out val_share. "published" validates on backgrounds 76 to 100, whose foregrounds also
        train. With it the check C02 stops the training; `--on-stop warn` trains anyway.
    mirror: probability of mirroring a training sample.
    color: color augmentation, drawn once per sample for image and background together.
    """

    path: str | None = None
    height: CompositePixels = 64
    width: CompositePixels = 64
    backgrounds: BackgroundConfig = BackgroundConfig()
    foregrounds: ForegroundConfig = ForegroundConfig()
    placement: PlacementConfig = PlacementConfig()
    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] = 10_000
    val_samples: Annotated[int, Field(ge=0, le=MAX_SAMPLES)] = 500
    per_background: Annotated[int, Field(ge=1)] = 1
    fresh: bool = True
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    val_rule: Literal["disjoint", "published"] = "disjoint"
    mirror: Share = 0.5
    color: ColorConfig = ColorConfig()
    cache: CacheConfig = CacheConfig()

    @field_validator("path")
    @classmethod
    def _check_path_not_empty(cls, path: str | None) -> str | None:
        if path == "":
            raise ValueError("an empty path; null composes")
        return path


class OverlayNetConfig(StrictModel):
    """The network of the recipe `overlay`.

    network: a name of `stadia list overlay-networks`: `light`, or `full` with 24,019,618 parameters.
    output_stride: predict at 1/output_stride of the image size, and upsample bilinearly.
    init_depth_m: depth that an untrained network predicts, in the unit of the labels.
    """

    network: Annotated[str, AfterValidator(check_registered(OVERLAY_NETWORKS))] = "light"
    output_stride: Literal[1, 2, 4, 8] = 1
    init_depth_m: float = Field(default=10.0, gt=0)


def check_overlay_size(height: int, width: int) -> None:
    """Raise ConfigError with the nearest valid size unless both sides are multiples of OVERLAY_STRIDE."""
    check_size_multiple("overlay", OVERLAY_STRIDE, height=height, width=width)


class OverlayLossConfig(StrictModel):
    """Depth and mask of composite images: a weighted sum of terms (`stadia list overlay-losses`).

    Depth is scaled so that it is 0 at min_depth and 1 at max_depth. d is the error of the scaled depth.

    name: the loss (`stadia list losses`). Your own module:Class derives from it.
    depth_values: the compared values: "log" compares ln z, so that errors are relative; "raw" compares z.
    depth_mse, depth_l1, depth_smooth_l1: weights of the mean of d^2, of |d|, and of smooth L1.
    depth_ssim: weight of 1 - SSIM.
    depth_gradient: weight of the mean |dx d| + |dy d|, which ignores constant errors.
    mask_bce, mask_mse, mask_dice: weights of cross-entropy, of the squared error of the probability, and of 1 - Dice
        per image.
    smooth_l1_beta: beta of smooth L1. At 1 all errors are below it.
    balance: if true, weights are shares of the gradient at the layer that both heads share. If false, they are factors.
    balance_every: number of steps between two measurements of the gradients.
    monitor: at each logged step, also compute all terms (`train/monitor/NAME`) and their seconds
        (`train/monitor_s/NAME`).
    label_stride: compare at 1/label_stride of the image size. A block of labels has the median of its depths and the
        majority of its mask.
    min_depth, max_depth: range of valid labels, in the unit of the labels.
    """

    name: LossName = "overlay"
    depth_values: Literal["log", "raw"] = "log"
    depth_mse: TermWeight = 0.0
    depth_l1: TermWeight = 1.0
    depth_smooth_l1: TermWeight = 0.0
    depth_ssim: TermWeight = 0.0
    depth_gradient: TermWeight = 0.0
    mask_bce: TermWeight = 1.0
    mask_mse: TermWeight = 0.0
    mask_dice: TermWeight = 0.0
    smooth_l1_beta: float = Field(default=0.02, gt=0)
    balance: bool = True
    balance_every: int = Field(default=50, ge=1)
    monitor: bool = False
    label_stride: Literal[1, 2, 4, 8] = 1
    min_depth: float = Field(default=0.25, gt=0)
    max_depth: float = Field(default=80.0, gt=0)

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights above 0 by the name of the term."""
        weights = {name: float(getattr(self, name)) for name in OVERLAY_LOSSES}
        return {name: weight for name, weight in weights.items() if weight}

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        if self.min_depth >= self.max_depth:
            raise ValueError(describe_empty_range("depth", self.min_depth, self.max_depth))
        depth_errors = ("depth_mse", "depth_l1", "depth_smooth_l1", "depth_ssim")
        for what, anchors in (("depth", depth_errors), ("mask", ("mask_",))):
            if not any(name.startswith(anchors) for name in self.weights):
                only_gradient = "depth_gradient" in self.weights and what == "depth"
                alone = "depth_gradient ignores constants; " if only_gradient else ""
                terms = [name for name in OVERLAY_LOSSES if name.startswith(what) and name != "depth_gradient"]
                raise ValueError(f"{alone}no term measures the {what}: set one of {', '.join(terms)}")
        return self


class OverlayConfig(RecipeConfig):
    """Depth and foreground mask of a composite image, from it and its background image (docs/how-to/overlay.md).

    Data: none required, RoadWorld and TableWorld are rendered; or your own backgrounds with depth and cut-outs with
        alpha. The defaults train on two cores in 10 minutes. Command: `stadia train overlay`.
    Measured scores: docs/results/objects-and-composites.md.

    recipe: name of this recipe.
    depth_source: origin of the depth labels, "exact" or "teacher: NAME"; null = from the dataset.
    depth_scale: scale of the depth labels; null = from the dataset.
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
