"""Configure what is opened: camera, cache, source options and splits. This module does not import torch."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError
from stadia.core.registry import Registry
from stadia.data import DATASETS
from stadia.io import VideoDecoder

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
GroundTruth = Literal["auto", "none", "groundtruth", "velodyne_raw", "lidar", "lidar_eigen"]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=1 << 16)]
Pixels = Annotated[int, Field(ge=32, le=8192)]

SET_CAMERA = "set it with stadia camera INPUT --fov DEGREES"  # for an error of a camera that is unknown or wrong
POSES_OF_MAP = "map"  # value of `poses` for the poses and points of the video's map
MAX_NETWORK_PIXELS = 1 << 22  # pixels of a network's image, 2048x2048


def check_format(formats: Registry, name: str) -> str:
    """Return the name of a dataset's format unchanged if it is known or "auto".

    formats: the known formats.
    name: the name to check.

    Raises ValueError for an unknown name.
    """
    try:
        return name if name == "auto" else formats.check(name)
    except ConfigError as error:
        raise ValueError(f"auto, or {error.expected}") from error


def check_network_pixels(height: int, width: int) -> None:
    """Raise ValueError if an image of this size has more than MAX_NETWORK_PIXELS pixels."""
    if height * width > MAX_NETWORK_PIXELS:
        raise ValueError(f"at most {MAX_NETWORK_PIXELS} pixels, as 2048x2048 (found {width}x{height})")


class CameraConfig(StrictModel):
    """The camera of a user's video. Give it in exactly one way.

    K: the 3x3 matrix in pixels.
    K_file: text or JSON file with one 3x3 matrix for all frames, or one for each frame.
    size: (height, width) of the images that K or K_file belongs to. K is scaled to images of the same shape.
    focal_px: focal length in pixels.
    focal_mm, sensor_width_mm: focal length and longer side of the sensor in millimetres, as lenses are sold.
    horizontal_fov_deg: the full angle from the left to the right edge of the displayed image.
    estimate: use the camera of the video's map (`stadia map`). Short form: `data.camera=estimate`.
    undistort: whether to remove the lens distortion when frames are read.
    crop_bars: whether to cut off black bars when frames are read. K of the whole frames is adapted.

    focal_px, focal_mm and horizontal_fov_deg describe the frames without bars, with the principal point at the center.
    """

    K: Matrix | None = None
    K_file: str | None = None
    size: tuple[Side, Side] | None = None
    focal_px: Annotated[float, Field(gt=0)] | None = None
    focal_mm: Annotated[float, Field(gt=0)] | None = None
    sensor_width_mm: Annotated[float, Field(gt=0)] | None = None
    horizontal_fov_deg: Annotated[float, Field(gt=0, lt=180)] | None = None
    estimate: bool = False
    undistort: bool = True
    crop_bars: bool = True

    @property
    def is_given(self) -> bool:
        """Return whether the configuration itself gives the camera, so that no file and no map is searched for it."""
        return self.model_copy(update={"undistort": True, "crop_bars": True}) != CameraConfig()

    @model_validator(mode="before")
    @classmethod
    def _read_word(cls, given: Any) -> Any:
        return {"estimate": True} if given == "estimate" else given

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        given = [
            n for n in ("K", "K_file", "focal_px", "focal_mm", "horizontal_fov_deg") if getattr(self, n) is not None
        ]
        given += ["estimate"] * self.estimate
        if len(given) > 1:
            raise ValueError(f"give the camera in one way, not in {len(given)} ({', '.join(given)})")
        if (self.focal_mm is None) != (self.sensor_width_mm is None):
            raise ValueError("focal_mm and sensor_width_mm belong together")
        if self.size is not None and self.K is None and self.K_file is None:
            raise ValueError("size belongs to K or K_file")
        return self


class CacheConfig(StrictModel):
    """Cache of images that are decoded and resized once.

    enabled: if false, images are decoded again for every sample.
    folder: folder of the cache. By default it is $STADIA_CACHE, or the user's cache folder.
    shard_gb: how many gigabytes of shards from a store are kept on this machine.
    """

    enabled: bool = True
    folder: str | None = None
    shard_gb: Annotated[float, Field(gt=0, le=1e6)] = 50.0


Box = tuple[  # left, top, right, bottom in pixels; right and bottom are exclusive
    Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]

Damaged = Literal["stop", "skip"]


class SourceOptions(StrictModel):
    """Options of `open_recordings` besides the path.

    recordings: names of the recordings to open, in full or only their end ("06"). Empty opens all.
    exclude: a text file of names of recordings that are left out, one a line, such as exclude.txt of `stadia audit`.
    frames: [start, stop) of each recording.
    split: a split that the dataset itself defines (stadia layout, 7-Scenes: "train", "val", "test").
    color: pair of cameras of KITTI odometry; "auto" uses color if it exists.
    ground_truth: kind of depth for KITTI raw: improved `groundtruth`, single scans `velodyne_raw`, `lidar` projected by
        stadia, or `lidar_eigen` with the scanner's x as depth (Eigen protocol). "auto" uses the first that exists.
    ground_truth_path: a `data_depth_annotated` folder in another place.
    poses: a file of camera-to-world poses (KITTI 3x4 rows) that replaces the dataset's own, for one recording. `map`
        uses the poses of your video's map, which are known up to one scale.
    map_unit_m: metres per unit that a training gives that map; in this unit its median depth, or 16 camera heights, are
        10. Its path and points are multiplied by it. null keeps this unit. A training that starts from a network in
        metres sets it.
    camera: camera of a user's video.
    size: (height, width) of the decoded frames of a user's video; None keeps its size.
    stride: frames of a user's video to keep: "auto" keeps a frame after enough motion, a number n keeps every n-th.
    standing: EuRoC: whether to keep the frames of a standing camera.
    frame_rate_hz: frame rate of a folder of images, if known.
    ignore: region that no loss, check or score counts, such as the car's own hood: an image file whose pixels above 0
        are ignored, a folder with one such PNG per recording or mount, or boxes [[left, top, right, bottom]] in pixels.
    damaged: for many videos and for shards: "skip" leaves out what cannot be read, with a warning.
    video_decoder: decoder of a user's video file. "cuda" decodes on a GPU, which rounds some colors differently.
    """

    recordings: tuple[str, ...] = ()
    exclude: str | None = None
    frames: tuple[int, int] | None = None
    split: str | None = None
    color: Literal["auto", "gray", "color"] = "auto"
    ground_truth: GroundTruth = "auto"
    ground_truth_path: str | None = None
    poses: str | None = None
    map_unit_m: Annotated[float, Field(gt=0)] | None = None
    camera: CameraConfig = CameraConfig()
    size: tuple[Pixels, Pixels] | None = None
    stride: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    standing: Literal["keep", "drop"] = "keep"
    frame_rate_hz: Annotated[float, Field(gt=0)] | None = None
    ignore: str | tuple[Box, ...] | None = None
    damaged: Damaged = "stop"
    video_decoder: VideoDecoder = "cpu"
    cache: CacheConfig = CacheConfig()

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None:
            check_network_pixels(*size)
        return size

    @field_validator("ignore")
    @classmethod
    def _check_ignore(cls, ignore: str | tuple[Box, ...] | None) -> str | tuple[Box, ...] | None:
        for left, top, right, bottom in ignore if isinstance(ignore, tuple) else ():
            if left >= right or top >= bottom:
                raise ValueError(f"[{left}, {top}, {right}, {bottom}] needs left < right and top < bottom")
        return ignore or None

    @field_validator("frames")
    @classmethod
    def _check_frames(cls, frames: tuple[int, int] | None) -> tuple[int, int] | None:
        if frames is not None and not 0 <= frames[0] < frames[1]:
            raise ValueError("expected [start, stop] with 0 <= start < stop")
        return frames


class SplitConfig(StrictModel):
    """Which frames train and which validate. Without any of these options, the dataset's own splits are used.

    train_file, val_file: files with lines `date/drive index l|r`, like the Eigen and Zhou lists of KITTI.
    val_recordings: whole recordings to validate on.
    val_share, gap: otherwise, blocks of consecutive frames with this share of all frames validate. They are drawn once
        by `seed`, with `gap` unused frames on either side.
    unit: what is drawn until it contains `val_share` of the frames: blocks of "frames" in every recording, whole
        "recordings", or all recordings of whole "places".
    seed: seed of the drawn blocks.
    """

    train_file: str | None = None
    val_file: str | None = None
    val_recordings: tuple[str, ...] = ()
    val_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    gap: Annotated[int, Field(ge=0)] = 10
    unit: Literal["frames", "recordings", "places"] = "frames"
    seed: int = 0

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        if self.val_recordings and (self.train_file or self.val_file):
            raise ValueError("give split files or val_recordings, not both")
        if self.val_file and not self.train_file:
            raise ValueError("val_file needs train_file")
        return self


def refuse_idle_options(chosen: SourceOptions, idle: Collection[str], what: str) -> None:
    """Raise ConfigError if options were given that have no effect.

    chosen: the options.
    idle: names of the options that have no effect.
    what: what does not use them, such as a dataset's format; an error message names it.
    """
    given = [key for key in sorted(idle) if getattr(chosen, key) != SourceOptions.model_fields[key].get_default()]
    if given:
        keys, expected = ", ".join(f"data.{key}" for key in given), f"no value: {what} does not use this option"
        raise ConfigError(keys, found="a value", expected=expected, fix="remove it")


class FormatOptions(SourceOptions):
    """Options for reading a dataset (`SourceOptions`), together with the name of its format."""

    format: str = "auto"


class SourceKeys(StrictModel):
    """The configuration keys `data.KEY` of commands that open an input."""

    data: FormatOptions = FormatOptions()


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

    probability: probability of any change.
    brightness, contrast, saturation: factors in 1 +- value.
    hue: +- value of a full turn.
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

    probability: probability of any tilt.
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

    probability: probability of a bad sample, whose images all change in one way.
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

    experimental: ClassVar[frozenset[str]] = frozenset({"zoom"})
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
    sparse_depth: whether depth consists of single LiDAR returns, which are all kept; else it is resized by the nearest
        pixel. "auto" decides by the share of pixels with depth.
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
    *("exclude", "ignore"),
    *("poses", "size", "stride", "standing", "height", "width", "crop", "offsets", "stereo", "target_sides"),
    *("sparse_depth", "extra_datasets"),
)
"""Keys that determine the images and the ground truth of a validation."""

DATASET_NAME = re.compile(r"[A-Za-z0-9_]+")


class DataConfig(DatasetConfig):
    """One dataset, or several that train together, each with its own camera, size and number of epochs.

    name: name of the first dataset, in scores and messages.
    extra_datasets: further datasets by name, with the keys of the first: `data.extra_datasets.euroc.path=EUROC`.
        `SHARED_KEYS` default to the first's.
    order: "mixed" draws batches of one dataset each, in a new order per epoch; "sequential" takes one dataset after
        another one.
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


def parse_source_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Convert `data.key=value` arguments to keyword arguments of `open_recordings`.

    Raises ConfigError for an invalid one.
    """
    return resolve_config(SourceKeys, {}, overrides).data.model_dump(exclude_unset=True)


def parse_data_config(path: str, format: str, overrides: Sequence[str]) -> DataConfig:
    """Convert `data.key=value` arguments to a data configuration.

    path: the data.
    format: name of the data's format, or "auto".
    overrides: the arguments.

    Raises ConfigError for an invalid argument.

    Examples:
        >>> parse_data_config("drive.mp4", "auto", ["data.stride=2"]).stride
        2
    """
    return resolve_config(DataKeys, {"data": {"path": path, "format": format}}, overrides).data
