"""Images are decoded whole or refused by name, before their pixels take memory."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.files.image_io import (
    MAX_PIXELS,
    PNG_END,
    PNG_SIGNATURE,
    ImageHeader,
    decode_image,
    parse_image_header,
    read_image,
    write_image,
)


def _encode(suffix: str, shape: tuple[int, ...], dtype: str = "uint8") -> bytes:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    return cv2.imencode(suffix, values)[1].tobytes()


def _claim_png(width: int, height: int) -> bytes:
    """Return a whole PNG whose header claims a size and whose data are empty."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data))
    return PNG_SIGNATURE + chunks + PNG_END


@pytest.mark.parametrize(
    ("suffix", "shape", "dtype", "bits", "channels"),
    [
        (".png", (5, 7), "uint8", 8, 1),
        (".png", (5, 7, 3), "uint8", 8, 3),
        (".png", (5, 7, 4), "uint16", 16, 4),
        (".png", (5, 7), "uint16", 16, 1),
        (".jpg", (5, 7, 3), "uint8", 8, 3),
        (".jpg", (5, 7), "uint8", 8, 1),
    ],
)
def test_the_header_is_that_of_the_decoded_image(
    suffix: str, shape: tuple[int, ...], dtype: str, bits: int, channels: int
) -> None:
    data = _encode(suffix, shape, dtype)
    assert parse_image_header(data) == ImageHeader(7, 5, bits, channels)
    assert decode_image("a", data, cv2.IMREAD_UNCHANGED).shape == shape


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1), (0, 5)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if size[0]:
        monkeypatch.setattr(cv2, "imdecode", lambda *args: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"pixels|cannot be decoded"):
        decode_image("a.png", _claim_png(*size), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_every_truncation_is_refused(suffix: str) -> None:
    data = _encode(suffix, (40, 60, 3))
    for length in (0, 1, 4, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(DataError, match=r"^a: found "):
            decode_image("a", data[:length], cv2.IMREAD_COLOR)


def test_a_name_that_is_not_utf8_is_written_and_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    write_image(path, values)
    np.testing.assert_array_equal(read_image(path, cv2.IMREAD_UNCHANGED), values)
