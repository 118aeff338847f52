"""Define what a training step exchanges: batches of inputs and targets, and the predictions for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from torch import Tensor
from typing_extensions import TypeVar  # typing's own has a default only from Python 3.13

from stadia.core.types import Camera, TensorDataclass


@dataclass(frozen=True, slots=True)
class Inputs(TensorDataclass):
    """The inputs of networks for a batch of B target images with N source images each.

    The sources of a target are its neighbors in the video, or the other image of the stereo pair.

    image: (B, 3, H, W) target images, RGB in [0, 1], with color augmentation.
    sources: (B, N, 3, H, W) source images, with the same color augmentation.
    camera: camera of the target images, with K (B, 3, 3).
    T_source_target_rig: (B, N, 4, 4) motion in metres from the target to the source camera, from the calibration of a
        stereo rig; NaN for neighbors in the video.
    """

    image: Tensor
    sources: Tensor
    camera: Camera
    T_source_target_rig: Tensor


@dataclass(frozen=True, slots=True)
class Targets(TensorDataclass):
    """Data about a batch of B target images with N source images each that only losses and metrics use.

    image: (B, 3, H, W) target images without augmentation, RGB in [0, 1].
    sources: (B, N, 3, H, W) source images without augmentation.
    camera: camera of the target images, with K (B, 3, 3).
    source_camera: camera of the source images, with K (B, N, 3, 3).
    T_source_target_true: (B, N, 4, 4) measured motion from the target to the source camera in metres; NaN if unknown.
    depth_m: (B, 1, H, W) z in metres with 0 for unknown; or None.
    ignored: (B, 1, H, W) bool, pixels that losses and scores ignore, such as the car's hood; or None.
    point_depth: (B, 1, H, W) z of points of a map (from `stadia map`), in the unit of the map, 0 without a point; or
        None.
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
    """Targets of road videos with masks of road and objects. M is the largest number of objects in an image of the
    batch.

    road: (B, 1, H, W) bool, true on the road.
    objects: (B, 1, H, W) int16; 0 means no object, n is the n-th object of the image.
    object_class: (B, M) int64 class of the n-th object in column n - 1; -1 means no object. The attribute `classes` of
        `RoadSamples` names the numbers.
    object_height_m: (B, M) expected height of each object in metres; NaN if unknown.
    camera_group: (B,) int64 number that cameras with the same height above the road share.
    """

    road: Tensor
    objects: Tensor
    object_class: Tensor
    object_height_m: Tensor
    camera_group: Tensor


@dataclass(frozen=True, slots=True)
class Meta:
    """The origin of a sample of a batch. It is unique within a set, so that validation counts each sample once.

    recording: name of the recording.
    index: index of the video frame in the recording.
    side: "left" or "right".
    mirrored: whether a mirrored left image is used as the right one.
    file: file of the image, for messages.
    instance: number of the object in the image, if each object is a sample.
    data: name of the dataset, if several train together.
    """

    recording: str
    index: int
    side: str = "left"
    mirrored: bool = False
    file: Path | None = None
    instance: int = 0
    data: str = ""


def is_temporal(source_name: str) -> bool:
    """Return whether a source image is a neighbor in time ("-1", "+1"), and not "stereo".

    The source "stereo" is the other image of a stereo pair.
    """
    return source_name.lstrip("+-").isdigit()


InputsT = TypeVar("InputsT", bound=TensorDataclass, default=Inputs)
TargetsT = TypeVar("TargetsT", bound=TensorDataclass, default=Targets)


@dataclass(frozen=True, slots=True)
class Batch(TensorDataclass, Generic[InputsT, TargetsT]):
    """A batch of B samples: inputs for networks, targets for losses and metrics, origins, and names of the sources.

    Data other than video derive their inputs and targets from TensorDataclass: `Batch[ObjectInputs, ObjectTargets]`.

    inputs: inputs for networks.
    targets: data for losses and metrics.
    meta: origin of each sample.
    source_names: N names: "-1" and "+1" for neighbors in time, "stereo" for the other image of a stereo pair.
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

    inverse_depth: one map (B, 1, H / 2^s, W / 2^s) per scale s, finest first; in 1/m if metres are predicted.
    T_source_target: (B, N, 4, 4) motion from the target to the source camera: the motion of the stereo rig if it is
        known, otherwise the motion by the pose network.
    inverse_depth_right: maps of the right camera of the stereo rig, in the pixels of the source "stereo".
    log_uncertainty: one map per scale with log Sigma, the logarithm of the scale of the photometric residual (D3VO,
        arXiv 2003.01060, eq. 7).
    brightness: (B, N, 2) gain a and offset b, so that a * target + b has the brightness of the source (eq. 3). None
        means (1, 0).
    """

    inverse_depth: tuple[Tensor, ...]
    T_source_target: Tensor
    inverse_depth_right: tuple[Tensor, ...] | None = None
    log_uncertainty: tuple[Tensor, ...] | None = None
    brightness: Tensor | None = None
