"""Define the types that several packages exchange: cameras, predictors, recordings and their masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, runtime_checkable

from array_api_compat import array_namespace
from typing_extensions import TypeVar  # typing's own has a default only from Python 3.13

from stadia.core.errors import GeometryError

if TYPE_CHECKING:  # `stadia --help` and the first page load no NumPy
    import numpy as np
    from numpy.typing import NDArray

Array = TypeVar("Array", bound=Any, default=Any)
"""An array of NumPy or a tensor of torch. A function whose arguments are of this type returns the same kind."""


class DepthScale(StrEnum):
    """The scale of predicted depth. An evaluation protocol refuses a scale that it cannot score.

    The values are "metres"; "up-to-scale"; "affine-inverse", inverse depth up to scale and shift; and "affine-depth",
    depth up to scale and shift.
    """

    METRES = "metres"
    UP_TO_SCALE = "up-to-scale"
    AFFINE_INVERSE = "affine-inverse"  # inverse depth, up to scale and shift
    AFFINE_DEPTH = "affine-depth"  # depth, up to scale and shift; predictors return its negative, larger for nearer

    @property
    def is_affine(self) -> bool:
        """Return whether depth has an unknown shift, so that ratios of depths, and 3-D points, are undefined."""
        return self in (DepthScale.AFFINE_INVERSE, DepthScale.AFFINE_DEPTH)


SHIFT_FIX = "pass --scale-from reference=DEPTHS to stadia predict"
"""The fix of an error that depth has an unknown shift."""


@dataclass(frozen=True, slots=True)
class Camera(Generic[Array]):
    """A pinhole camera together with the size of its image.

    K: (..., 3, 3) intrinsics in pixels, an array of NumPy or a tensor of torch. Pixel centers have integer
        coordinates; the center of the top-left pixel is (0, 0).
    height, width: size of the image in pixels.

    `stadia.geometry.cameras` changes cameras; `stadia.differentiable` changes an image and its camera together.

    Raises GeometryError for an invalid K or size.
    """

    K: Array
    height: int
    width: int

    def __post_init__(self) -> None:
        is_float = array_namespace(self.K).isdtype(self.K.dtype, "real floating")
        if self.K.shape[-2:] != (3, 3) or not is_float:
            found, fix = f"shape {tuple(self.K.shape)} of {self.K.dtype}", "pass [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
            raise GeometryError("camera K", found=found, expected="(..., 3, 3) of a float type", fix=fix)
        if self.height < 1 or self.width < 1:
            found, fix = f"{self.width}x{self.height}", "pass the image's size"
            raise GeometryError("camera size", found=found, expected="a positive size", fix=fix)

    def to(self, *args: Any, **kwargs: Any) -> Camera[Array]:
        """Return the camera with its tensor K on another device or of another number type. Takes the same arguments as
        `Tensor.to`.
        """
        return Camera(self.K.to(*args, **kwargs), self.height, self.width)

    @property
    def fx(self) -> Array:
        """Return the focal length (...) along x in pixels."""
        return self.K[..., 0, 0]

    @property
    def fy(self) -> Array:
        """Return the focal length (...) along y in pixels."""
        return self.K[..., 1, 1]

    @property
    def cx(self) -> Array:
        """Return the x coordinate (...) of the principal point in pixels."""
        return self.K[..., 0, 2]

    @property
    def cy(self) -> Array:
        """Return the y coordinate (...) of the principal point in pixels."""
        return self.K[..., 1, 2]


class TensorDataclass:
    """Base class of dataclasses of tensors. `.to(...)` moves every tensor and camera in it, also in tuples."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return a copy with every tensor on another device or of another number type. Takes the same arguments as
        `Tensor.to`.
        """

        def moved(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(moved, value))
            return value.to(*args, **kwargs) if hasattr(value, "to") else value

        return replace(self, **{field.name: moved(getattr(self, field.name)) for field in fields(self)})  # type: ignore


@dataclass(frozen=True, slots=True)
class PredictedMaps(TensorDataclass):
    """All maps that a network predicts for images, (B, 1, H, W) each, at the size of the images.

    A `Predictor` returns arrays of NumPy, a recipe tensors of torch.

    inverse_depth: inverse depth, in 1/m if the network predicts metres.
    inverse_depth_right: inverse depth of the right camera of a stereo rig, or None.
    log_uncertainty: log Sigma, the logarithm of the scale of the photometric residual, or None.
    T_right_left: (4, 4) motion from the left to the right camera of this rig, in the unit of depth; None if unknown.
    """

    inverse_depth: Any
    inverse_depth_right: Any = None
    log_uncertainty: Any = None
    T_right_left: Any = None


class Predictor(Protocol):
    """The interface of a network for evaluation and `stadia predict`: NumPy arrays in and out, float32.

    A pose network is optional.

    depth_scale: scale of the predicted depth and translations: metres, up to scale, or up to scale and shift.
    height, width: size of the network's input images. `differentiable.images.resize` resizes images with their camera.
    crop: name of a crop in `geometry.cameras.IMAGE_CROPS`, which is cut out before resizing.
    """

    depth_scale: DepthScale
    height: int
    width: int
    crop: str

    def inverse_depth(self, image: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        """Return inverse depth (B, 1, height, width), in 1/m if `depth_scale` is metres.

        image: (B, 3, height, width) RGB in [0, 1].
        camera: camera of these images at this size, with K (3, 3) or (B, 3, 3) of NumPy.
        """
        ...

    def T_next_now(
        self, now: NDArray[np.float32], camera: Camera, following: NDArray[np.float32], next_camera: Camera
    ) -> NDArray[np.floating] | None:
        """Predict the motion (B, 4, 4) from the earlier to the later camera's coordinate frame, in the unit of depth.

        The result is None if no motion is predicted.

        now, following: (B, 3, height, width) RGB in [0, 1], neighbors in time.
        camera, next_camera: cameras of the two images.
        """
        ...


@runtime_checkable
class MapsPredictor(Predictor, Protocol):
    """A Predictor whose network may predict more than depth."""

    def maps(self, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
        """Return all maps that the network predicts for images, in one pass.

        image: (B, 3, height, width) RGB in [0, 1].
        camera: camera of these images at this size.
        """
        ...


LEFT, RIGHT = "left", "right"


@dataclass(frozen=True, slots=True, eq=False)
class RoadMasks:
    """Which class and which object each pixel of an image shows.

    semantic: (H, W) uint8 class numbers, which `MaskReader.classes` names.
    instance: (H, W) uint16 number of the object in this image; 0 means no object.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


class MaskReader(Protocol):
    """The interface of readers of class and object masks. Images are named by their file name without suffix."""

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the names of the classes by their numbers."""

    def read(self, stem: str, side: str, *, height: int, width: int) -> RoadMasks | None:
        """Return the masks of an image resized to `height` x `width`; None if the image has none.

        stem: name of the image file without suffix.
        side: "left" or "right".

        Raises DataError if the masks are damaged.
        """
        ...

    def heights_m(self, stem: str, side: str) -> Mapping[int, tuple[float, float]]:
        """Return mean and standard deviation in metres of the height of an image's objects, by object number.

        Only objects of known height are contained.

        stem: name of the image file without suffix.
        side: "left" or "right".
        """
        ...

    def fingerprint(self, side: str) -> str:
        """Return a hash of the content of all masks of a side ("left" or "right")."""
        ...


class Rectification(Protocol):
    """The rectification that a reader applied to a stereo pair, for checks whether its calibration is wrong."""

    def other_rows_px(
        self, left_px: NDArray[np.float64], right_px: NDArray[np.float64]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Return, for each usual mistake of a calibration, y_left - y_right (N,) of matches after correcting this
        mistake.

        In a correct pair these differences are near 0. The keys describe the mistakes.

        left_px, right_px: (N, 2) matched pixels in the rectified images.
        """
        ...


class Recording(ABC):
    """Consecutive video frames of one camera or stereo rig, such as a drive or a video. Every call reads from disk.

    An `index` counts the frames from 0; a `side` is "left" or "right".

    name: name that is unique among the recordings of a training and stable between runs ("kitti_odometry/06").
    sides: ("left",) for one camera, ("left", "right") for a rectified pair.
    T_right_left: (4, 4) float64 motion from the left to the right camera's coordinate frame in metres, with t_x =
        -baseline; None for one camera.
    mount: name of the mount. Cameras of one mount are equally high above the road.
    has_metric_poses: whether poses are in metres, and not in the unit of a map or a scene.
    has_metric_depth: whether depth is in metres, and not relative.
    is_part: whether it is only a segment of a longer video, opened for checks of the data.
    is_streamed: whether its frames come from shards (large files with many images), which have their own cache.
    has_stride: whether `data.stride` chooses its frames, as for a user's video. Other datasets refuse that option.
    rectification: the rectification that the reader applied to the pair; None if the files are rectified.
    mask_reader: reads masks of road and objects, or None. It may be set later.
    """

    name: str
    sides: tuple[str, ...] = (LEFT,)
    T_right_left: NDArray[np.float64] | None = None
    mount: str = ""
    has_metric_poses: bool = True
    has_metric_depth: bool = True
    is_part: bool = False
    has_stride: bool = False
    is_streamed: bool = False
    rectification: Rectification | None = None
    mask_reader: MaskReader | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def session(self) -> str:
        """Return the name of the recording's session.

        Recordings of one session show the same places, even in different datasets.
        """
        return self.name

    @abstractmethod
    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) uint8 RGB of a video frame.

        Raises DataError with the file if it is missing or truncated.
        """

    @abstractmethod
    def camera(self, index: int, side: str = LEFT) -> Camera[NDArray[np.float64]]:
        """Return the camera of a video frame: K (3, 3) in pixels of `image(index, side)`, and that image's size."""

    def filmed_camera(self, index: int, side: str = LEFT) -> Camera[NDArray[np.float64]]:
        """Return the camera of a video frame as filmed, before frames were resized for the cache.

        For recordings that are not resized it is `camera`.
        """
        return self.camera(index, side)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return the intrinsics K (3, 3) of a video frame, in pixels."""
        import numpy as np

        return np.asarray(self.camera(index, side).K, np.float64)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the ground-truth depth z (H, W) in metres of a video frame; None without ground truth.

        Pixels with unknown depth are 0.
        """
        return None

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        """Return the files that `depth_m` tries to read for a video frame, in order."""
        return ()

    def depth_kind(self, index: int, side: str = LEFT) -> str:
        """Return the kind of ground truth that `depth_m` returns, if a dataset has several kinds; otherwise ""."""
        return ""

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        """Return the camera-to-world pose (4, 4) of a frame in metres (see `has_metric_poses`); None if unknown."""
        return None

    def map_points(self, index: int) -> NDArray[np.float64] | None:
        """Return the points (M, 3) of a map (from `stadia map`) that the left camera sees; None without a map.

        x and y are in pixels of `image`, and z is depth in the unit of the poses.
        """
        return None

    def map_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return a mask (H, W) bool of what can move in a video frame, according to a map; None without such masks."""
        return None

    def map_neighbor(self, index: int, offset: int) -> int | None:
        """Return the index of the video frame that a frame is paired with for training; None without such a frame.

        It is `index + offset`, or with a map the nearest frame in this direction with enough parallax.

        offset: -1 for a frame before, 1 for a frame after it; larger numbers for farther frames.
        """
        return index + offset if 0 <= index + offset < len(self) else None

    def map_road(self) -> NDArray[np.float64] | None:
        """Return the plane (4,) of the road in the coordinate frame of each camera; None if it is unknown.

        It consists of the unit normal and the camera height, in the unit of the poses, and comes from a map.
        """
        return None

    def timestamp_s(self, index: int) -> float | None:
        """Return the time of a video frame in seconds since any fixed moment; None if it is unknown."""
        return None

    def number(self, index: int) -> int:
        """Return the number that a video frame has in its source; the recording may leave out frames of the source."""
        return index

    def file(self, index: int, side: str = LEFT) -> Path | None:
        """Return the image file of a video frame, for messages and hashes; None for frames of a video file."""
        return None

    def stem(self, index: int, side: str = LEFT) -> str:
        """Return the name of the frame's image file without suffix; for a video file, the frame's number with six
        digits.
        """
        file = self.file(index, side)
        return f"{self.number(index):06d}" if file is None else file.stem

    def ignored(self, side: str = LEFT) -> NDArray[np.bool_] | None:
        """Return the region (H, W) bool of all images that losses, checks and scores ignore; None if nothing is
        ignored.
        """
        return None

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        """Return the masks of road and objects of a video frame, at the size of its image; None without masks.

        Raises DataError if the masks are damaged.
        """
        if self.mask_reader is None:
            return None
        camera = self.camera(index, side)
        return self.mask_reader.read(self.stem(index, side), side, height=camera.height, width=camera.width)

    def shard_of(self, index: int) -> int:
        """Return the number of the shard (file with many images) that contains a video frame.

        It is 0 for recordings without shards.
        """
        return 0

    def prefetch(self, index: int) -> None:  # noqa: B027 - most recordings are on this machine
        """Copy the data of a video frame from a remote store to this machine, in a thread before it is read."""

    @property
    def video_hash(self) -> str:
        """Return a hash of the video file that contains the frames; "" for image files."""
        return ""

    def fingerprint(self) -> str:
        """Return a hash of the content: it changes with the images or the camera, not with the folder's path."""
        return self.name


def name_ground_truth(recordings: Sequence[Recording], indices: Mapping[str, Sequence[int]]) -> str:
    """Return the kinds of ground-truth depth of some video frames, joined by "+"; "" if datasets have one kind only.

    recordings: the recordings.
    indices: indices of the frames by the recording's name.
    """
    kinds = (recording.depth_kind(index) for recording in recordings for index in indices.get(recording.name, ()))
    return "+".join(sorted({*kinds} - {""}))
