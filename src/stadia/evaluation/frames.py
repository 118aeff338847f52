"""Define frames to predict, prepare them for a network, and hold its predictions. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.recording import Recording
from stadia.core.types import Claim
from stadia.geometry.crops import Box, image_box
from stadia.geometry.numpy_camera import NEAR, cropped_K, resize, resized_K


@dataclass(frozen=True, slots=True)
class Frame:
    """An image to predict.

    image: (H, W, 3) uint8 RGB.
    K: (3, 3) of that size.
    time_s: None where unknown.
    is_neighbor: of the frame before, in time. Motion is predicted between neighbors only, as in training.
    on_path: motion is predicted between such frames. False for frames of a video that training would skip because the
    camera moved too little.
    """

    name: str
    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    time_s: float | None = None
    is_neighbor: bool = True
    on_path: bool = True


@dataclass(frozen=True, slots=True)
class PredictedFrame:
    """A frame with the network's prediction.

    frame: cropped as for the network.
    claim: scale of the depth.
    inverse_depth: (h, w) float32 at the network's size, in 1/m, up to scale, or up to scale and shift, by `claim`.
    K: (3, 3) of that size.
    T_world_camera: (4, 4), the world is the first camera, in the unit of depth; None off the path and after an unknown
    motion.
    image_size: (height, width) before the crop.
    box: position of the crop in that image.
    log_uncertainty: (h, w) float32, log Sigma of the photometric residual; None where the network predicts none.
    """

    frame: Frame
    claim: Claim
    inverse_depth: NDArray[np.float32]
    K: NDArray[np.float64]
    T_world_camera: NDArray[np.float64] | None
    image_size: tuple[int, int]
    box: Box
    log_uncertainty: NDArray[np.float32] | None = None

    def depth_at_image(self) -> NDArray[np.float32]:
        """Return depth (H, W), resized bilinearly in inverse depth to the size of the image; 0 = none
        outside the crop.
        """
        depth = np.zeros(self.image_size, np.float32)
        size = (self.box.width, self.box.height)
        depth[self.box.rows, self.box.columns] = 1 / cv2.resize(
            self.inverse_depth, size, interpolation=cv2.INTER_LINEAR
        )
        return depth

    def depth(self) -> NDArray[np.float32]:
        """Return depth (h, w) at the network's size: metres, or up to scale. Not for inverse depth up to scale and
        shift.
        """
        return np.divide(1, self.inverse_depth, out=np.zeros_like(self.inverse_depth), where=self.inverse_depth > NEAR)


Listener = Callable[[PredictedFrame], None]
"""A function that takes every predicted frame: a video, a point cloud."""


class Network(Protocol):
    """What a frame is prepared for: `core.types.Predictor`, or an exported network. Size and crop as there."""

    claim: Claim
    height: int
    width: int
    crop: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame as the network's input.

    frame: cut to its crop.
    image: (3, h, w) float32 RGB in [0, 1] at the network's size.
    K: (3, 3) of that size.
    """

    frame: Frame
    image: NDArray[np.float32]
    K: NDArray[np.float64]
    image_size: tuple[int, int]
    box: Box

    @classmethod
    def to(cls, network: Network, picture: Frame) -> Shown:
        """Crop and resize a frame for a network. Raise GeometryError where the image is smaller than the crop."""
        size = (picture.image.shape[0], picture.image.shape[1])
        box = image_box(network.crop, *size)
        frame = replace(
            picture, image=np.ascontiguousarray(box.cut(picture.image)), K=cropped_K(picture.K, box.left, box.top)
        )
        K = resized_K(frame.K, (box.height, box.width), network.height, network.width)
        return cls(frame, resize(frame.image, network.height, network.width), K, size, box)

    def predicted(
        self, claim: Claim, inverse_depth: NDArray[np.float32], T_world_camera: NDArray[np.float64] | None
    ) -> PredictedFrame:
        """Return the frame with its prediction (h, w).

        Raises StadiaError where inverse depth is not finite or, unless affine, not positive.
        """
        if not np.isfinite(inverse_depth).all() or (claim is not Claim.AFFINE_INVERSE and inverse_depth.min() <= 0):
            raise StadiaError(
                f"prediction of '{self.frame.name}'",
                found=f"inverse depth from {inverse_depth.min()} to {inverse_depth.max()}",
                expected="finite and positive values",
                fix="the network diverged or is damaged: use another checkpoint",
            )
        return PredictedFrame(self.frame, claim, inverse_depth, self.K, T_world_camera, self.image_size, self.box)


def frame_name(recording: Recording, index: int) -> str:
    """Return the name of a frame on disk: the stem of its file, or its number in the whole video, skipped frames
    included.
    """
    file = recording.file(index)
    return file.stem if file is not None else f"{recording.number(index):06d}"


def frames_of(recording: Recording, indices: Sequence[int] | None = None) -> Iterator[Frame]:
    """Yield left images of a recording, those of rising `indices` or all, read one by one."""
    before = None
    for index in range(len(recording)) if indices is None else indices:
        name, time_s = frame_name(recording, index), recording.timestamp_s(index)
        yield Frame(name, recording.image(index), recording.K(index), time_s, is_neighbor=before in (None, index - 1))
        before = index
