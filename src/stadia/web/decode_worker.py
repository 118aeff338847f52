"""Decode uploads in a process of its own, which `decoding.UploadDecoder` starts. Imports no torch.

An upload comes from anybody. What a decoder does with it cannot reach the server: the process has limits of memory and
time, and returns pixels alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.datasets.formats.calibration_files import read_lens
from stadia.datasets.image_files import read_image_header, read_rgb
from stadia.files.image_io import write_image
from stadia.web.decoding import UPLOAD, DecodedPhoto

MAX_PHOTO_PIXELS = 50_000_000
"""Largest photo: telephones have 48 to 50 megapixels."""

MIN_SIDE = 16
"""Smallest side of a picture: a network has nothing to see in less."""

MAX_SIDE = 1600
"""Longest side of the decoded picture. Networks get less, and a page shows less."""

MEMORY_BYTES = 3 << 30
"""Addresses of the process: 50 megapixels, decoded and resized, take 0.6 GB beside the libraries."""


def decode_photo(path: Path) -> DecodedPhoto:
    """Return the upright picture of a PNG or JPEG, and its field of view by its EXIF.

    Raises DataError for another file, a damaged one, or one of too many pixels.
    """
    header = read_image_header(path)
    if header is not None and header.width * header.height > MAX_PHOTO_PIXELS:
        found = f"{header.width}x{header.height} pixels"
        expected = f"at most {MAX_PHOTO_PIXELS // 1_000_000} megapixels"
        raise DataError(UPLOAD, found=found, expected=expected, fix="make the picture smaller")
    image = read_rgb(path)
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        found = f"{width}x{height} pixels"
        raise DataError(
            UPLOAD, found=found, expected=f"at least {MIN_SIDE} on each side", fix="choose a larger picture"
        )
    return DecodedPhoto(shrink_image(image, MAX_SIDE), (height, width), find_field_of_view(path, height, width))


def shrink_image(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) with sides of at most `max_side` pixels, of the same shape within a pixel.

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
    """Return the angle from left to right of an upright photo or video, degrees.

    None where its metadata have no lens, or a damaged one.
    """
    with contextlib.suppress(StadiaError):
        lens = read_lens(path)
        if lens is not None:
            focal_mm, sensor_mm = lens
            across_mm = sensor_mm * width / max(height, width)
            fov_deg = math.degrees(2 * math.atan(across_mm / 2 / focal_mm))
            return fov_deg if 1 < fov_deg < 170 else None
    return None


def _decode_photo(request: Mapping[str, Any]) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    photo = decode_photo(Path(request["path"]))
    about = {"shape": photo.image.shape, "filmed_size": photo.filmed_size, "fov_deg": photo.fov_deg}
    return about, photo.image


def _decode_video(request: Mapping[str, Any]) -> tuple[dict[str, Any], None]:
    """Write every n-th frame as a JPEG of a number into a folder."""
    from stadia.datasets.video.video_decoding import read_frame_rate_hz, stream_video

    path, folder = Path(request["path"]), Path(request["folder"])
    every, most, max_side = int(request["every"]), int(request["max_frames"]), int(request["max_side"])
    written, size, has_more = 0, (0, 0), False
    for frame in stream_video(path):
        if frame.index % every:
            continue
        if written == most:
            has_more = True
            break
        image = shrink_image(frame.image, max_side)
        size = (image.shape[0], image.shape[1])
        write_image(folder / f"{written:06d}.jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
        written += 1
    rate_hz = read_frame_rate_hz(path)
    fov_deg = find_field_of_view(path, *size) if written else None
    return {"frames": written, "size": size, "rate_hz": rate_hz, "fov_deg": fov_deg, "has_more": has_more}, None


_KINDS = {"photo": _decode_photo, "video": _decode_video}


def limit_memory(memory_bytes: int) -> None:
    """Limit the addresses of this process, where the system can, and write no core file."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Decode the upload that standard input names, and write a line of JSON, then pixels."""
    limit_memory(MEMORY_BYTES)
    cv2.setNumThreads(1)
    request = json.load(sys.stdin.buffer)
    values = None
    try:
        reply, values = _KINDS[request["kind"]](request)
    except StadiaError as error:
        reply = {"found": error.found, "expected": error.expected, "fix": error.fix}
    except MemoryError:
        fix = "choose a smaller file"
        reply = {"found": "a file that takes too much memory", "expected": "less", "fix": fix}
    except Exception as error:  # a decoder of another library: the file is at fault, and one line names it
        found = f"a file that cannot be decoded ({summarize_exception(error)})"
        reply = {"found": found, "expected": "a whole picture or video", "fix": "save it again"}
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    if values is not None:
        sys.stdout.buffer.write(np.ascontiguousarray(values).data)


if __name__ == "__main__":
    main()
