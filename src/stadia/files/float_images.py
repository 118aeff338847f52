"""Read maps of one channel from TIFF, PFM and OpenEXR, whose sizes are checked before they are decoded."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stadia.core.errors import DataError, summarize_exception
from stadia.files.image_io import MAX_IMAGE_BYTES, check_pixel_count
from stadia.files.input_files import check_input_file, name_parser_errors, read_bytes

FLOAT_SUFFIXES = (".exr", ".pfm", ".tiff", ".tif")
EXR_CHANNELS = ("Z", "Depth.Z", "Depth.V", "V", "Y", "depth", "R")
"""Names of the channel of depth: of renderers, of Blender, of gray images; R of three equal ones."""

EXPECTED = "a map of one channel"
_PFM_HEADER = re.compile(rb"(P[fF])\s+(\d{1,6})\s+(\d{1,6})\s+[-+.\deE]+\s")


def read_float_image(path: Path) -> NDArray[Any]:
    """Return the (H, W) values of a .tiff, .tif, .pfm or .exr file as stored.

    Raises DataError where it is damaged, has several pages or channels, or needs a package that is not installed.
    """
    if path.suffix.lower() == ".exr":
        return _read_exr(path)
    data = read_bytes(path, expected=EXPECTED, max_bytes=MAX_IMAGE_BYTES)
    with name_parser_errors(path, expected=EXPECTED):
        if path.suffix.lower() == ".pfm":
            header = _PFM_HEADER.match(data)
            if header is None:
                raise ValueError("no header of a PFM")
            size, pages = (int(header[2]), int(header[3])), 1
        else:
            size, pages = _read_tiff_header(data)
    check_pixel_count(path, *size)
    if pages != 1:
        raise DataError(path, found=f"{pages} pages", expected="one map a file", fix="write one file for each image")
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        found = f"a file that cannot be decoded ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=EXPECTED, fix="write or copy it again") from error
    if stored is None:
        raise DataError(path, found="a file that cannot be decoded", expected=EXPECTED, fix="write or copy it again")
    return _take_channel(path, np.asarray(stored))


def _read_tiff_header(data: bytes) -> tuple[tuple[int, int], int]:
    """Return (width, height) and the number of pages of a TIFF. Raise ValueError for another file."""
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            return image.size, int(getattr(image, "n_frames", 1))
    except OSError as error:
        raise ValueError(summarize_exception(error)) from error


def _take_channel(path: Path, stored: NDArray[Any]) -> NDArray[Any]:
    """Return the map, or the first of equal channels."""
    if stored.ndim == 3 and all(np.array_equal(stored[..., 0], stored[..., c]) for c in range(1, stored.shape[2])):
        return stored[..., 0]
    if stored.ndim != 2:
        found, fix = f"{stored.shape[2]} channels", "store depth as one channel"
        raise DataError(path, found=found, expected="one channel", fix=fix)
    return stored


def _read_exr(path: Path) -> NDArray[Any]:
    try:
        import OpenEXR
    except ImportError as error:
        fix = "pip install 'stadia[exr]', or convert it to .npy or .pfm"
        raise DataError(path, found="an .exr file", expected="the extra 'exr'", fix=fix) from error
    check_input_file(path, expected=EXPECTED, max_bytes=MAX_IMAGE_BYTES)
    with name_parser_errors(path, expected=EXPECTED):
        low, high = OpenEXR.File(str(path), header_only=True).header()["dataWindow"]
        width, height = (int(b) - int(a) + 1 for a, b in zip(low, high, strict=True))
        check_pixel_count(path, max(width, 1), max(height, 1))
        with OpenEXR.File(str(path), separate_channels=True) as opened:
            channels = {name: np.array(channel.pixels) for name, channel in opened.channels().items()}
    name = next((name for name in EXR_CHANNELS if name in channels), "")
    name = next(iter(channels)) if len(channels) == 1 else name
    colors = [channels[color] for color in "RGB" if color in channels]
    if not name or (name == "R" and not all(np.array_equal(colors[0], color) for color in colors[1:])):
        fix = f"store depth as the channel {EXR_CHANNELS[0]}"
        raise DataError(path, found=f"the channels {', '.join(channels)}", expected="one channel of depth", fix=fix)
    return np.asarray(channels[name])
