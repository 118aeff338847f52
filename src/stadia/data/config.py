"""Configure data: what is opened, which frames train, how samples are made. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from stadia.core.config import StrictModel
from stadia.data import DATASETS

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
GroundTruth = Literal["auto", "none", "groundtruth", "velodyne_raw", "lidar", "lidar_eigen"]
Share = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=32, le=8192)]
STRIDE = 32


def _check_stride(side: int) -> int:
    """Raise ValueError for a side that encoders, which halve an image five times, cannot divide."""
    if side % STRIDE:
        raise ValueError(
            f"expected a multiple of {STRIDE}, the coarsest stride of an encoder; take {round(side / STRIDE) * STRIDE}"
        )
    return side


NetworkPixels = Annotated[Pixels, AfterValidator(_check_stride)]


class CameraConfig(StrictModel):
    """The camera of a user's video, given in exactly one way.

    K: the matrix, pixels.  K_file: text or JSON with 3x3 for all frames, or 3x3 for each frame.
    focal_px: pixels.  focal_mm with sensor_width_mm (the wider side): as lenses are sold.
    horizontal_fov_deg: the full angle from the left to the right edge of the displayed image (its shorter side if
        upright).
    The last three put the principal point at the image center.
    """

    K: Matrix | None = None
    K_file: str | None = None
    focal_px: Annotated[float, Field(gt=0)] | None = None
    focal_mm: Annotated[float, Field(gt=0)] | None = None
    sensor_width_mm: Annotated[float, Field(gt=0)] | None = None
    horizontal_fov_deg: Annotated[float, Field(gt=0, lt=180)] | None = None

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        given = [
            n for n in ("K", "K_file", "focal_px", "focal_mm", "horizontal_fov_deg") if getattr(self, n) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"give the camera in one way, not in {len(given)} ({', '.join(given)})")
        if (self.focal_mm is None) != (self.sensor_width_mm is None):
            raise ValueError("focal_mm and sensor_width_mm belong together")
        return self


class CacheConfig(StrictModel):
    """Cache of images that are decoded and resized once.

    enabled: false decodes them for every sample.
    folder: None is $STADIA_CACHE, else the user's cache folder.
    """

    enabled: bool = True
    folder: str | None = None


class SourceOptions(StrictModel):
    """Options of `open_recordings` beside the path.

    recordings: only these, by name or by the end of their name ("06"); empty = all.
    frames: [start, stop) of each recording.
    split: a split that the dataset itself names (stadia layout, 7-Scenes: "train", "val", "test").
    color: KITTI odometry, which pair of cameras; "auto" takes color where it exists.
    ground_truth: KITTI raw, which depth: improved `groundtruth`, single scans `velodyne_raw`, `lidar` projected by
        stadia, or `lidar_eigen` with the scanner's x as depth (Eigen protocol). "auto" takes the first that exists.
    ground_truth_path: a `data_depth_annotated` folder in another place.
    poses: a file of camera-to-world poses (KITTI 3x4 rows) that replaces the dataset's own; one recording only.
    camera: of a user's video.
    size: (height, width) that a user's video file is decoded to; None keeps its own size.
    stride: of a user's video; "auto" keeps a frame after enough motion, a number keeps every n-th.
    standing: EuRoC, whether frames of a standing camera are kept, or dropped as by `stride` "auto".
    frame_rate_hz: of a folder of images, if known.
    """

    recordings: tuple[str, ...] = ()
    frames: tuple[int, int] | None = None
    split: str | None = None
    color: Literal["auto", "gray", "color"] = "auto"
    ground_truth: GroundTruth = "auto"
    ground_truth_path: str | None = None
    poses: str | None = None
    camera: CameraConfig = CameraConfig()
    size: tuple[Pixels, Pixels] | None = None
    stride: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    standing: Literal["keep", "drop"] = "keep"
    frame_rate_hz: Annotated[float, Field(gt=0)] | None = None
    cache: CacheConfig = CacheConfig()

    @field_validator("frames")
    @classmethod
    def _check_frames(cls, frames: tuple[int, int] | None) -> tuple[int, int] | None:
        if frames is not None and not 0 <= frames[0] < frames[1]:
            raise ValueError("frames is [start, stop) with 0 <= start < stop")
        return frames


class ColorConfig(StrictModel):
    """Color jitter: one draw for all images of a sample, for the network's input only. Ranges as in Monodepth2.

    probability: of any change.  brightness, contrast, saturation: factors in 1 +- value.  hue: +- value of a full turn.
    Source: github.com/nianticlabs/monodepth2
    """

    probability: Share = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class AugmentationConfig(StrictModel):
    """Random changes of training samples.

    mirror: probability of mirroring image, camera, stereo side and targets together.
    zoom: a random crop is enlarged by up to this factor (1 = never), with its camera.
    """

    mirror: Share = 0.5
    color: ColorConfig = ColorConfig()
    zoom: Annotated[float, Field(ge=1, le=2)] = 1.0


NO_AUGMENTATION = AugmentationConfig(mirror=0.0, color=ColorConfig(probability=0.0))


class SplitConfig(StrictModel):
    """Which frames train and which validate.

    train_file, val_file: `date/drive index l|r` a line, as the Eigen and Zhou lists of KITTI.
    val_recordings: whole recordings to validate on.
    val_share, gap: else blocks of consecutive frames, drawn once by `seed`, with `gap` unused frames on either side.
    The splits of a dataset (dataset.json of the stadia layout) are used unless one of the above is given.
    """

    train_file: str | None = None
    val_file: str | None = None
    val_recordings: tuple[str, ...] = ()
    val_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    gap: Annotated[int, Field(ge=0)] = 10
    seed: int = 0

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        if self.val_recordings and (self.train_file or self.val_file):
            raise ValueError("give split files or val_recordings, not both")
        if self.val_file and not self.train_file:
            raise ValueError("val_file needs train_file")
        return self


class OneDataConfig(SourceOptions):
    """One dataset: `SourceOptions`, and how samples are made of it.

    path, format: see `open_recordings`.
    height, width: network input size, multiples of 32; images are resized to it with their cameras.
    crop: before resizing, the whole image or "kb", the 1216x352 pixels of the KITTI benchmark (bottom, middle).
        Predictions of the checkpoint show the same part.
    offsets: temporal neighbors that become sources.
    stereo: whether the stereo partner is a source; "auto" where every recording has one.
    target_sides: sides whose images become targets; mirroring shows the other side anyway.
    ground_truth_depth: fill `targets.depth_m` at network size for a supervised loss. Validation has it wherever it
        exists; scoring reads it at full size.
    sparse_depth: depth is single LiDAR returns: each is kept, the nearest of several on one pixel. Else it is a
        surface, resized by the nearest pixel. "auto" decides by the share of pixels with depth.
    epochs: passes over this dataset in an epoch of training on several; 0.5 takes one half, and the other half in the
        next epoch.
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
    epochs: Annotated[float, Field(gt=0, le=10_000)] = 1.0

    @field_validator("format")
    @classmethod
    def _check_format(cls, name: str) -> str:
        if name != "auto" and name not in DATASETS:
            raise ValueError(f"one of auto, {', '.join(DATASETS)}")
        return name

    @field_validator("offsets")
    @classmethod
    def _check_offsets(cls, offsets: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in offsets or len(set(offsets)) < len(offsets):
            raise ValueError("offsets are different from 0 and from each other")
        return offsets

    @field_validator("target_sides")
    @classmethod
    def _check_sides(cls, sides: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(sides)) < len(sides):
            raise ValueError("each side once")
        return sides


AS_THE_FIRST = ("height", "width", "crop", "offsets", "target_sides", "ground_truth_depth", "augmentation", "cache")
"""Keys that a further dataset takes from the first unless it sets them. What is opened is its own."""

YARDSTICK = (
    *(
        "path",
        "format",
        "recordings",
        "frames",
        "split",
        "split_by",
        "color",
        "ground_truth",
        "ground_truth_path",
        "poses",
        "size",
    ),
    *("stride", "standing", "height", "width", "crop", "offsets", "stereo", "target_sides", "sparse_depth", "others"),
)
"""Keys that decide which images and which ground truth a validation has, and their size."""

NAME = re.compile(r"[A-Za-z0-9_]+")


class DataConfig(OneDataConfig):
    """One dataset, or several that train together, each with its own camera, size and number of epochs.

    name: of the first dataset, in scores and messages.
    others: further datasets by name, with the keys of the first: `data.others.euroc.path=EUROC`. Size, crop, offsets,
        sides, ground truth, augmentation and cache default to the first's.
    order: "mixed" draws batches of one dataset each in an order that changes with the epoch; "sequential" goes
        through them in the given order.
    """

    name: str = "first"
    others: dict[str, OneDataConfig] = Field(default_factory=dict)
    order: Literal["mixed", "sequential"] = "mixed"

    @property
    def sets(self) -> dict[str, OneDataConfig]:
        """Every dataset by its name, the first one first."""
        return {self.name: self, **self.others}

    @property
    def mono(self) -> list[str]:
        """Names of datasets without a stereo pair; valid once "auto" is resolved."""
        return [name for name, one in self.sets.items() if one.stereo is False]

    def key_of(self, name: str) -> str:
        """Return the configuration prefix of a dataset: "data", or "data.others.NAME"."""
        return "data" if name == self.name else f"data.others.{name}"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_first(cls, values: Any) -> Any:
        others = values.get("others") if isinstance(values, Mapping) else None
        if not isinstance(others, Mapping):
            return values
        shared = {key: values.get(key, cls.model_fields[key].default) for key in AS_THE_FIRST}
        filled = {name: {**shared, **one} if isinstance(one, Mapping) else one for name, one in others.items()}
        return {**values, "others": filled}

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.sets:
            if not NAME.fullmatch(name):
                raise ValueError(f"the name of a dataset has letters, digits and '_' (found '{name}')")
        if self.name in self.others:
            raise ValueError(f"the first dataset and another are both named '{self.name}': set data.name")
        if not self.others and (self.name, self.order) != ("first", "mixed"):
            raise ValueError("data.name and data.order belong to several datasets, and data.others names none")
        if not self.others and not math.isclose(self.epochs, 1):
            raise ValueError(
                "data.epochs belongs to several datasets, and data.others names none; training.max_epochs trains longer"
            )
        return self
