"""Images are decoded whole or refused by name, before their pixels take memory."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.io.image_files import ImageHeader, read_image_header
from stadia.io.image_io import ENDS, MAX_PIXELS, PNG_SIGNATURE, decode_image, read_image, write_image

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8), (9, 9), 3)


def _encode(suffix: str, shape: tuple[int, ...], dtype: str = "uint8") -> bytes:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    return cv2.imencode(suffix, values)[1].tobytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(*chunks: bytes) -> bytes:
    return PNG_SIGNATURE + b"".join(chunks) + ENDS["PNG"]


def _claim_png(width: int, height: int) -> bytes:
    """Return a whole PNG whose header claims a size and whose data are empty."""
    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    return _png(_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(b"")))


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
    suffix: str, shape: tuple[int, ...], dtype: str, bits: int, channels: int, tmp_path: Path
) -> None:
    data = _encode(suffix, shape, dtype)
    (tmp_path / "a").write_bytes(data)
    assert read_image_header(tmp_path / "a") == ImageHeader(7, 5, bits, channels)
    assert decode_image("a", data, cv2.IMREAD_UNCHANGED).shape == shape


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1), (0, 5)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if size[0]:
        monkeypatch.setattr(cv2, "imdecode", lambda *args: pytest.fail("decoded"))
    with refuses(DataError, where="a.png"):
        decode_image("a.png", _claim_png(*size), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_every_truncation_is_refused(suffix: str) -> None:
    data = _encode(suffix, (40, 60, 3))
    for length in (0, 1, 4, 20, len(data) // 2, len(data) - 1):
        with refuses(DataError, where="a"):
            decode_image("a", data[:length], cv2.IMREAD_COLOR)


def test_a_name_that_is_not_utf8_is_written_and_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    write_image(path, values)
    np.testing.assert_array_equal(read_image(path, cv2.IMREAD_UNCHANGED), values)


# -- Images: what the header check reads must be what the decoder reads.


def test_a_png_of_two_headers_is_refused() -> None:
    def header(side: int) -> bytes:
        return _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))

    data = _chunk(b"IDAT", zlib.compress(bytes(5 * 4)))
    assert decode_image("a", _png(header(4), data), cv2.IMREAD_UNCHANGED).shape == (4, 4)
    for chunks in ((header(4), header(30_000), data), (_chunk(b"tEXt", b"a\0b"), header(4), data), (data,)):
        with refuses(DataError, where="a"):
            decode_image("a", _png(*chunks), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("unlike", [b"\xff\x01", b"\xff\x00", b"\xff\xd0"])
def test_no_jpeg_hides_its_frame_header(unlike: bytes) -> None:
    """Libjpeg reads these markers without a length, or skips them: what follows is its header, and must be ours."""
    data = bytes(cv2.imencode(".jpg", IMAGE)[1].tobytes())
    at = data.index(b"\xff\xc0")
    decoy, large = data[at : at + 19], struct.pack(">HH", 60_000, 60_000)
    padding = bytearray(65533)  # of the segment that libjpeg skips, and in which a reader of a length would land
    padding[0xFFE2 - 4 : 0xFFE2 - 4 + len(decoy)] = decoy
    real = data[2:].replace(struct.pack(">HH", 48, 64), large, 1)
    hidden = data[:2] + unlike + b"\xff\xe2\xff\xff" + bytes(padding) + real
    with refuses(DataError, where="a"):
        decode_image("a", hidden, cv2.IMREAD_COLOR)


def test_a_png_of_many_compressed_texts_is_refused() -> None:
    """Libpng unpacks each to 8 MB: a thousand of them, an image of 8 MB, took 48 s."""
    data = bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    text = _chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(8_000_000)))
    with refuses(DataError, where="a"):
        decode_image("a", data[:33] + text * 100 + data[33:], cv2.IMREAD_COLOR)


def test_a_jpeg_of_many_scans_is_refused() -> None:
    """Libjpeg decodes each over all pixels."""
    data = bytes(cv2.imencode(".jpg", IMAGE, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1].tobytes())
    assert decode_image("a", data, cv2.IMREAD_COLOR).shape == IMAGE.shape
    last = data[data.rindex(b"\xff\xda") : -2]
    with refuses(DataError, where="a", found="scans"):
        decode_image("a", data[:-2] + last * 300 + data[-2:], cv2.IMREAD_COLOR)


def test_an_animated_png_is_refused() -> None:
    """OpenCV keeps several copies of its canvas: 8192x8192 of 16 bits took more than 2 GB."""
    data = bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
    frame = struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 100, 0, 0)
    chunks = _chunk(b"acTL", struct.pack(">II", 1, 0)) + _chunk(b"fcTL", frame)
    animated = data[:33] + chunks + data[33:]
    assert cv2.imdecode(np.frombuffer(animated, np.uint8), cv2.IMREAD_COLOR).shape == IMAGE.shape
    with refuses(DataError, where="a", found="PNG", fix="ImageSequence"):
        decode_image("a", animated, cv2.IMREAD_COLOR)


@pytest.mark.parametrize("format", ["WEBP", "GIF", "TIFF"])
def test_animated_pictures_are_refused_as_photos(format: str) -> None:
    stream = io.BytesIO()
    frames = [Image.fromarray(np.full((48, 64, 3), shade, np.uint8)) for shade in (10, 90, 200)]
    frames[0].save(stream, format, save_all=True, append_images=frames[1:])
    with refuses(DataError, where="a", found="3 frames", fix="ImageSequence"):
        decode_image("a", stream.getvalue(), cv2.IMREAD_COLOR)


def test_a_color_picture_of_floats_names_its_type() -> None:
    data = bytes(cv2.imencode(".tiff", IMAGE.astype(np.float32) / 255)[1].tobytes())
    with refuses(DataError, where="a", found="float32", fix="cv2.imwrite"):
        decode_image("a", data, cv2.IMREAD_COLOR)
