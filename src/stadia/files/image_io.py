"""Decode and encode PNG and JPEG: whole files of a bounded number of pixels, and names of any bytes."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, summarize_exception
from stadia.files.atomic_files import open_atomic
from stadia.files.input_files import read_bytes

MAX_IMAGE_BYTES = 256 << 20
MAX_PIXELS = 1 << 26
"""67 million pixels, 8192x8192: 16 bits of four channels are then half a gigabyte."""

PNG_SIGNATURE, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
JPEG_SIGNATURE, JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not a stuffed zero, a restart marker, or a fill byte
_MAX_PARTS = 1_000_000  # chunks of a PNG, segments of a JPEG: 256 MB of empty ones take a minute
_MAX_PACKED = 32  # compressed texts and profiles of a PNG: libpng unpacks a thousand, 8 MB each, in 48 s
_PACKED_CHUNKS = (b"zTXt", b"iTXt", b"iCCP")
_MAX_SCANS = 200  # of a progressive JPEG: each costs a pass over the image, and encoders write about ten
_JPEG_NO_FRAME = (0xC4, 0xC8, 0xCC)  # tables and extensions among the frame headers 0xC0 to 0xCF
_FIX = "copy or extract it again, or remove its frame"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size in pixels, bits of a channel, and number of stored channels (1 for a palette), of a PNG or JPEG."""

    width: int
    height: int
    bits: int
    channels: int


def check_pixel_count(path: object, width: int, height: int) -> None:
    """Raise DataError for an image or video of more than MAX_PIXELS pixels, before it is decoded."""
    if width * height > MAX_PIXELS:
        expected = f"at most {MAX_PIXELS} pixels"
        raise DataError(path, found=f"{width}x{height} pixels", expected=expected, fix="pass a smaller image or video")


def read_image(
    path: Path, flags: int, *, expected: str = "a whole image", fix: str = _FIX, max_bytes: int = MAX_IMAGE_BYTES
) -> NDArray[Any]:
    """Read and decode a file; as `decode_image`."""
    data = read_bytes(path, expected=expected, max_bytes=max_bytes, fix=fix)
    return decode_image(path, data, flags, expected=expected, fix=fix)


def decode_image(
    path: object, data: bytes, flags: int, *, expected: str = "a whole image", fix: str = _FIX
) -> NDArray[Any]:
    """Decode the bytes of a PNG or JPEG as cv2.imdecode does with `flags`.

    Raises DataError where it is neither, truncated or damaged, or has more than MAX_PIXELS pixels.
    """
    fault = find_image_fault(data)
    if fault is None:
        header = parse_image_header(data)
        if header is None:
            fault = "a file that cannot be decoded (an image without a size)"
        else:
            check_pixel_count(path, header.width, header.height)
    image = None
    if fault is None:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except (cv2.error, MemoryError) as error:
            fault = f"a file that cannot be decoded ({summarize_exception(error)})"
    if image is None:
        raise DataError(path, found=fault or "a file that cannot be decoded", expected=expected, fix=fix)
    return image


def find_image_fault(data: bytes) -> str | None:
    """Return what is wrong with the chunks of a PNG or the segments of a JPEG; None for a whole file."""
    if data.startswith(PNG_SIGNATURE):
        return _find_png_fault(data)
    if data.startswith(JPEG_SIGNATURE):
        return _find_jpeg_fault(data)
    return "neither PNG nor JPEG" if data else "an empty file"


def _find_png_fault(data: bytes) -> str | None:
    """Return what is wrong with a PNG's chunks (length, checksum, header, end), or None."""
    at, count, packed = len(PNG_SIGNATURE), 0, 0
    while at + 12 <= len(data):
        count += 1
        if count > _MAX_PARTS:
            return f"more than {_MAX_PARTS} chunks"
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != checksum:
            return f"a damaged chunk at byte {at}"
        kind = data[at + 4 : at + 8]
        if (kind == b"IHDR") != (count == 1) or (count == 1 and length != 13):
            return "a header that is not the first chunk"  # a second one may claim another size
        if kind == b"acTL":
            return "an animated PNG"  # OpenCV joins its frames in up to five copies of the image
        packed += kind in _PACKED_CHUNKS
        if packed > _MAX_PACKED:
            return f"more than {_MAX_PACKED} compressed texts"
        if kind == b"IEND":
            return None
        at = end
    return f"a file cut off after {len(data)} bytes"


def _find_jpeg_fault(data: bytes) -> str | None:
    """Return what is wrong with a JPEG's segments, or None. It must reach its own end marker, not a thumbnail's."""
    scans = 0
    for count, (marker, _) in enumerate(_list_jpeg_segments(data)):
        if marker == 0xD9:
            return None
        scans += marker == 0xDA
        if scans > _MAX_SCANS or count > _MAX_PARTS:
            return f"more than {_MAX_SCANS} scans or {_MAX_PARTS} segments"
    return f"a file cut off after {len(data)} bytes"


def _list_jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and start of each segment up to the end marker, as libjpeg reads them.

    It stops before what libjpeg would read in another way: that may be a header that claims another size.
    """
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF and data[at + 1] != 0:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # without a length
            at += 2
            continue
        yield marker, at
        if marker == 0xD9:
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            return
        at += 2 + length
        if marker == 0xDA:  # start of scan: entropy-coded data up to the next marker
            found = _JPEG_MARKER_IN_SCAN.search(data, at)
            at = found.start() if found else len(data)


def parse_image_header(data: bytes) -> ImageHeader | None:
    """Return size, bits and channels of a PNG or JPEG from its header; None for another file.

    Examples:
        >>> parse_image_header(b"not an image") is None
        True
    """
    if data.startswith(PNG_SIGNATURE) and len(data) >= 26 and data[12:16] == b"IHDR":
        width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
        return ImageHeader(width, height, bits, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 0))
    for marker, at in islice(_list_jpeg_segments(data), _MAX_PARTS) if data.startswith(JPEG_SIGNATURE) else ():
        if 0xC0 <= marker <= 0xCF and marker not in _JPEG_NO_FRAME and at + 10 <= len(data):
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            return ImageHeader(width, height, bits, channels)
    return None


def write_image(path: str | Path, image: NDArray[Any], params: tuple[int, ...] = ()) -> None:
    """Write (H, W) or (H, W, C) in cv2's order (BGR) atomically, in the format of the suffix.

    cv2 encodes to memory, because cv2.imwrite ends the process at a name that is not UTF-8.
    """
    suffix = "." + str(path).rpartition(".")[2].lower()
    is_encoded, data = cv2.imencode(suffix, np.ascontiguousarray(image), params)
    if not is_encoded:
        raise OSError(f"{path} could not be encoded")
    with open_atomic(path) as stream:
        stream.write(data)  # type: ignore[call-overload]
