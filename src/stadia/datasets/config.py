"""Configure what is opened: camera, cache, source options, splits. Imports no torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError
from stadia.core.registry import Registry

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
GroundTruth = Literal["auto", "none", "groundtruth", "velodyne_raw", "lidar", "lidar_eigen"]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=1 << 16)]
Pixels = Annotated[int, Field(ge=32, le=8192)]

POSES_OF_MAP = "map"  # value of `poses` for the poses and points of the video's map
MAX_NETWORK_PIXELS = 1 << 22  # of a network's images, 2048x2048


def check_format(formats: Registry, name: str) -> str:
    """Return the name of a data set's format, or "auto". Raises ValueError for an unknown name."""
    try:
        return name if name == "auto" else formats.check(name)
    except ConfigError as error:
        raise ValueError(f"auto, or {error.expected}") from error


def check_network_pixels(height: int, width: int) -> None:
    """Raise ValueError for images of more than MAX_NETWORK_PIXELS pixels."""
    if height * width > MAX_NETWORK_PIXELS:
        raise ValueError(f"at most {MAX_NETWORK_PIXELS} pixels, as 2048x2048 (found {width}x{height})")


class CameraConfig(StrictModel):
    """The camera of a user's video, given in exactly one way.

    K: the matrix in pixels.  K_file: text or JSON with 3x3 for all frames, or one 3x3 per frame.
    size: (height, width) of the images that K or K_file belongs to; K is scaled to images of the same shape.
    focal_px: pixels.  focal_mm with sensor_width_mm (the longer side): as lenses are sold.
    horizontal_fov_deg: the full angle from the left to the right edge of the displayed image.
    estimate: use the map of the video (`stadia map`); short form: `data.camera=estimate`.
    undistort: whether to remove the lens distortion when frames are read.
    crop_bars: whether to cut off black bars when frames are read. K of the whole frames is moved accordingly.

    focal_px, focal_mm and horizontal_fov_deg belong to the frames without bars, with the principal point at the center.
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
        """Return whether the camera is given in any way."""
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

    enabled: if false, images are decoded for every sample.
    folder: default: $STADIA_CACHE, else the user's cache folder.
    shard_gb: gigabytes of shards from a store to keep on this machine.
    """

    enabled: bool = True
    folder: str | None = None
    shard_gb: Annotated[float, Field(gt=0, le=1e6)] = 50.0


Box = tuple[  # left, top, right, bottom in pixels; right and bottom are exclusive
    Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]

Damaged = Literal["stop", "skip"]
VideoDecoder = Literal["cpu", "cuda"]


class SourceOptions(StrictModel):
    """Options of `open_recordings` besides the path.

    recordings: only these, by name or by the end of their name ("06"); empty for all.
    frames: [start, stop) of each recording.
    split: a split that the dataset itself names (stadia layout, 7-Scenes: "train", "val", "test").
    color: KITTI odometry, pair of cameras; "auto" uses color if it exists.
    ground_truth: KITTI raw depth: improved `groundtruth`, single scans `velodyne_raw`, `lidar` projected by stadia, or
        `lidar_eigen` with the scanner's x as depth (Eigen protocol). "auto" uses the first that exists.
    ground_truth_path: a `data_depth_annotated` folder in another place.
    poses: a file of camera-to-world poses (KITTI 3x4 rows) that replaces the dataset's own, for one recording; `map`
        uses the poses of your video's map, which are up to one scale.
    map_unit_m: metres per unit of that map, which multiply its path and points; null keeps its own unit. A training
        from a network in metres sets it.
    camera: of a user's video.
    size: (height, width) to which a user's video is decoded; None keeps its own size.
    stride: of a user's video; "auto" keeps a frame after enough motion, a number keeps every n-th.
    standing: EuRoC, whether to keep the frames of a standing camera.
    frame_rate_hz: of a folder of images, if known.
    ignore: region that no loss, check or score counts, such as the car's own hood: an image file in which pixels above
        0 are ignored, a folder with one such PNG per recording or mount, or boxes [[left, top, right, bottom]] in
        pixels.
    damaged: of many videos and of shards; "skip" leaves out what cannot be read, with a warning.
    video_decoder: of a user's video file; "cuda" decodes on a GPU, and rounds some colors differently.
    """

    recordings: tuple[str, ...] = ()
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
            raise ValueError("frames is [start, stop) with 0 <= start < stop")
        return frames


class SplitConfig(StrictModel):
    """Which frames train and which validate. Without any of these options, the splits of the dataset are used.

    train_file, val_file: lines `date/drive index l|r`, like the Eigen and Zhou lists of KITTI.
    val_recordings: whole recordings to validate on.
    val_share, gap: else blocks of consecutive frames, drawn once by `seed`, with `gap` unused frames on either side.
    unit: what is drawn until it has `val_share` of the frames: blocks of "frames" in every recording, whole
        "recordings", or all recordings of whole "places".
    seed: of the drawn blocks.
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


class FormatOptions(SourceOptions):
    """`SourceOptions` and the format."""

    format: str = "auto"


class SourceKeys(StrictModel):
    """The keys `data.KEY` that open an input."""

    data: FormatOptions = FormatOptions()
