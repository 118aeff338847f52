"""Define the interface that every data set follows: recordings of one camera or stereo rig."""

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
