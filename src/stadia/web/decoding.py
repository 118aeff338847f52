"""Decode uploaded pictures and videos of limited size. Does not import PyTorch."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.data.formats.photo_lens import read_lens
from stadia.data.video.static_parts import search_static_content
from stadia.io.image_files import read_image_header, read_rgb_near, read_upright_size
from stadia.io.image_io import write_image
from stadia.io.video_decoding import estimate_frame_count, read_frame_rate_hz, stream_video
from stadia.web.forms import MAX_PHOTO_PIXELS, UPLOAD, drop_commands

MIN_SIDE, MAX_SIDE, SMALL_SIDE = 16, 1600, 320
"""Longest side of a small picture, pixels (MIN_SIDE: shortest allowed side of an upload; MAX_SIDE: longest side after
decoding).
"""


@dataclass(frozen=True)
class DecodedPhoto:
    """A decoded picture.

    image: (H, W, 3) RGB, upright, with sides of at most MAX_SIDE pixels.
    filmed_size: (height, width) of the picture in the file, upright, pixels.
    fov_deg: horizontal field of view from its EXIF data, degrees; None without a focal length.
    """

    image: NDArray[np.uint8]
    filmed_size: tuple[int, int]
    fov_deg: float | None


@dataclass(frozen=True)
class DecodedVideo:
    """What was decoded of a video.

    count: number of decoded frames.
    every: each n-th frame was taken.
    size: (height, width) of the frames, pixels.
    rate_hz: frame rate of the video; None if unknown.
    fov_deg: horizontal field of view from the metadata, degrees; None if unknown.
    has_more: whether the video has more frames than the limit.
    """

    count: int
    every: int
    size: tuple[int, int]
    rate_hz: float | None
    fov_deg: float | None
    has_more: bool


@contextlib.contextmanager
def _hide_path() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except StadiaError as error:
        fix = "".join(drop_commands([error.fix or ""])) or "save it again as a PNG or JPEG picture, or as an MP4 video"
        raise DataError(UPLOAD, found=error.found, expected=error.expected, fix=fix) from None
    except Exception as error:  # A library's decoder raises errors of any class.
        found = f"a file that cannot be decoded ({summarize_exception(error)})"
        raise DataError(
            UPLOAD,
            found=found,
            expected="a whole picture or video",
            fix="save the picture or video again, and choose the new file",
        ) from None


def decode_photo(path: Path) -> DecodedPhoto:
    """Decode an uploaded PNG or JPEG, turned upright, with its field of view from the EXIF data.

    Raises DataError for a damaged file, or too few or too many pixels; the message hides the file's path.
    """
    with _hide_path():
        header = read_image_header(path)
        if header is not None and header.width * header.height > MAX_PHOTO_PIXELS:
            found = f"{header.width * header.height / 1e6:.0f} megapixels ({header.width} x {header.height})"
            most = MAX_PHOTO_PIXELS // 1_000_000
            raise DataError(UPLOAD, found=found, expected=f"at most {most} megapixels", fix="make the picture smaller")
        height, width = read_upright_size(path)
        if min(height, width) < MIN_SIDE:
            found, expected = f"{width}x{height} pixels", f"at least {MIN_SIDE} on each side"
            raise DataError(UPLOAD, found=found, expected=expected, fix="choose a larger picture")
        image = shrink_image(read_rgb_near(path, MAX_SIDE)[0], MAX_SIDE)
        return DecodedPhoto(image, (height, width), find_field_of_view(path, height, width))


def decode_video(
    path: Path,
    folder: Path,
    *,
    every: int | None,
    max_frames: int,
    max_side: int,
    is_cancelled: Callable[[], bool],
    on_first: Callable[[NDArray[np.uint8]], None] = lambda image: None,
) -> DecodedVideo:
    """Write every n-th frame of an uploaded video, without black bars, into a folder as numbered JPEG files.

    path: the video.
    folder: folder for the frames.
    every: n; None spreads at most `max_frames` over the whole video.
    max_frames: most frames to write.
    max_side: longest side of the frames, pixels.
    is_cancelled: returns whether decoding is to stop.
    on_first: called with the first frame, RGB, with black bars, before the others are read.

    Raises DataError, which does not show the file's path.
    """
    written, size, has_more, crop = 0, (0, 0), False, None
    with _hide_path():
        for frame in stream_video(path):  # shown while all others are read
            image = shrink_image(frame.image, max_side)
            write_image(folder / "000000.jpg", image[..., ::-1])
            on_first(image)
            break
        with contextlib.suppress(StadiaError, OSError):  # reported by the frames
            crop = search_static_content(path).crop  # leaves nothing of an upload in the cache
        if every is None:
            every = math.ceil(max(estimate_frame_count(path) or 1, 1) / max_frames)
        for frame in stream_video(path):
            if is_cancelled():
                break
            if frame.index % every:
                continue
            if written == max_frames:
                has_more = True
                break
            image = shrink_image(frame.image if crop is None else crop.cut(frame.image), max_side)
            size = (image.shape[0], image.shape[1])
            write_image(folder / f"{written:06d}.jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
            written += 1
        fov_deg = find_field_of_view(path, *size) if written else None
        return DecodedVideo(written, every, size, read_frame_rate_hz(path), fov_deg, has_more)


def shrink_image(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) resized to sides of at most `max_side` pixels, with its aspect ratio kept within a
    pixel.

    Examples:
        >>> shrink_image(np.zeros((300, 400, 3), np.uint8), 200).shape
        (150, 200, 3)
    """
    height, width = image.shape[:2]
    factor = max_side / max(height, width)
    if factor >= 1:
        return image
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def find_field_of_view(path: Path, height: int, width: int) -> float | None:
    """Return the horizontal field of view of an upright photo or video from its metadata, degrees; None if unknown."""
    with contextlib.suppress(StadiaError):
        lens = read_lens(path)
        if lens is not None:
            focal_mm, sensor_mm = lens
            across_mm = sensor_mm * width / max(height, width)
            fov_deg = math.degrees(2 * math.atan(across_mm / 2 / focal_mm))
            return fov_deg if 1 < fov_deg < 170 else None
    return None
