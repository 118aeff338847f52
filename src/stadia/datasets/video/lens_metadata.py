"""Read the lens from what a camera writes into its files: EXIF of photos, metadata of telephones' videos."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from PIL import Image

from stadia.datasets.image_files import IMAGE_SUFFIXES, list_images
from stadia.datasets.video.video_decoding import read_metadata
from stadia.datasets.video.video_files import read_image_size
from stadia.files.image_io import MAX_IMAGE_BYTES
from stadia.files.input_files import name_parser_errors, read_bytes

_FULL_FRAME_MM = 36.0, 24.0

_EXIF_IFD, _FOCAL_MM, _FOCAL_35MM = 0x8769, 0x920A, 0xA405
_PIXELS, _PER_UNIT, _UNIT = 0xA002, 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}
_VIDEO_KEY = "focal_length.35mm_equivalent"
_MAX_NUMBER = 1e6


def full_frame_width_mm(height: int, width: int) -> float:
    """Return the longer side of the sensor that a "35 mm equivalent" of images of this shape refers to, mm.

    The equivalent is that of the diagonal: 36 mm for 3:2, 34.6 mm for 4:3. Wider images, such as videos, show a part of
    a sensor that is not recorded: 36 mm is then within 5 % for sensors of 3:2 and 4:3.
    Source: CIPA DCG-001.

    Example: `full_frame_width_mm(3000, 4000)`.
    """
    longer, shorter = max(height, width), min(height, width)
    if longer / shorter >= _FULL_FRAME_MM[0] / _FULL_FRAME_MM[1]:
        return _FULL_FRAME_MM[0]
    return math.hypot(*_FULL_FRAME_MM) * longer / math.hypot(longer, shorter)


def read_lens(source: Path) -> tuple[float, float] | None:
    """Return focal length and width of the sensor, both in mm, of a photo, a folder of photos, or a telephone's video.

    None where the file has neither. Raises DataError for a damaged file.
    Source: EXIF 2.32, sections 4.6.5 and 4.6.6; QuickTime metadata of Apple.
    """
    if source.is_dir():
        source = list_images(source)[0]
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return _read_photo(source)
    for key, value in read_metadata(source).items():
        if key.endswith(_VIDEO_KEY) and (focal_mm := _as_number(value)):
            return focal_mm, full_frame_width_mm(*read_image_size(source))
    return None


def _read_photo(path: Path) -> tuple[float, float] | None:
    data = read_bytes(path, expected="a photo", max_bytes=MAX_IMAGE_BYTES)
    with name_parser_errors(path, expected="a photo"), Image.open(io.BytesIO(data)) as photo:
        entries: dict[int, Any] = dict(photo.getexif().get_ifd(_EXIF_IFD))
        size = photo.size
    if focal_mm := _as_number(entries.get(_FOCAL_35MM)):
        return focal_mm, full_frame_width_mm(*size)
    focal_mm, per_unit = _as_number(entries.get(_FOCAL_MM)), _as_number(entries.get(_PER_UNIT))
    pixels = _as_number(entries.get(_PIXELS)) or max(size)
    unit_mm = _UNIT_MM.get(entries.get(_UNIT, 2))
    if not focal_mm or not per_unit or unit_mm is None:
        return None
    return focal_mm, pixels / per_unit * unit_mm


def _as_number(value: Any) -> float:
    """Return a number above 0; 0 for all else."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return number if 0 < number < _MAX_NUMBER else 0.0
