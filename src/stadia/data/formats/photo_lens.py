"""Read the lens of a photo from EXIF, or the lens of a phone's video from its metadata."""

import math
import re
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError
from stadia.data.video.video_camera import read_image_size
from stadia.io.image_files import IMAGE_SUFFIXES, list_images, open_photo
from stadia.io.records.camera_keys import CUT_PANORAMA
from stadia.io.video_decoding import read_metadata

_FULL_FRAME_MM = 36.0, 24.0

_EXIF_IFD, _FOCAL_MM, _FOCAL_35MM = 0x8769, 0x920A, 0xA405
_PIXELS, _ROWS, _PER_UNIT, _UNIT = 0xA002, 0xA003, 0xA20E, 0xA210
MAX_SHAPE_CHANGE = 0.02  # change of the aspect ratio from EXIF's size to the size of a picture that was not cropped
_GPANO = re.compile(rb"ProjectionType(?:>|=[\"'])\s*(equirectangular|cylindrical)", re.IGNORECASE)
_GPANO_WHOLE = re.compile(rb"FullPanoWidthPixels(?:>|=[\"'])\s*(\d+)")
_GPANO_PART = re.compile(rb"CroppedAreaImageWidthPixels(?:>|=[\"'])\s*(\d+)")
EQUIRECTANGULAR = "equirectangular"
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}
_VIDEO_KEY = "focal_length.35mm_equivalent"
_MAX_NUMBER = 1e6


def full_frame_width_mm(height: int, width: int) -> float:
    """Return the longer side in millimetres of the sensor that a "35 mm equivalent" focal length refers to.

    Sensors with the same diagonal are equivalent: the side is 36 mm for images of 3:2 and 34.6 mm for 4:3. For wider
        images 36 mm is returned, which is exact within 5 %. Source: CIPA DCG-001.

    height, width: size of the image in pixels.
    """
    longer, shorter = max(height, width), min(height, width)
    if longer / shorter >= _FULL_FRAME_MM[0] / _FULL_FRAME_MM[1]:
        return _FULL_FRAME_MM[0]
    return math.hypot(*_FULL_FRAME_MM) * longer / math.hypot(longer, shorter)


def read_lens(source: Path) -> tuple[float, float] | None:
    """Return focal length and sensor width in millimetres from the metadata of a photo or video; None if they are
    unknown.

    Source: EXIF 2.32, sections 4.6.5 and 4.6.6; QuickTime metadata of Apple.

    source: a photo, a folder of photos (the first is read), or a phone's video.

    Raises DataError for a damaged file.
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
    with open_photo(path) as photo:
        entries: dict[int, Any] = dict(photo.getexif().get_ifd(_EXIF_IFD))
        size = photo.size
    refuse_panorama(path)
    if focal_mm := _as_number(entries.get(_FOCAL_35MM)):
        return focal_mm, full_frame_width_mm(*size)
    focal_mm, per_unit = _as_number(entries.get(_FOCAL_MM)), _as_number(entries.get(_PER_UNIT))
    pixels = _as_number(entries.get(_PIXELS)) or max(size)
    unit_mm = _UNIT_MM.get(entries.get(_UNIT, 2))
    if not focal_mm or not per_unit or unit_mm is None:
        return None
    return focal_mm, pixels / per_unit * unit_mm


def refuse_panorama(path: Path) -> None:
    """Raise DataError if the XMP data of a photo state that it is a panorama, which has no focal length.

    path: the photo, a folder of photos (the first is read), or another file.
    """
    if path.is_dir():
        path = list_images(path)[0]
    if path.suffix.lower() in IMAGE_SUFFIXES and (kind := read_projection(path)):
        found, fix = (
            f"a panorama: its XMP states GPano:ProjectionType {kind}",
            f"use `stadia predict`, or {CUT_PANORAMA}",
        )
        raise DataError(path, found=found, expected="a picture of a pinhole camera", fix=fix)


def read_projection(path: Path) -> str:
    """Return the projection of a photo that is a panorama by its XMP data, such as EQUIRECTANGULAR; "" for others.

    Source: Google's Photo Sphere XMP metadata.

    path: the photo.
    """
    with open_photo(path) as photo:
        xmp = photo.info.get("xmp", b"")
    text = xmp.encode() if isinstance(xmp, str) else xmp
    if (match := _GPANO.search(text)) is None:
        return ""
    whole, part = _GPANO_WHOLE.search(text), _GPANO_PART.search(text)
    is_part = whole is not None and part is not None and whole[1] != part[1]
    return f"{match[1].decode().lower()}{', a part of it' * is_part}"


def describe_crop(source: Path) -> str | None:
    """Return a sentence that a photo was cropped, if its EXIF data state a different aspect ratio; otherwise None.

    source: a photo, or a folder whose first photo is examined.
    """
    source = list_images(source)[0] if source.is_dir() else source
    if source.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    with open_photo(source) as photo:
        entries: dict[int, Any] = dict(photo.getexif().get_ifd(_EXIF_IFD))
        size = photo.size
    filmed = _as_number(entries.get(_PIXELS)), _as_number(entries.get(_ROWS))
    if min(filmed) <= 0:
        return None
    if abs(max(size) / min(size) * min(filmed) / max(filmed) - 1) <= MAX_SHAPE_CHANGE:
        return None
    return (
        f"EXIF is of {filmed[0]:.0f}x{filmed[1]:.0f} pixels, and {source.name} of {size[0]}x{size[1]}: it was cropped,"
        " so its field of view is smaller than the lens's, and lengths are too short"
    )


def _as_number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return number if 0 < number < _MAX_NUMBER else 0.0
