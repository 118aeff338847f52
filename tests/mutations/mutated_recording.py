"""Recordings that change what another recording returns."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import LEFT, Camera, Recording

Image, Map, Matrix = NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64]


class Mutated(Recording):
    """A recording that changes what another one returns. A function that is left out changes nothing.

    frame, side: index and side of the image that is returned instead.
    depth_frame: index of the ground truth that is returned instead, None for none.
    image, camera, depth, pose: from the original value to the changed one.  time: timestamp in seconds of an index.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        frame: Callable[[int], int] = lambda i: i,
        side: Callable[[str], str] = lambda s: s,
        depth_frame: Callable[[int], int | None] = lambda i: i,
        image: Callable[[Image], Image] = lambda x: x,
        camera: Callable[[Camera], Camera] = lambda x: x,
        depth: Callable[[Map], Map] = lambda x: x,
        pose: Callable[[Matrix], Matrix] = lambda x: x,
        rig: Callable[[Matrix], Matrix] = lambda x: x,
        time: Callable[[int], float | None] | None = None,
    ) -> None:
        self.recording = recording
        self.name, self.sides = recording.name, recording.sides
        self.T_right_left = rig(recording.T_right_left.copy()) if recording.T_right_left is not None else None
        self._frame, self._side, self._depth_frame = frame, side, depth_frame
        self._time = time or recording.timestamp_s
        self._image, self._camera, self._depth, self._pose = image, camera, depth, pose

    def __len__(self) -> int:
        return len(self.recording)

    def image(self, index: int, side: str = LEFT) -> Image:
        return self._image(self.recording.image(self._frame(index), self._side(side)))

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return self._camera(self.recording.camera(index, side))

    def depth_m(self, index: int, side: str = LEFT) -> Map | None:
        shown = self._depth_frame(index)
        depth = None if shown is None else self.recording.depth_m(shown, side)
        return None if depth is None else self._depth(depth)

    def T_world_camera(self, index: int, side: str = LEFT) -> Matrix | None:
        pose = self.recording.T_world_camera(index, side)
        return None if pose is None else self._pose(pose.copy())

    def timestamp_s(self, index: int) -> float | None:
        return self._time(index)

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.recording.file(self._frame(index), self._side(side))


class Exposed(Mutated):
    """A recording whose images have their brightness multiplied, by index and side."""

    def __init__(self, recording: Recording, times: Callable[[int, str], float]) -> None:
        super().__init__(recording)
        self._times = times

    def image(self, index: int, side: str = LEFT) -> Image:
        return np.clip(self._times(index, side) * super().image(index, side).astype(np.float64), 0, 255).astype(
            np.uint8
        )


class Turning(Mutated):
    """A recording that turns to and fro in place: its first image seen through K R inv(K).

    alone: the left camera without its stereo partner.
    """

    def __init__(self, recording: Recording, *, alone: bool = True) -> None:
        super().__init__(recording, frame=lambda i: 0, depth_frame=lambda i: None)
        if alone:
            self.sides, self.T_right_left = (LEFT,), None

    def image(self, index: int, side: str = LEFT) -> Image:
        image, K = super().image(index, side), self.camera(index, side).K
        R = cv2.Rodrigues(np.radians([0.0, 5 * np.sin(1.3 * index), 0.0]))[0]
        size = image.shape[1], image.shape[0]
        return np.asarray(cv2.warpPerspective(image, K @ R @ np.linalg.inv(K), size, borderMode=cv2.BORDER_REFLECT))

    def T_world_camera(self, index: int, side: str = LEFT) -> Matrix | None:
        return None


class ShiftedRight(Mutated):
    """A recording whose right camera is some frames late; early below 0. Its first or last image is repeated."""

    def __init__(self, recording: Recording, frames_late: int) -> None:
        super().__init__(recording)
        self._frames_late = frames_late

    def image(self, index: int, side: str = LEFT) -> Image:
        return self.recording.image(index if side == LEFT else self._shifted(index), side)

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.recording.file(index if side == LEFT else self._shifted(index), side)

    def _shifted(self, index: int) -> int:
        return min(max(index - self._frames_late, 0), len(self) - 1)


class MirroredImages(Mutated):
    """A recording whose images of some cameras are mirrored."""

    def __init__(self, recording: Recording, sides: tuple[str, ...]) -> None:
        super().__init__(recording)
        self._mirrored = sides

    def image(self, index: int, side: str = LEFT) -> Image:
        image = super().image(index, side)
        return np.ascontiguousarray(image[:, ::-1]) if side in self._mirrored else image


class ShiftedPoses(Mutated):
    """A recording that returns the pose of another frame, of its first or last one where that does not exist."""

    def __init__(self, recording: Recording, frame: Callable[[int], int]) -> None:
        super().__init__(recording)
        self._pose_frame = frame

    def T_world_camera(self, index: int, side: str = LEFT) -> Matrix | None:
        return self.recording.T_world_camera(min(max(self._pose_frame(index), 0), len(self) - 1), side)


class Alone(Mutated):
    """One camera with ground truth, without a second camera and poses, so that nothing else measures metres."""

    def __init__(self, recording: Recording, **changes: Callable) -> None:
        super().__init__(recording, **changes)
        self.sides, self.T_right_left = (LEFT,), None

    def T_world_camera(self, index: int, side: str = LEFT) -> None:
        return None
