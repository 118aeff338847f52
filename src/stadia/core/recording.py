"""Define the protocol that every data set follows: recordings of one rig."""

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
    """Reader of the masks of a recording's images, by the image file's name without its suffix."""

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the names of the classes by their numbers."""

    def read(self, stem: str, side: str, *, height: int, width: int) -> RoadMasks | None:
        """Return the masks at this size, or None. Raises DataError if they are damaged."""
        ...

    def heights_m(self, stem: str, side: str) -> Mapping[int, tuple[float, float]]:
        """Return mean and standard deviation in metres of objects with known heights, by object number."""
        ...

    def fingerprint(self, side: str) -> str:
        """Return a hash of the masks' content."""
        ...


class Rectification(Protocol):
    """A reader's rectification of a pair, by a calibration that may be wrong."""

    def other_rows_px(
        self, left_px: NDArray[np.float64], right_px: NDArray[np.float64]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Return (N,) y_left - y_right of matches (N, 2) after fixing a usual mistake, by its description."""
        ...


class Recording(ABC):
    """Consecutive frames of one rig (one drive, one video). Every call reads from disk.

    name: unique among the recordings of a training and stable between runs ("kitti_odometry/06").
    sides: ("left",) for mono, ("left", "right") for a rectified pair.
    T_right_left: (4, 4) float64, metres: points of the left camera to the right one; t_x = -baseline. None for mono.
    mount: cameras of one mount are equally high above the road.
    has_metric_poses: poses are in metres, not in the unit of a map or a scene.
    has_metric_depth: depth is in metres, not relative.
    is_part: it is a stretch of a longer video, opened for checks of the data.
    is_streamed: its frames come from shards with their own cache.
    has_stride: `data.stride` chooses its frames, as for a user's video; other data sets refuse that option.
    rectification: the reader's rectification of the pair; None if the files have rectified images.
    mask_reader: masks of road and objects, or None; may be set later.
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
        """Return the session: recordings of one session show the same places, in any data set."""
        return self.name

    @abstractmethod
    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB. Raises DataError with the file if it is missing or truncated."""

    @abstractmethod
    def camera(self, index: int, side: str = LEFT) -> Camera:
        """Return the camera, K (3, 3) float64 in pixels of `image(index, side)`, with that image's size."""

    def filmed_camera(self, index: int, side: str = LEFT) -> Camera:
        """Return the camera of the frame before a video was resized for storing; otherwise `camera`."""
        return self.camera(index, side)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return K (3, 3); a reader of files provides it without torch."""
        K: NDArray[np.float64] = self.camera(index, side).K.numpy()
        return K

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return (H, W) z in metres, 0 = none; None without ground truth."""
        return None

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        """Return the files that `depth_m` tries, in order."""
        return ()

    def depth_kind(self, index: int, side: str = LEFT) -> str:
        """Return the kind of ground truth of `depth_m`, if a data set has several; otherwise ""."""
        return ""

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        """Return (4, 4) camera-to-world in metres (see `has_metric_poses`); None if unknown."""
        return None

    def map_points(self, index: int) -> NDArray[np.float64] | None:
        """Return map points (M, 3) of the left camera, or None: x, y in pixels of `image`, z in the poses' unit."""
        return None

    def map_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return (H, W), true on what the masks of a map call movable in `image`; None without masks."""
        return None

    def map_neighbor(self, index: int, offset: int) -> int | None:
        """Return the frame that pairs with a frame, `index + offset` or by the parallax of a map, or None."""
        return index + offset if 0 <= index + offset < len(self) else None

    def map_road(self) -> NDArray[np.float64] | None:
        """Return a map's road plane in the axes of each camera (4,): normal and height, in the unit of the poses."""
        return None

    def timestamp_s(self, index: int) -> float | None:
        """Return seconds since any fixed moment; None if unknown."""
        return None

    def number(self, index: int) -> int:
        """Return the source's own number of a frame."""
        return index

    def file(self, index: int, side: str = LEFT) -> Path | None:
        """Return the image's file, for messages and fingerprints; None for frames of a video."""
        return None

    def stem(self, index: int, side: str = LEFT) -> str:
        """Return the image file's name without its suffix; for a video the frame's number with six digits."""
        file = self.file(index, side)
        return f"{self.number(index):06d}" if file is None else file.stem

    def ignored(self, side: str = LEFT) -> NDArray[np.bool_] | None:
        """Return the part (H, W) of every image that no loss, check or score counts, or None."""
        return None

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        """Return road and objects of an image at its size, or None. Raises DataError as `MaskReader.read`."""
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
