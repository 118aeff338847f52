"""The trajectory of a camera through the frames of a video."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CameraPath:
    """The trajectory of a camera through N video frames.

    T_world_camera: (N, 4, 4), camera to world; the world is the first camera.
    names: names of the frames.
    times_s: times of the frames, seconds; None if unknown.
    ends: where and why the trajectory stops before the last frame of the video; "" if it does not.
    keyframes: number of keyframes.
    frame_ms: (N,) computing time of each frame, milliseconds, without reading it.
    network_length: length of the trajectory that the pose network's motions alone give, or None.
    notes: lines of text about the trajectory.
    """

    T_world_camera: NDArray[np.float64]
    names: tuple[str, ...]
    times_s: tuple[float | None, ...]
    ends: str
    keyframes: int
    frame_ms: NDArray[np.float64]
    network_length: float | None = None
    notes: tuple[str, ...] = ()

    def add_notes(self, *notes: str) -> "CameraPath":
        """Return a copy of the trajectory with further lines of text."""
        return replace(self, notes=(*self.notes, *notes))
