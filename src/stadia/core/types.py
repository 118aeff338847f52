"""Define the types that several packages exchange: cameras, batches, predictions and predictors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, runtime_checkable

from typing_extensions import TypeVar  # typing's own has a default only from Python 3.13

from stadia.core.errors import GeometryError

if TYPE_CHECKING:
    from torch import Tensor  # for readers only: an exported network works without torch


from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class DepthScale(StrEnum):
    """The scale of predicted depth. A protocol refuses a scale that it cannot score."""

    METRES = "metres"
    UP_TO_SCALE = "up-to-scale"
    AFFINE_INVERSE = "affine-inverse"  # inverse depth, up to scale and shift
    AFFINE_DEPTH = "affine-depth"  # depth, up to scale and shift; predictors return its negative, larger for nearer

    @property
    def is_affine(self) -> bool:
        """Return whether depth has an unknown shift, so that ratios of depths and points are undefined."""
        return self in (DepthScale.AFFINE_INVERSE, DepthScale.AFFINE_DEPTH)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera together with the size of its image.

    K: (..., 3, 3) intrinsics in pixels. Pixel centers have integer coordinates; the center of the top-left pixel is (0,
        0).
    height, width: size of the image in pixels.

    `stadia.geometry.camera` changes an image and its camera together.

    Raises GeometryError for an invalid K or size.
    """

    K: Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.K.shape[-2:] != (3, 3) or not self.K.is_floating_point():
            found, fix = f"shape {tuple(self.K.shape)} of {self.K.dtype}", "pass [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
            raise GeometryError("camera K", found=found, expected="(..., 3, 3) of a float type", fix=fix)
        if self.height < 1 or self.width < 1:
            found, fix = f"{self.width}x{self.height}", "pass the image's size"
            raise GeometryError("camera size", found=found, expected="a positive size", fix=fix)

    def to(self, *args: Any, **kwargs: Any) -> Camera:
        """Return the camera with its K on another device or of another type."""
        return Camera(self.K.to(*args, **kwargs), self.height, self.width)

    @property
    def fx(self) -> Tensor:
        """Return the focal length (...) along x in pixels."""
        return self.K[..., 0, 0]

    @property
    def fy(self) -> Tensor:
        """Return the focal length (...) along y in pixels."""
        return self.K[..., 1, 1]

    @property
    def cx(self) -> Tensor:
        """Return the x coordinate (...) of the principal point in pixels."""
        return self.K[..., 0, 2]

    @property
    def cy(self) -> Tensor:
        """Return the y coordinate (...) of the principal point in pixels."""
        return self.K[..., 1, 2]


class TensorDataclass:
    """Base class of dataclasses of tensors. `.to(...)` moves every tensor and camera in it, also in tuples."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return a copy with every tensor, of any shape, on another device, or with floats of another type."""

        def moved(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(moved, value))
            return value.to(*args, **kwargs) if hasattr(value, "to") else value

        return replace(self, **{field.name: moved(getattr(self, field.name)) for field in fields(self)})  # type: ignore


@dataclass(frozen=True, slots=True)
class Inputs(TensorDataclass):
    """The inputs of a network for a video frame and its N sources.

    image: (B, 3, H, W) target image, RGB in [0, 1], with color augmentation.
    sources: (B, N, 3, H, W) the other images, with the same color augmentation.
    camera: camera of the target, with K (B, 3, 3).
    T_source_target_rig: (B, N, 4, 4) motion in metres from the calibration of a stereo rig; NaN for temporal sources.
    """

    image: Tensor
    sources: Tensor
    camera: Camera
    T_source_target_rig: Tensor


@dataclass(frozen=True, slots=True)
class Targets(TensorDataclass):
    """Data about a video frame and its N sources that only losses and metrics use.

    image: (B, 3, H, W) target image without augmentation, RGB in [0, 1].
    sources: (B, N, 3, H, W) the other images without augmentation.
    camera: camera of the target, with K (B, 3, 3).
    source_camera: camera of the sources, with K (B, N, 3, 3).
    T_source_target_true: (B, N, 4, 4) measured motion in metres; NaN if unknown.
    depth_m: (B, 1, H, W) z in metres with 0 for unknown; or None.
    ignored: (B, 1, H, W) bool, pixels that no loss or score counts, such as the hood; or None.
    point_depth: (B, 1, H, W) z of map points in the unit of the map's motion, 0 without a point; or None.
    static: (B, 1, H, W) bool, false on everything that moves in the world or with the camera; None without a map.
    """

    image: Tensor
    sources: Tensor
    camera: Camera
    source_camera: Camera
    T_source_target_true: Tensor
    depth_m: Tensor | None = None
    ignored: Tensor | None = None
    point_depth: Tensor | None = None
    static: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadTargets(Targets):
    """Targets of road videos with road and objects. M is the largest number of objects in an image of the batch.

    road: (B, 1, H, W) bool.
    objects: (B, 1, H, W) int16; 0 is no object, n is the n-th object of the image.
    object_class: (B, M) int64 class of the n-th object in column n - 1; -1 is no object. The numbers are those of
        `dataloading.road_samples.RoadSamples.classes`.
    object_height_m: (B, M) mean of the height prior of each object; NaN if unknown.
    camera_group: (B,) int64 number that cameras with the same height above the road share.
    """

    road: Tensor
    objects: Tensor
    object_class: Tensor
    object_height_m: Tensor
    camera_group: Tensor


@dataclass(frozen=True, slots=True)
class Meta:
    """The origin of a sample. It is unique within a set, so that validation counts each sample once.

    recording, index, side: recording, frame and side of the image.
    mirrored: whether a mirrored left image is used as the right one.
    file: file of the image, for messages.
    instance: object of the image, if each object is a sample.
    data: name of the data set, if several train together.
    """

    recording: str
    index: int
    side: str = "left"
    mirrored: bool = False
    file: Path | None = None
    instance: int = 0
    data: str = ""


def is_temporal(source_name: str) -> bool:
    """Return True if a source is a neighbor in time ("-1", "+1"), and False if it has the same time ("stereo")."""
    return source_name.lstrip("+-").isdigit()


InputsT = TypeVar("InputsT", bound=TensorDataclass, default=Inputs)
TargetsT = TypeVar("TargetsT", bound=TensorDataclass, default=Targets)


@dataclass(frozen=True, slots=True)
class Batch(TensorDataclass, Generic[InputsT, TargetsT]):
    """A batch of B samples: inputs for networks, targets for losses and metrics, meta, and the names of the sources.

    Data other than video derive their inputs and targets from TensorDataclass: `Batch[ObjectInputs, ObjectTargets]`.

    meta: origin of each sample.
    source_names: N names: "-1" and "+1" for neighbors in time, "stereo" for the other image of the same time.
    """

    inputs: InputsT
    targets: TargetsT
    meta: tuple[Meta, ...]
    source_names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Return the number of samples B."""
        return len(self.meta)


@dataclass(frozen=True, slots=True)
class Prediction(TensorDataclass):
    """The outputs of the depth and pose networks for a batch. Outputs that are not predicted are None.

    inverse_depth: one map (B, 1, H / 2^s, W / 2^s) per scale s, finest first, in 1/m if the recipe is metric.
    T_source_target: (B, N, 4, 4) motion of the rig if it is known, otherwise that of the pose network.
    inverse_depth_right: maps of the rig's other camera, in the pixels of the source "stereo".
    log_uncertainty: one map per scale with log Sigma of the photometric residual (D3VO, arXiv 2003.01060, eq. 7).
    brightness: (B, N, 2) gain a and offset b, for which a * target + b is as bright as the source (eq. 3). None means
        (1, 0).
    """

    inverse_depth: tuple[Tensor, ...]
    T_source_target: Tensor
    inverse_depth_right: tuple[Tensor, ...] | None = None
    log_uncertainty: tuple[Tensor, ...] | None = None
    brightness: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PredictedMaps(TensorDataclass):
    """All maps that a network predicts for images, (B, 1, H, W) each, at the size of the images.

    T_right_left: (4, 4) motion of the training rig to which `inverse_depth_right` belongs, in the unit of depth; None
        if unknown.
    """

    inverse_depth: Tensor
    inverse_depth_right: Tensor | None = None
    log_uncertainty: Tensor | None = None
    T_right_left: Tensor | None = None


class Predictor(Protocol):
    """The interface of a trained recipe for evaluation and `stadia predict`.

    depth_scale: scale of the predicted inverse depth and translations.
    height, width: size of the images that its networks receive. `geometry.camera.resize` resizes images with their
        camera.
    crop: a row of `geometry.numpy_camera.IMAGE_CROPS`, which is cut out before resizing.
    """

    depth_scale: DepthScale
    height: int
    width: int
    crop: str

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Return inverse depth (B, 1, height, width) on the predictor's device, in 1/m if `depth_scale` is metres.

        image: (B, 3, height, width) RGB in [0, 1].
        camera: camera of these images at this size (`geometry.camera.from_field_of_view`, `intrinsics`, `resize`).
        """
        ...

    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Return the motion (B, 4, 4) from the first camera's frame to the next one's, in the unit of depth.

        The result is None if no motion is predicted.

        now, following: (B, 3, height, width) RGB in [0, 1], neighbors in time.
        camera, next_camera: their cameras.
        """
        ...


@runtime_checkable
class MapsPredictor(Predictor, Protocol):
    """A Predictor whose network may predict more than depth."""

    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        """Return all maps of images (B, 3, height, width) in one pass. The arguments are those of `inverse_depth`."""
        ...


T = TypeVar("T")


class TrackProgress(Protocol):
    """Passes items through, and shows the progress of `what` over `count` items, if the count is known."""

    def __call__(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]: ...


def no_progress(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
    """Return the items unchanged, and show nothing."""
    return items


LEFT, RIGHT = "left", "right"


@dataclass(frozen=True, slots=True, eq=False)
class RoadMasks:
    """Semantic and instance masks of an image.

    semantic: (H, W) uint8 class numbers, which `MaskReader.classes` names.
    instance: (H, W) uint16 number of the object in this image; 0 is no object.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


class MaskReader(Protocol):
    """Reads the masks of a recording's images, by the name of the image file without its suffix."""

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the names of the classes by their numbers."""

    def read(self, stem: str, side: str, *, height: int, width: int) -> RoadMasks | None:
        """Return the masks of an image at this size, or None. Raises DataError if they are damaged."""
        ...

    def heights_m(self, stem: str, side: str) -> Mapping[int, tuple[float, float]]:
        """Return mean and standard deviation in metres of the objects with known heights, by object number."""
        ...

    def fingerprint(self, side: str) -> str:
        """Return a hash of the content of the masks."""
        ...


class Rectification(Protocol):
    """The rectification that a reader applied to a stereo pair. Its calibration may be wrong."""

    def other_rows_px(
        self, left_px: NDArray[np.float64], right_px: NDArray[np.float64]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Return y_left - y_right (N,) of matches after a usual mistake is corrected, for each such mistake.

        The keys describe the mistakes.

        left_px, right_px: (N, 2) matched pixels.
        """
        ...


class Recording(ABC):
    """Consecutive frames of one camera or stereo rig (one drive, one video). Every call reads from disk.

    name: name that is unique among the recordings of a training and stable between runs ("kitti_odometry/06").
    sides: ("left",) for one camera, ("left", "right") for a rectified pair.
    T_right_left: (4, 4) float64 motion from the left to the right camera's frame in metres, with t_x = -baseline; None
        for one camera.
    mount: name of the mount. Cameras of one mount are equally high above the road.
    has_metric_poses: whether poses are in metres, and not in the unit of a map or a scene.
    has_metric_depth: whether depth is in metres, and not relative.
    is_part: whether it is a part of a longer video that was opened for checks of the data.
    is_streamed: whether its frames come from shards, which have their own cache.
    has_stride: whether `data.stride` chooses its frames, as for a user's video. Other data sets refuse that option.
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
        """Return the name of the session.

        Recordings of one session show the same places, even in different data sets.
        """
        return self.name

    @abstractmethod
    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) RGB of a frame. Raises DataError with the file if it is missing or truncated."""

    @abstractmethod
    def camera(self, index: int, side: str = LEFT) -> Camera:
        """Return the camera of a frame: K (3, 3) float64 in pixels of `image(index, side)`, and that image's size."""

    def filmed_camera(self, index: int, side: str = LEFT) -> Camera:
        """Return the camera of a frame before the video was resized for storing.

        For other recordings it is `camera`.
        """
        return self.camera(index, side)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return the K (3, 3) of a frame. Readers of files provide it without importing torch."""
        K: NDArray[np.float64] = self.camera(index, side).K.numpy()
        return K

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth of a frame, (H, W) z in metres with 0 for unknown; None without ground truth."""
        return None

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        """Return the files that `depth_m` tries to read, in order."""
        return ()

    def depth_kind(self, index: int, side: str = LEFT) -> str:
        """Return the kind of ground truth that `depth_m` returns, if a data set has several kinds; otherwise ""."""
        return ""

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        """Return the camera-to-world pose (4, 4) of a frame in metres (see `has_metric_poses`); None if unknown."""
        return None

    def map_points(self, index: int) -> NDArray[np.float64] | None:
        """Return the map points (M, 3) that the left camera sees, or None.

        x and y are in pixels of `image`, and z is in the unit of the poses.
        """
        return None

    def map_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return the mask (H, W) of what can move in `image`, according to the masks of a map; None without masks."""
        return None

    def map_neighbor(self, index: int, offset: int) -> int | None:
        """Return the frame with which a frame is paired: `index + offset`, or by the parallax of a map; or None."""
        return index + offset if 0 <= index + offset < len(self) else None

    def map_road(self) -> NDArray[np.float64] | None:
        """Return the road plane (4,) of a map in the frame of each camera, or None.

        It consists of the normal and the height, in the unit of the poses.
        """
        return None

    def timestamp_s(self, index: int) -> float | None:
        """Return the time of a frame in seconds since any fixed moment; None if it is unknown."""
        return None

    def number(self, index: int) -> int:
        """Return the number that the source gives to a frame."""
        return index

    def file(self, index: int, side: str = LEFT) -> Path | None:
        """Return the image file of a frame, for messages and fingerprints; None for frames of a video."""
        return None

    def stem(self, index: int, side: str = LEFT) -> str:
        """Return the name of the image file without its suffix; for a video, the frame's number with six digits."""
        file = self.file(index, side)
        return f"{self.number(index):06d}" if file is None else file.stem

    def ignored(self, side: str = LEFT) -> NDArray[np.bool_] | None:
        """Return the region (H, W) of all images that no loss, check or score counts, or None."""
        return None

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        """Return the masks of road and objects of an image at its size, or None.

        Raises DataError as `MaskReader.read` does.
        """
        if self.mask_reader is None:
            return None
        camera = self.camera(index, side)
        return self.mask_reader.read(self.stem(index, side), side, height=camera.height, width=camera.width)

    def shard_of(self, index: int) -> int:
        """Return the shard of a frame of a streamed recording."""
        return 0

    def prefetch(self, index: int) -> None:  # noqa: B027 - most recordings are on this machine
        """Copy the data of a frame from a store to this machine, in a thread before it is read."""

    @property
    def video_hash(self) -> str:
        """Return a hash of the frames' video file; "" for image files."""
        return ""

    def fingerprint(self) -> str:
        """Return a hash of the content: it changes with the images or the camera, not with the folder."""
        return self.name


def name_ground_truth(recordings: Sequence[Recording], indices: Mapping[str, Sequence[int]]) -> str:
    """Return the kinds of the frames' depth, joined by "+", or "".

    indices: frames by the recording's name.
    """
    kinds = (recording.depth_kind(index) for recording in recordings for index in indices.get(recording.name, ()))
    return "+".join(sorted({*kinds} - {""}))
