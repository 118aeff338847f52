"""Decode images and videos from strangers, such as uploads, in a process with limits (`core.sandbox`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.image_io import MAX_PIXELS
from stadia.core.sandbox import iterate_limited, run_limited
from stadia.datasets.image_files import read_rgb
from stadia.datasets.video_decoding import VideoFrame, stream_video

IMAGE_SECONDS, VIDEO_SECONDS = 20.0, 600.0
MAX_DECODER_BYTES = 3 << 29  # 1.5 GiB: the file, 16 bits of four channels, and the picture
MAX_FRAMES = 100_000


def read_untrusted_rgb(path: Path, *, seconds: float = IMAGE_SECONDS) -> NDArray[np.uint8]:
    """Return (H, W, 3) RGB as `read_rgb` does. A crash, a hang or too much memory of the decoder is a DataError."""
    image = run_limited(
        read_rgb, path, seconds=seconds, max_bytes=MAX_DECODER_BYTES, max_result_bytes=3 * MAX_PIXELS, what=path
    )
    return _check_image(path, image)


def stream_untrusted_video(path: Path, *, seconds: float = VIDEO_SECONDS) -> Iterator[VideoFrame]:
    """Yield frames as `stream_video` does; a crash, a hang or too much memory of the decoder is a DataError.

    seconds: of decoding, in all.
    """
    frames = iterate_limited(
        _stream_parts, path, seconds=seconds, max_bytes=MAX_DECODER_BYTES, max_result_bytes=3 * MAX_PIXELS, what=path
    )
    for count, (index, time_s, image) in enumerate(frames):
        if count >= MAX_FRAMES:
            raise DataError(path, found="more frames", expected=f"at most {MAX_FRAMES}", fix="cut the video")
        yield VideoFrame(int(index), float(time_s), _check_image(path, image))


def _stream_parts(path: Path) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    for frame in stream_video(path):
        yield frame.index, frame.time_s, frame.image


def _check_image(path: Path, image: object) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(path, found="data that decode to no image", expected="an image", fix="check the file")
    return image
