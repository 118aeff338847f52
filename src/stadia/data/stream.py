"""A video file, frame after frame, at a bounded memory whatever its length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mjpeg", ".ogv", ".wmv", ".3gp")
_MOST_LOST = 0.05  # of the frames that the container announces; edit lists legitimately hide a few


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One decoded frame. image: (H, W, 3) RGB, turned upright as every player does.  time_s: since the video's start."""

    index: int
    time_s: float
    image: NDArray[np.uint8]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The container, with FFmpeg's errors told as ours."""
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise DataError(
            path,
            found=f"a video that cannot be decoded ({error.strerror})",
            expected="a whole video file",
            cure="copy it again, or convert it: ffmpeg -i IN out.mp4",
        ) from error


def announced_frames(path: Path) -> int | None:
    """How many frames the file says it has; None where it does not say."""
    with _opened(path) as container:
        return container.streams.video[0].frames or None if container.streams.video else None


def stream_video(path: Path) -> Iterator[VideoFrame]:
    """Every frame in order. Raises DataError naming the file where it is not a video, is damaged or cut off."""
    with _opened(path) as container:
        if not container.streams.video:
            raise DataError(path, found="no video in it", expected="a video file", cure="check the file")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        index = -1
        for index, frame in enumerate(container.decode(stream)):
            image = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
            if index == 0:
                size, start = image.shape, frame.time or 0.0
            if image.shape != size:
                raise DataError(
                    f"{path}, frame {index}",
                    found=f"{image.shape[1]}x{image.shape[0]}",
                    expected=f"{size[1]}x{size[0]} as before",
                    cure="split the video where its size changes",
                )
            time_s = index / float(stream.average_rate or 1) if frame.time is None else frame.time - start
            yield VideoFrame(index, time_s, image)
        if index + 1 < max(1, (stream.frames or 0) * (1 - _MOST_LOST)):
            raise DataError(
                path, found=f"{index + 1} frames", expected=f"{stream.frames or 'some'}, as the file announces", cure="copy the file again"
            )
