"""Define the protocol that every data set follows: recordings of one rig."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Camera

LEFT, RIGHT = "left", "right"


@dataclass(frozen=True, slots=True, eq=False)
class RoadMasks:
    """Semantic and instance masks of an image.

    semantic: (H, W) uint8 class numbers, named by `MaskReader.classes`.
    instance: (H, W) uint16, the object's number in this image, 0 = none.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


class MaskReader(Protocol):
    """Reader of the masks of a recording's images, by the image file's name without its suffix.

    classes: the names of the class numbers.
    """

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the names of the classes by their numbers."""

    def read(self, stem: str, side: str, *, height: int, width: int) -> RoadMasks | None:
        """Return the masks at this size, None without any. Raises DataError where they are damaged."""
        ...

    def heights_m(self, stem: str, side: str) -> Mapping[int, tuple[float, float]]:
        """Return mean and standard deviation in metres of objects with heights of their own, by object number."""
        ...

    def fingerprint(self, side: str) -> str:
        """Return a hash of the masks' content."""
        ...


class Rectification(Protocol):
    """How a reader undistorted and rectified the images of a pair, by a calibration that may be wrong."""

    def other_rows_px(
        self, left_px: NDArray[np.float64], right_px: NDArray[np.float64]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Return (N,) y_left - y_right of matches (N, 2), if a usual mistake were mended, by its description."""
        ...


class Recording(ABC):
    """Consecutive frames of one rig (one drive, one video). Reading is lazy, and every call reads from disk.

    name: unique among the recordings of a training and stable between runs ("kitti_odometry/06").
    sides: ("left",) for mono, ("left", "right") for a rectified pair.
    T_right_left: (4, 4) float64, metres: points of the left camera to the right one; t_x = -baseline. None for mono.
    mount: identifies how the camera was mounted; cameras of one mount are equally high above the road.
    has_metric_poses: whether the poses are in metres; False where their unit is that of a map or a scene.
    has_metric_depth: whether its depth is in metres; False for relative depth, or a unit of each scene's own.
    is_part: whether it is a stretch of a longer video, opened for checks of the data.
    is_streamed: whether its frames come from shards with a cache of their own: no second one is filled.
    has_stride: whether `data.stride` chooses its frames, as of a user's video; other data sets refuse that option.
    rectification: how the reader rectified the pair; None where the files hold rectified images.
    mask_reader: masks of road and objects; None where there are none. May be set later, since masks are often made
        later.
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
        """Return the session: recordings of one session show the same places, whatever data set they are in."""
        return self.name

    @abstractmethod
    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB. Raises DataError naming the file where it is missing or truncated."""

    @abstractmethod
    def camera(self, index: int, side: str = LEFT) -> Camera:
        """Return the camera, K (3, 3) float64 in pixels of `image(index, side)`, with that image's size."""

    def filmed_camera(self, index: int, side: str = LEFT) -> Camera:
        """Return the camera of the frame before it was resized for storing, as of a video; else that of `camera`."""
        return self.camera(index, side)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return (3, 3) alone; a reader of files provides it without torch."""
        K: NDArray[np.float64] = self.camera(index, side).K.numpy()
        return K

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return (H, W) z in metres, 0 = none; None where this frame has no ground truth."""
        return None

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        """Return the files that `depth_m` searches, the first one that it reads: depth may be added later."""
        return ()

    def depth_kind(self, index: int, side: str = LEFT) -> str:
        """Return which ground truth `depth_m` reads, of a data set that has several; "" without any, and of others."""
        return ""

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        """Return (4, 4) camera-to-world in metres (see `has_metric_poses`); None where unknown."""
        return None

    def map_points(self, index: int) -> NDArray[np.float64] | None:
        """Return (M, 3) points of a map of the left camera: x, y in pixels of `image`, and z in the unit of the poses.

        None where the recording has no map.
        """
        return None

    def map_neighbor(self, index: int, offset: int) -> int | None:
        """Return the frame that makes a pair with a frame: `index + offset`, or by the parallax that a map measures.

        None where the recording has no such frame.
        """
        return index + offset if 0 <= index + offset < len(self) else None

    def map_road(self) -> NDArray[np.float64] | None:
        """Return (4,) the road of a map in the axes of each camera: normal and height, in the unit of the poses."""
        return None

    def timestamp_s(self, index: int) -> float | None:
        """Return seconds since any fixed moment; None where unknown."""
        return None

    def number(self, index: int) -> int:
        """Return the source's own number of a frame: the index, unless frames before it were left out."""
        return index

    def file(self, index: int, side: str = LEFT) -> Path | None:
        """Return the image's file, for messages and fingerprints; None for frames of a video."""
        return None

    def stem(self, index: int, side: str = LEFT) -> str:
        """Return the image file's name without its suffix; for a video the frame's number with six digits."""
        file = self.file(index, side)
        return f"{self.number(index):06d}" if file is None else file.stem

    def ignored(self, side: str = LEFT) -> NDArray[np.bool_] | None:
        """Return (H, W), true in the part of every image that no loss, check or score counts; None for no such part."""
        return None

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        """Return road and objects of an image at its size, or None. Raises DataError as `MaskReader.read`."""
        if self.mask_reader is None:
            return None
        camera = self.camera(index, side)
        return self.mask_reader.read(self.stem(index, side), side, height=camera.height, width=camera.width)

    def shard_of(self, index: int) -> int:
        """Return the shard that holds a frame of a streamed recording, by whose frames samples are mixed."""
        return 0

    def prefetch(self, index: int) -> None:  # noqa: B027 - most recordings are on this machine
        """Copy what a frame needs to this machine, where it is in a store. Called in a thread before it is read."""

    @property
    def video_hash(self) -> str:
        """Return a hash of the video file that the frames are of, whatever their size; "" for image files."""
        return ""

    def fingerprint(self) -> str:
        """Return a hash of the content: it changes with the images or the camera, not with the folder."""
        return self.name


def name_ground_truth(recordings: Sequence[Recording], indices: Mapping[str, Sequence[int]]) -> str:
    """Return the kind of the frames' depth, as `data.ground_truth` of KITTI raw names it; several joined by "+".

    indices: frames by the recording's name. Returns "" for data that have one kind alone, or none.
    """
    kinds = (recording.depth_kind(index) for recording in recordings for index in indices.get(recording.name, ()))
    return "+".join(sorted({*kinds} - {""}))
