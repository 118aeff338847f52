"""Define the types that cross packages: cameras, batches, predictions and predictors."""

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


class DepthScale(StrEnum):
    """The scale of a depth prediction; a protocol refuses a scale that it cannot score."""

    METRES = "metres"
    UP_TO_SCALE = "up-to-scale"
    AFFINE_INVERSE = "affine-inverse"  # inverse depth, up to scale and shift
    AFFINE_DEPTH = "affine-depth"  # depth, up to scale and shift; predictors return its negative, larger for nearer

    @property
    def is_affine(self) -> bool:
        """Return whether a shift is unknown, so that ratios of depths and points are undefined."""
        return self in (DepthScale.AFFINE_INVERSE, DepthScale.AFFINE_DEPTH)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera together with the size of its image. Raises GeometryError for an invalid K or size.

    K: (..., 3, 3) intrinsics in pixels; pixel centers at integer coordinates, the top-left center is (0, 0).
    height, width: size of the image in pixels.

    `stadia.geometry.camera` changes an image and its camera together.
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
        """Return the camera with K on another device or of another type."""
        return Camera(self.K.to(*args, **kwargs), self.height, self.width)

    @property
    def fx(self) -> Tensor:
        """Return the focal length (...) along x, pixels."""
        return self.K[..., 0, 0]

    @property
    def fy(self) -> Tensor:
        """Return the focal length (...) along y, pixels."""
        return self.K[..., 1, 1]

    @property
    def cx(self) -> Tensor:
        """Return the principal point's x (...), pixels."""
        return self.K[..., 0, 2]

    @property
    def cy(self) -> Tensor:
        """Return the principal point's y (...), pixels."""
        return self.K[..., 1, 2]


class TensorDataclass:
    """Base of dataclasses of tensors: `.to(...)` moves every tensor and camera in it, also in tuples."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return a copy with every tensor on another device, or floating tensors of another type."""

        def moved(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(moved, value))
            return value.to(*args, **kwargs) if hasattr(value, "to") else value

        return replace(self, **{field.name: moved(getattr(self, field.name)) for field in fields(self)})  # type: ignore


@dataclass(frozen=True, slots=True)
class Inputs(TensorDataclass):
    """Inputs of a network for a video frame and its sources.

    image: (B, 3, H, W) the target image, RGB in [0, 1], color-augmented.
    sources: (B, N, 3, H, W) the other images, with the same color augmentation.
    camera: of the target, K (B, 3, 3).
    T_source_target_rig: (B, N, 4, 4) metres, from the calibration of a rig (stereo); NaN for temporal sources.
    """

    image: Tensor
    sources: Tensor
    camera: Camera
    T_source_target_rig: Tensor


@dataclass(frozen=True, slots=True)
class Targets(TensorDataclass):
    """Data of a video frame and its sources for losses and metrics only.

    image: (B, 3, H, W) the target image as recorded, RGB in [0, 1].
    sources: (B, N, 3, H, W) as recorded.
    camera: of the target, K (B, 3, 3).  source_camera: K (B, N, 3, 3).
    T_source_target_true: (B, N, 4, 4) metres, measured motion; NaN if unknown.
    depth_m: (B, 1, H, W) z in metres, 0 = none; or None.
    ignored: (B, 1, H, W) bool, pixels that no loss or score counts, such as the hood; or None.
    point_depth: (B, 1, H, W) z of map points, in the unit of its motion, 0 = none; or None.
    static: (B, 1, H, W) bool, false on anything that moves in the world or with the camera; None without a map.
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
    """Targets of road video with road and objects. M: the largest number of objects in an image of the batch.

    road: (B, 1, H, W) bool.
    objects: (B, 1, H, W) int16, 0 = none, n = the image's n-th object.
    object_class: (B, M) int64, column n - 1 of the n-th object, -1 = none; numbers of
        `dataloading.road_samples.RoadSamples.classes`.
    object_height_m: (B, M) the mean of its height prior; NaN if unknown.
    camera_group: (B,) int64; cameras of one height above the road have one number.
    """

    road: Tensor
    objects: Tensor
    object_class: Tensor
    object_height_m: Tensor
    camera_group: Tensor


@dataclass(frozen=True, slots=True)
class Meta:
    """The origin of a sample; unique within a set, so that validation counts each sample once.

    recording, index, side: of the image.
    mirrored: a mirrored left image acts as the right one.
    file: of the image, for messages.
    instance: which object of the image, if each is a sample.
    data: the name of its data set, if several train together.
    """

    recording: str
    index: int
    side: str = "left"
    mirrored: bool = False
    file: Path | None = None
    instance: int = 0
    data: str = ""


def is_temporal(source_name: str) -> bool:
    """Return True for "-1", "+1", ...: a neighbor in time; False for a source of the same instant ("stereo")."""
    return source_name.lstrip("+-").isdigit()


InputsT = TypeVar("InputsT", bound=TensorDataclass, default=Inputs)
TargetsT = TypeVar("TargetsT", bound=TensorDataclass, default=Targets)


@dataclass(frozen=True, slots=True)
class Batch(TensorDataclass, Generic[InputsT, TargetsT]):
    """inputs (for networks), targets (for losses and metrics), meta (one per sample), and the names of the sources.

    Other data than video derive inputs and targets from TensorDataclass: `Batch[ObjectInputs, ObjectTargets]`.

    source_names: N names, "-1" and "+1" for neighbors in time, "stereo" for the other image of the same instant.
    """

    inputs: InputsT
    targets: TargetsT
    meta: tuple[Meta, ...]
    source_names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Return B, the number of samples."""
        return len(self.meta)


@dataclass(frozen=True, slots=True)
class Prediction(TensorDataclass):
    """Outputs of the depth and pose networks for a batch; None if not predicted.

    inverse_depth: one map per scale, finest first, (B, 1, H / 2^s, W / 2^s), in 1/m if the recipe is metric.
    T_source_target: (B, N, 4, 4): the rig's transform if known, otherwise the pose network's.
    inverse_depth_right: the same maps in the rig's other camera, in the pixels of the source "stereo".
    log_uncertainty: one map per scale: log Sigma of the photometric residual (D3VO, arXiv 2003.01060, eq. 7).
    brightness: (B, N, 2) gain a and offset b: a * target + b is as bright as the source (eq. 3). None: (1, 0).
    """

    inverse_depth: tuple[Tensor, ...]
    T_source_target: Tensor
    inverse_depth_right: tuple[Tensor, ...] | None = None
    log_uncertainty: tuple[Tensor, ...] | None = None
    brightness: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PredictedMaps(TensorDataclass):
    """All maps that a network predicts for images, (B, 1, H, W) each, at the size of the images.

    T_right_left: (4, 4) of the training rig of `inverse_depth_right`, in the unit of depth; None if unknown.
    """

    inverse_depth: Tensor
    inverse_depth_right: Tensor | None = None
    log_uncertainty: Tensor | None = None
    T_right_left: Tensor | None = None


class Predictor(Protocol):
    """Interface of a trained recipe for evaluation and `stadia predict`.

    depth_scale: the scale of its inverse depth and translations.
    height, width: size of the images for its networks; `geometry.camera.resize` resizes images with their camera.
    crop: a row of `geometry.numpy_camera.IMAGE_CROPS`, cut before resizing.
    """

    depth_scale: DepthScale
    height: int
    width: int
    crop: str

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Return inverse depth (B, 1, height, width) on the predictor's device: 1/m if `depth_scale` is metres.

        image: (B, 3, height, width) RGB in [0, 1].
        camera: of these images at this size (`geometry.camera.from_field_of_view`, `intrinsics`, `resize`).
        """
        ...

    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Return (B, 4, 4) from the first camera to the next, in the unit of depth; None without motion.

        now, following: (B, 3, height, width) RGB in [0, 1], neighbors in time with their cameras.
        """
        ...


@runtime_checkable
class MapsPredictor(Predictor, Protocol):
    """A Predictor whose network may predict more than depth."""

    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        """Return all maps of images as for `inverse_depth`, in one pass."""
        ...


T = TypeVar("T")


class TrackProgress(Protocol):
    """Pass items through and show the progress of `what` over `count` items, if known."""

    def __call__(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]: ...


def no_progress(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
    """Show nothing."""
    return items
