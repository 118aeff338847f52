"""Views of recordings: cropped images with their cameras and ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.core.recording import LEFT, MaskReader, Recording, RoadMasks
from stadia.core.types import Camera
from stadia.geometry.camera import cropped
from stadia.geometry.crops import Box, image_box


class CroppedRecording(Recording):
    """A recording under the same name with images cut to a crop of `geometry.crops`. Raises DataError for smaller
    images.
    """

    def __init__(self, recording: Recording, crop: str) -> None:
        self.recording, self.crop = recording, crop
        self.name, self.sides, self.T_right_left = recording.name, recording.sides, recording.T_right_left
        self.mount = recording.mount
        if len(recording):
            self._box(0, LEFT)

    def _box(self, index: int, side: str) -> Box:
        camera = self.recording.camera(index, side)
        try:
            return image_box(self.crop, camera.height, camera.width)
        except GeometryError as error:
            raise DataError(self.name, found=error.found, expected=error.expected, fix=error.fix) from error

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
        masks, box = self.recording.masks(index, side), self._box(index, side)
        return None if masks is None else RoadMasks(box.cut(masks.semantic), box.cut(masks.instance))

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._box(index, side).cut(self.recording.image(index, side)))

    def camera(self, index: int, side: str = LEFT) -> Camera:
        box = self._box(index, side)
        return cropped(self.recording.camera(index, side), box.left, box.top, box.height, box.width)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        depth_m = self.recording.depth_m(index, side)
        return None if depth_m is None else np.ascontiguousarray(self._box(index, side).cut(depth_m))

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        return self.recording.T_world_camera(index, side)

    def timestamp_s(self, index: int) -> float | None:
        return self.recording.timestamp_s(index)

    def number(self, index: int) -> int:
        return self.recording.number(index)

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.recording.file(index, side)

    def fingerprint(self) -> str:
        return f"{self.recording.fingerprint()}[{self.crop}]"


def cropped_recording(recording: Recording, crop: str) -> Recording:
    """Return the recording cut to a crop; the recording itself without a crop."""
    return recording if crop == "none" else CroppedRecording(recording, crop)
