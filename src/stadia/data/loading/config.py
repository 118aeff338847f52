"""Configure samples: size, crop, neighbors, augmentation, and several datasets. Imports no torch."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from stadia.core.config import StrictModel
from stadia.data import DATASETS
from stadia.data.config import Pixels, Share, SourceOptions, SplitConfig, check_format, check_network_pixels

STRIDE = 32


def require_multiple(stride: int, reason: str) -> AfterValidator:
    """Return a validator for sides that must be multiples of a stride."""

    def check(side: int) -> int:
        if side % stride:
            raise ValueError(f"expected a multiple of {stride}, {reason}; take {round(side / stride) * stride}")
        return side

    return AfterValidator(check)


NetworkPixels = Annotated[Pixels, require_multiple(STRIDE, "the coarsest stride of an encoder")]


class ColorConfig(StrictModel):
    """Color jitter of the network's input, one draw for all images of a sample. Defaults as in Monodepth2.

    probability: of any change.  brightness, contrast, saturation: factors in 1 +- value.  hue: +- value of a full turn.
    Source: github.com/nianticlabs/monodepth2
    """

    probability: Share = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class TiltConfig(StrictModel):
    """Turn the camera of a sample about its optical axis (roll) and up or down (pitch), with depth, masks and motion.

    The part that the turned image lacks is filled with its reflection, and left out of losses and scores.

    probability: of any tilt.
    roll_deg, pitch_deg: largest angles, drawn evenly from minus to plus this value.
    """

    probability: Share = 0.0
    roll_deg: Annotated[float, Field(ge=0, le=30)] = 5.0
    pitch_deg: Annotated[float, Field(ge=0, le=10)] = 0.0

    @model_validator(mode="after")
    def _check_angles(self) -> Self:
        if self.probability and not (self.roll_deg or self.pitch_deg):
            raise ValueError("roll_deg and pitch_deg are both 0: set one, or probability=0")
        return self


Weather = Literal["fog", "rain", "blur", "noise"]  # A kind of bad images (`dataloading.transforms`)

WEATHERS: tuple[Weather, ...] = ("fog", "rain", "blur", "noise")


class WeatherConfig(StrictModel):
    """Bad weather and bad cameras in the network's input; losses compare the clean images.

    probability: of a bad sample, in which all images change in one way.
    kinds: fog, rain, blur, noise; one is drawn.
    strength: the largest; each sample's is drawn between a quarter of it and all of it.

    Source: Saunders et al., "Self-supervised Monocular Depth Estimation: Let's Talk About The Weather", ICCV 2023.
    """

    probability: Share = 0.0
    kinds: Annotated[tuple[Weather, ...], Field(min_length=1)] = WEATHERS
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0


class AugmentationConfig(StrictModel):
    """Random changes of training samples.

    mirror: probability of mirroring image, camera, stereo side and targets together.
    zoom: a random crop is enlarged by up to this factor (1 = never), with its camera.
    crop: (height, width) of a random part of the image, after resizing the image with its aspect to just cover it
        (MiDaS, arXiv 1907.01341). Validation and prediction see the whole image, at `data.height` and `data.width`.
        null: the whole image also in training.
    tilt, weather: roll and pitch of the camera; fog, rain, blur and noise of the input.
    """

    mirror: Share = 0.5
    color: ColorConfig = ColorConfig()
    zoom: Annotated[float, Field(ge=1, le=2)] = 1.0
    crop: tuple[NetworkPixels, NetworkPixels] | None = None
    tilt: TiltConfig = TiltConfig()
    weather: WeatherConfig = WeatherConfig()


NO_AUGMENTATION = AugmentationConfig(mirror=0.0, color=ColorConfig(probability=0.0))


class DatasetConfig(SourceOptions):
    """One dataset: `SourceOptions`, and how samples are made from it.

    path, format: see `open_recordings`.
    height, width: network input size, multiples of 32; images are resized to it with their cameras.
    crop: before resizing, the whole image or "kb", the 1216x352 pixels of the KITTI benchmark (bottom, middle).
        Predictions of the checkpoint show the same part.
    offsets: temporal neighbors that become sources.
    stereo: whether the stereo partner is a source; "auto" if every recording has one.
    target_sides: sides whose images become targets; mirroring shows the other side anyway.
    ground_truth_depth: fill `targets.depth_m` at network size for a supervised loss. Validation always has depth if it
        exists.
    sparse_depth: whether depth is single LiDAR returns, all of which are kept; else it is resized by the nearest pixel.
        "auto" decides by the share of pixels with depth.
    shuffle_shards: number of shards whose samples are mixed; they must fit into `cache.shard_gb`.
    epochs: passes over this dataset in an epoch of training on several; with 0.5, two epochs use it once.
    """

    path: str
    format: str = "auto"
    split_by: SplitConfig = SplitConfig()
    height: NetworkPixels = 192
    width: NetworkPixels = 640
    crop: Literal["none", "kb"] = "none"
    offsets: tuple[int, ...] = (-1, 1)
    stereo: bool | Literal["auto"] = "auto"
    target_sides: Annotated[tuple[Literal["left", "right"], ...], Field(min_length=1)] = ("left",)
    ground_truth_depth: bool = False
    sparse_depth: bool | Literal["auto"] = "auto"
    augmentation: AugmentationConfig = AugmentationConfig()
    shuffle_shards: Annotated[int, Field(ge=1, le=100_000)] = 16
    epochs: Annotated[float, Field(gt=0, le=10_000)] = 1.0

    @model_validator(mode="after")
    def _check_pixels(self) -> Self:
        check_network_pixels(self.height, self.width)
        return self

    @field_validator("format")
    @classmethod
    def _check_format(cls, name: str) -> str:
        return check_format(DATASETS, name)

    @field_validator("offsets")
    @classmethod
    def _check_offsets(cls, offsets: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in offsets or len(set(offsets)) < len(offsets):
            raise ValueError("offsets must differ from 0 and from each other")
        return offsets

    @field_validator("target_sides")
    @classmethod
    def _check_sides(cls, sides: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(sides)) < len(sides):
            raise ValueError("each side once")
        return sides


SHARED_KEYS = ("height", "width", "crop", "offsets", "target_sides", "ground_truth_depth", "augmentation", "cache")
"""Keys that a further dataset inherits from the first unless it sets them."""

VALIDATION_KEYS = (
    *("path", "format", "recordings", "frames", "split", "split_by", "color", "ground_truth", "ground_truth_path"),
    "ignore",
    *("poses", "size", "stride", "standing", "height", "width", "crop", "offsets", "stereo", "target_sides"),
    *("sparse_depth", "extra_datasets"),
)
"""Keys that determine the images and the ground truth of a validation."""

DATASET_NAME = re.compile(r"[A-Za-z0-9_]+")


class DataConfig(DatasetConfig):
    """One dataset, or several that train together, each with its own camera, size and number of epochs.

    name: of the first dataset, in scores and messages.
    extra_datasets: further datasets by name, with the keys of the first: `data.extra_datasets.euroc.path=EUROC`.
        `SHARED_KEYS` default to the first's.
    order: "mixed" draws batches of one dataset each, in a new order per epoch; "sequential" takes one dataset after
        the other.
    """

    name: str = "first"
    extra_datasets: dict[str, DatasetConfig] = Field(default_factory=dict)
    order: Literal["mixed", "sequential"] = "mixed"

    @property
    def sets(self) -> dict[str, DatasetConfig]:
        """All datasets by name, the first one first."""
        return {self.name: self, **self.extra_datasets}

    @property
    def mono(self) -> list[str]:
        """Names of datasets without a stereo pair; valid once "auto" is resolved."""
        return [name for name, dataset in self.sets.items() if dataset.stereo is False]

    def key_of(self, name: str) -> str:
        """Return the configuration prefix of a dataset: "data", or "data.extra_datasets.NAME"."""
        return "data" if name == self.name else f"data.extra_datasets.{name}"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_first(cls, values: Any) -> Any:
        others = values.get("extra_datasets") if isinstance(values, Mapping) else None
        if not isinstance(others, Mapping):
            return values
        shared = {key: values.get(key, cls.model_fields[key].default) for key in SHARED_KEYS}
        filled = {
            name: {**shared, **dataset} if isinstance(dataset, Mapping) else dataset for name, dataset in others.items()
        }
        return {**values, "extra_datasets": filled}

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.sets:
            if not DATASET_NAME.fullmatch(name):
                raise ValueError(f"the name of a dataset has letters, digits and '_' (found '{name}')")
        if self.name in self.extra_datasets:
            raise ValueError(f"two datasets are named '{self.name}': set data.name")
        if not self.extra_datasets and (self.name, self.order) != ("first", "mixed"):
            raise ValueError("data.name and data.order need several datasets, but data.extra_datasets is empty")
        if not self.extra_datasets and not math.isclose(self.epochs, 1):
            need = "data.epochs needs several datasets, but data.extra_datasets is empty"
            raise ValueError(f"{need}; training.max_epochs trains longer")
        return self


class DataKeys(StrictModel):
    """The keys `data.KEY` of a training's data."""

    data: DataConfig
