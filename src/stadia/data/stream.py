"""A video file, frame after frame, at a bounded memory whatever its length."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".mkv",
    ".avi",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mjpeg",
    ".ogv",
    ".wmv",
    ".3gp",
)
_UNSURE = (
    0.05  # of a length that is told in seconds alone: sound may be longer than the images, and rates are not constant
)


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One decoded frame. image: (H, W, 3) RGB, turned upright as every player does.  time_s: since the video's start."""

    index: int
    time_s: float
    image: NDArray[np.uint8]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video, with FFmpeg's errors told as ours."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(path, found="no video in it", expected="a video file", fix="check the file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        raise _undecodable(path, error) from error


def _undecodable(path: Path, error: Exception) -> DataError:
    """What is wrong with a file that FFmpeg refuses, and what helps."""
    found = f"a video that cannot be decoded ({getattr(error, 'strerror', error)})"
    fix = "copy it again, or convert it: ffmpeg -i IN out.mp4"
    if path.is_file():
        boxes = _mp4_boxes(path)
        if path.stat().st_size == 0:
            found, fix = "an empty file", "copy it again"
        elif "ftyp" in boxes and "moov" not in boxes:
            found = "an mp4 that cannot be decoded: it was cut off before its index (moov), which stands at its end"
            fix = (
                "copy it again; if the camera itself was cut off: untrunc, with a whole file of the same camera,"
                " rebuilds the index"
            )
        elif not boxes and isinstance(error, av.error.InvalidDataError):
            found, fix = (
                "a file that cannot be decoded: it is of no video format that FFmpeg knows",
                "check that it is a video, or copy it again",
            )
    return DataError(path, found=found, expected="a whole video file", fix=fix)


def _mp4_boxes(path: Path) -> list[str]:
    """The kinds of the boxes that an mp4 or mov is made of; none where it does not begin as one."""
    kinds: list[str] = []
    with path.open("rb") as file:
        while len(header := file.read(16)) >= 8 and (kind := header[4:8]).isalnum() and (kinds or kind == b"ftyp"):
            kinds.append(kind.decode("ascii", "replace"))
            size = int.from_bytes(header[:4], "big")
            if size == 0:  # it reaches to the end
                break
            file.seek((int.from_bytes(header[8:16], "big") if size == 1 else max(size, 8)) - len(header), 1)
    return kinds


def announced_frames(path: Path) -> int | None:
    """How many frames the file says it has; None where it does not say."""
    with _opened(path) as (_, stream):
        return stream.frames or None


def expected_frames(path: Path) -> int | None:
    """As `announced_frames`, else roughly, by the duration and the rate that the file tells; None where it tells
    neither.
    """
    with _opened(path) as opened:
        return _expected(*opened)


def _expected(container: Any, stream: Any) -> int | None:
    if stream.frames or not (container.duration and stream.average_rate):
        return stream.frames or None
    return round(container.duration / av.time_base * float(stream.average_rate))


def lost_frames(path: Path, came: int) -> int:
    """How many frames the file should have beyond those that came: it was cut off or is damaged."""
    with _opened(path) as opened:
        return _lost(*opened, came)


def _lost(container: Any, stream: Any, came: int) -> int:
    expected = _expected(container, stream) or came
    lost = max(expected - came, 0)
    return lost if stream.frames or lost > _UNSURE * expected else 0


def stream_video(path: Path) -> Iterator[VideoFrame]:
    """Every whole frame in order; how many are lost where the file was cut off or is damaged is logged.

    Raises DataError naming the file where it is not a video, or where less than half of it can be decoded: before
    anything is decoded if the file's index shows it.
    """
    _check_middle(path)
    came = 0
    with _opened(path) as (container, stream):
        try:
            for frame in _decoded(path, container, stream):
                yield frame
                came += 1
        except av.FFmpegError:
            if not came or _expected(container, stream) is None:
                raise  # nobody knows how much is lost
        lost = _lost(container, stream, came)
    if came <= lost:
        start = f", or train on its whole start: ffmpeg -i IN -frames:v {came} start.mp4" if came > 1 else ""
        raise _too_short(path, f"{came} frames", f"{came + lost}, as the file announces" if lost else "some", start)
    if lost:
        log.warning("%s: %d of %d frames are lost, the file was cut off or is damaged", path, lost, came + lost)


def stream_stretch(path: Path, share: float) -> Iterator[VideoFrame]:
    """Frames from the last key frame before this share of the video on, found without decoding what lies before.

    Their index follows from their time, so it is exact only where the frame rate is constant. Where the file was cut
    off or is damaged they end, which is logged.
    """
    with _opened(path) as (container, stream):
        index = -1
        with suppress(av.FFmpegError):
            container.seek(int(share * (container.duration or 0) + _start_s(stream) * av.time_base))
            for frame in _decoded(path, container, stream, by_time=True):
                index = frame.index
                yield frame
        if index + 1 < (1 - _UNSURE) * (_expected(container, stream) or 0):
            log.warning("%s: no frames after %.0f %% of it, the file was cut off or is damaged", path, 100 * share)


def _start_s(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _decoded(path: Path, container: Any, stream: Any, *, by_time: bool = False) -> Iterator[VideoFrame]:
    """Upright frames of one size from where the container stands. One whose data is damaged is left out, its index with
    it.
    """
    rate, size, start = float(stream.average_rate or 1), None, 0.0
    for count, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:  # the decoder painted it from its neighbors
            continue
        image = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
        if size is None:
            size, start = image.shape, _start_s(stream) if by_time else frame.time or 0.0
        time_s = count / rate if frame.time is None else frame.time - start
        index = round(time_s * rate) if by_time else count
        if image.shape != size:
            raise DataError(
                f"{path}, frame {index}",
                found=f"{image.shape[1]}x{image.shape[0]}",
                expected=f"{size[1]}x{size[0]} as before",
                fix="split the video where its size changes",
            )
        yield VideoFrame(index, time_s, image)


def _check_middle(path: Path) -> None:
    """An index that promises a second half which is not in the file: told now, not after the first half is decoded."""
    with _opened(path) as (container, stream):
        if not (stream.frames and stream.duration):
            return
        container.seek(stream.duration // 2 + (stream.start_time or 0), stream=stream)
        packet = next(container.demux(stream), None)
        if packet is None or not packet.size:
            raise _too_short(path, "less than half of its frames", f"{stream.frames}, as it announces")


def _too_short(path: Path, found: str, expected: str, otherwise: str = "") -> DataError:
    return DataError(path, found=found, expected=expected, fix=f"copy the file again{otherwise}")
