"""Decode a few segments of a video file into memory, for checks of the data; nothing is written to disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT, Recording
from stadia.data.config import SourceOptions
from stadia.data.motion import FrameChooser
from stadia.data.own_camera import own_intrinsics
from stadia.data.recordings import CalibratedRecording, Intrinsics
from stadia.data.resize import resize_image
from stadia.data.stream import VideoFrame, expected_frames, stream_stretch, stream_video
from stadia.data.video import of_frames, resized_intrinsics

STRETCHES = 4
KEPT, DECODED = 32, 160
"""Maximum frames of a segment: kept as in training, and decoded to select those."""

LONGEST_SIDE = 1280
"""Pixels; larger frames are reduced with their camera. Four segments then take at most 350 MB."""


@dataclass(kw_only=True, eq=False, repr=False)
class Stretch(CalibratedRecording):
    """Consecutive frames of a video, in memory.

    images: (H, W, 3) RGB each.
    last_decoded: the number of the last decoded frame, kept or not.
    """

    images: list[NDArray[np.uint8]]
    last_decoded: int

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB."""
        return self.images[index]

    def fingerprint(self) -> str:
        """Return a hash of the images and the camera."""
        digest = hashlib.blake2b(self.intrinsics[LEFT].K.tobytes(), digest_size=16)
        for image in self.images:
            digest.update(image.tobytes())
        return digest.hexdigest()


def sample_video(path: Path, options: SourceOptions) -> list[Recording]:
    """Return segments spread over a video file, each a recording; for a short video one, from its start.

    A video with a pose or a K for each frame has one segment too, since frame numbers after a seek are inexact.
    Raises DataError where the file cannot be decoded or no camera is known.
    """
    first, total = next(stream_video(path)), expected_frames(path)
    height, width = first.image.shape[:2]
    camera = own_intrinsics(options.camera, path, height, width, frames=total)
    name = f"video/{path.stem}"
    if total is None or total <= STRETCHES * DECODED or options.poses is not None or camera.K.ndim == 3:
        return [_read_segment(name, stream_video(path), camera, options, STRETCHES)]
    found: list[Recording] = []
    last_index = -1
    for number in range(STRETCHES):
        frames = stream_stretch(path, number / STRETCHES)
        start = next(frames, None)
        if start is None or start.index <= last_index:
            continue  # truncated before this, or no key frame since the last segment
        segment = _read_segment(f"{name} from {start.time_s:.0f} s", chain([start], frames), camera, options)
        found.append(segment)
        last_index = segment.last_decoded
    return found


def _read_segment(
    name: str, frames: Iterator[VideoFrame], camera: Intrinsics, options: SourceOptions, longer: int = 1
) -> Stretch:
    """Select the next frames as in training; `longer` times as many as usual."""
    chooser, images, numbers, times_s = (
        FrameChooser(options.stride),
        list[NDArray[np.uint8]](),
        list[int](),
        list[float](),
    )
    size = options.size or _limit_size(camera.height, camera.width)
    most = DECODED if options.stride == "auto" else KEPT * options.stride
    for frame in islice(frames, longer * most):
        if chooser.keep(frame.image):
            images.append(resize_image(frame.image, *size))
            numbers.append(frame.index)
            times_s.append(frame.time_s)
        last = frame.index
        if len(images) == longer * KEPT:
            break
    return Stretch(
        name=name,
        intrinsics={LEFT: resized_intrinsics(of_frames(camera, numbers), *size)},
        numbers=numbers,
        times_s=np.array(times_s),
        images=images,
        last_decoded=last,
    )


def _limit_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return round(height * scale), round(width * scale)
