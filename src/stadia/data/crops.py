"""Views of recordings: ranges of frames, and cropped images with their cameras and ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.core.recording import LEFT, MaskReader, Recording, RoadMasks
from stadia.core.types import Camera
from stadia.geometry.crops import Box, image_box


class RecordingView(Recording):
    """A recording under its name, read through another one."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.name, self.sides, self.T_right_left = recording.name, recording.sides, recording.T_right_left
        self.mount = recording.mount

    def source_index(self, index: int) -> int:
        """Return the index of a frame in the underlying recording."""
        return index

    def __len__(self) -> int:
        return len(self.recording)

    @property
    def session(self) -> str:
        return self.recording.session

    @property
    def mask_reader(self) -> MaskReader | None:
        return self.recording.mask_reader

    @mask_reader.setter
    def mask_reader(self, reader: MaskReader | None) -> None:
        self.recording.mask_reader = reader

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        return self.recording.masks(self.source_index(index), side)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return self.recording.image(self.source_index(index), side)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return self.recording.camera(self.source_index(index), side)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        return self.recording.depth_m(self.source_index(index), side)

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        return self.recording.T_world_camera(self.source_index(index), side)

    def timestamp_s(self, index: int) -> float | None:
        return self.recording.timestamp_s(self.source_index(index))

    def number(self, index: int) -> int:
        return self.recording.number(self.source_index(index))

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.recording.file(self.source_index(index), side)


class Excerpt(RecordingView):
    """Consecutive frames of a recording, under its name."""

    def __init__(self, recording: Recording, start: int, stop: int) -> None:
        super().__init__(recording)
        self.start, self.stop = start, stop

    @classmethod
    def between(cls, recording: Recording, start: int, stop: int) -> Excerpt:
        """Select [start, stop), which must be inside the recording."""
        if stop > len(recording):
            expected = f"frames {start} to {stop}"
            raise DataError(
                recording.name, found=f"{len(recording)} frames", expected=expected, fix="correct data.frames"
            )
        return cls(recording, start, stop)

    def __len__(self) -> int:
        return self.stop - self.start

    def source_index(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.start + index

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        return self.recording.K(self.source_index(index), side)

    def fingerprint(self) -> str:
        return f"{self.recording.fingerprint()}[{self.start}:{self.stop}]"


class CroppedRecording(RecordingView):
    """A recording with images cut to a crop of `geometry.crops`. Raises DataError for smaller images."""

    def __init__(self, recording: Recording, crop: str) -> None:
        super().__init__(recording)
        self.crop = crop
        if len(recording):
            self._box(0, LEFT)

    def _box(self, index: int, side: str) -> Box:
        camera = self.recording.camera(index, side)
        try:
            return image_box(self.crop, camera.height, camera.width)
        except GeometryError as error:
            raise DataError(self.name, found=error.found, expected=error.expected, fix=error.fix) from error

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        masks, box = self.recording.masks(index, side), self._box(index, side)
        return None if masks is None else RoadMasks(box.cut(masks.semantic), box.cut(masks.instance))

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._box(index, side).cut(self.recording.image(index, side)))

    def camera(self, index: int, side: str = LEFT) -> Camera:
        from stadia.geometry.camera import cropped  # here, since recordings are also read without torch

        box = self._box(index, side)
        return cropped(self.recording.camera(index, side), box.left, box.top, box.height, box.width)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        depth_m = self.recording.depth_m(index, side)
        return None if depth_m is None else np.ascontiguousarray(self._box(index, side).cut(depth_m))

    def fingerprint(self) -> str:
        return f"{self.recording.fingerprint()}[{self.crop}]"


def cropped_recording(recording: Recording, crop: str) -> Recording:
    """Return the recording cut to a crop; the recording itself without a crop."""
    return recording if crop == "none" else CroppedRecording(recording, crop)
