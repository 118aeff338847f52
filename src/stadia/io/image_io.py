"""Read and write images: PNG, JPEG, pictures that Pillow reads, and maps with one channel.

The bytes of a file determine its format, not its name. Sizes are checked before pixels are decoded.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from stadia.core.errors import DataError, summarize_exception
from stadia.io.atomic_files import open_atomic
from stadia.io.input_files import PARSER_ERRORS, check_input_file, name_parser_errors, read_bytes

MAX_IMAGE_BYTES = 256 << 20
MAX_PIXELS = 1 << 26
"""Largest number of pixels, 8192x8192. With 16 bits and four channels, such an image takes half a gigabyte."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ENDS = {"PNG": b"\0\0\0\0IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
"""Last bytes of an image, by format."""

_JPEG_SCAN, _MAX_SCANS = b"\xff\xda", 200  # start and largest number of a progressive JPEG's scans; usual are about ten
_FIX = "copy or extract it again, or remove its frame"


MAX_ASPECT = 1000
"""Longer side over shorter side of a picture; a strip would vanish when it is made smaller."""


def check_pixel_count(path: object, width: int, height: int) -> None:
    """Raise DataError if an image or video has more than MAX_PIXELS pixels, or one side beyond MAX_ASPECT times the
    other.
    """
    if max(width, height) > MAX_ASPECT * min(width, height):
        expected = f"a side of at most {MAX_ASPECT} times the other"
        raise DataError(path, found=f"{width}x{height} pixels", expected=expected, fix="check that it is a picture")
    if width * height > MAX_PIXELS:
        expected = f"at most {MAX_PIXELS} pixels"
        raise DataError(path, found=f"{width}x{height} pixels", expected=expected, fix="pass a smaller image or video")


def read_image(
    path: Path, flags: int, *, expected: str = "a complete image", fix: str = _FIX, max_bytes: int = MAX_IMAGE_BYTES
) -> NDArray[Any]:
    """Read and decode an image file to (H, W) or (H, W, C), as `decode_image` does."""
    data = read_bytes(path, expected=expected, max_bytes=max_bytes, fix=fix)
    return decode_image(path, data, flags, expected=expected, fix=fix)


def decode_image(
    path: object, data: bytes, flags: int, *, expected: str = "a complete image", fix: str = _FIX
) -> NDArray[Any]:
    """Decode a PNG or JPEG to (H, W) or (H, W, C) as cv2.imdecode does.

    With cv2.IMREAD_COLOR it also decodes WebP, AVIF, HEIC, TIFF, BMP and GIF.

    path: name of the file, for messages.
    flags: flags of cv2.imdecode.

    Raises DataError for damaged data, for animated pictures, and for more than MAX_PIXELS pixels.
    """
    format = find_image_format(data)
    if flags == cv2.IMREAD_COLOR and format and format not in ENDS:
        return _decode_picture(path, data, format, fix)
    if fault := _find_fault(path, data, format):
        raise DataError(path, found=fault, expected=expected, fix=fix)
    return _decode_checked(path, data, flags, expected, fix)


def _find_fault(path: object, data: bytes, format: str) -> str:
    """Return a text about the damage of a PNG or JPEG, or "". Raises DataError for more than MAX_PIXELS pixels."""
    if format not in ENDS:
        return f"{describe_bytes(data)}neither PNG nor JPEG" if data else "an empty file"
    cut_off = f"a file cut off after {len(data)} bytes"
    try:
        with open_picture(path, io.BytesIO(data), format) as picture:
            start = picture.fp.tell()  # place where the compressed pixels start
            if data.find(ENDS[format], start) < 0:
                return cut_off
            if format == "JPEG":
                return f"more than {_MAX_SCANS} scans" if data.count(_JPEG_SCAN, start) > _MAX_SCANS else ""
            if picture.size != struct.unpack_from(">II", data, 16):  # OpenCV reads the first header, Pillow the last
                return "a header that is not the first chunk"
            if b"acTL" in data[:start]:
                _refuse_moving(path, "an animated PNG")  # OpenCV joins its frames in up to five copies of the image
            picture.verify()
    except (*PARSER_ERRORS, OSError):
        return f"a damaged {format}" if ENDS[format] in data else cut_off
    return ""


def _decode_checked(path: object, data: bytes, flags: int, expected: str, fix: str) -> NDArray[Any]:
    reason = ""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is not None:
            return image
    except (cv2.error, MemoryError) as error:
        reason = f" ({summarize_exception(error)})"
    raise DataError(path, found=f"a file that cannot be decoded{reason}", expected=expected, fix=fix)


HEIC = "HEIC"
PICTURE_SUFFIXES = (".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm")
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", **dict.fromkeys((b"heic", b"heix", b"mif1", b"msf1", b"hevc"), HEIC)}
_SIGNATURES = (
    (PNG_SIGNATURE, "PNG"), (b"\xff\xd8", "JPEG"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"BM", "BMP"), (b"GIF8", "GIF"),
    (b"P5", "PPM"), (b"P6", "PPM"),
)  # fmt: skip
_OTHER_FILES = (
    (b"%PDF", "a PDF"), (b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "a gzip archive"), (b"<", "HTML or XML"),
    (b"version https://git-lfs", "a pointer of Git LFS"), (b"\x1a\x45\xdf\xa3", "a Matroska video"),
    (b"8BPS", "a Photoshop file"), (b"\xff\x0a", "a JPEG XL"), (b"\0\0\0\x0cJXL", "a JPEG XL"),
    (b"v/1\x01", "an EXR"),
)  # fmt: skip
"""First bytes and names of other kinds of files, for messages."""


SIGNATURE_BYTES = 12
"""This many first bytes determine the format of an image."""


def find_image_format(data: bytes) -> str:
    """Return Pillow's name for the format of an image according to its first bytes, or "".

    Examples:
        >>> find_image_format(b"RIFF....WEBPVP8 ")
        'WEBP'
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "")
    return next((name for start, name in _SIGNATURES if data.startswith(start)), "")


def describe_bytes(data: bytes) -> str:
    """Return the kind of a file according to its first bytes, for messages, or "".

    Examples:
        >>> describe_bytes(b"%PDF-1.4")
        'a PDF, '
    """
    known = "an MP4 or MOV video" if data[4:8] == b"ftyp" else ""
    known = f"a {format} picture" if (format := find_image_format(data)) else known
    known = known or next((name for start, name in _OTHER_FILES if data.startswith(start)), "")
    return f"{known}, " if known else ""


@contextmanager
def open_picture(path: object, stream: IO[bytes], format: str) -> Iterator[Any]:
    """Open an image with Pillow in the format that its bytes have, without decoding it.

    Raises DataError for more than MAX_PIXELS pixels, and without the package for HEIC.
    """
    if format in _READERS:
        picture = _READERS[format](stream)
    else:
        if format == HEIC:
            _register_heif(path)
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            picture = Image.open(stream, formats=["HEIF" if format == HEIC else format])
    with picture:
        check_pixel_count(path, *picture.size)
        yield picture


_READERS = {"PNG": PngImageFile, "JPEG": JpegImageFile}


def _register_heif(path: object) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        fix = "pip install 'stadia[heic]', or save it as JPEG: on a phone, share it as Most Compatible"
        raise DataError(path, found="a HEIC picture", expected="the package pillow-heif", fix=fix) from error
    pillow_heif.register_heif_opener()


def _refuse_moving(path: object, found: str) -> NoReturn:
    fix = WRITE_FRAMES.format(path)
    raise DataError(path, found=found, expected="a photo; a clip as a folder of its frames", fix=fix)


def _decode_picture(path: object, data: bytes, format: str, fix: str) -> NDArray[np.uint8]:
    """Return (H, W, 3) BGR, upright. Raises DataError for damage, and for maps that are not pictures."""
    expected = "a complete picture of 8 bits"
    try:
        with open_picture(path, io.BytesIO(data), format) as picture:
            if picture.mode.startswith(("I", "F")):
                found = f"a {format} of mode {picture.mode}, which looks like depth"
                fix = f"move depth to another folder; of a photo, {WRITE_8_BITS.format(path)}"
                raise DataError(path, found=found, expected=expected, fix=fix)
            if format in MOVING and (count := getattr(picture, "n_frames", 1)) > 1:
                _refuse_moving(path, f"an animated {format} of {count} frames")
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            return np.ascontiguousarray(np.asarray(upright)[..., ::-1])
    except DataError:
        raise
    except (*PARSER_ERRORS, OSError, Image.DecompressionBombError) as error:
        if format == "TIFF" and (depth := _find_tiff_type(data)) not in ("", "uint8"):
            found, fix = f"a TIFF picture of {depth}", WRITE_8_BITS.format(path)
            raise DataError(path, found=found, expected=expected, fix=fix) from error
        found = f"a {format} picture that cannot be decoded ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=expected, fix=fix) from error


MOVING = ("WEBP", "GIF", "AVIF", "TIFF")  # with several frames
WRITE_FRAMES = (
    "write its frames: python -c 'from PIL import Image, ImageSequence;"
    ' [f.convert("RGB").save(f"{{k:06d}}.png") for k, f in enumerate(ImageSequence.Iterator(Image.open("{}")))]\''
)
WRITE_8_BITS = (
    'write 8 bits: python -c \'import cv2; x = cv2.imread("{}", -1);'
    ' cv2.imwrite("photo.png", cv2.normalize(x, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U))\';'
    " linear light needs x ** (1 / 2.2) first"
)


def _find_tiff_type(data: bytes) -> str:
    """Return the type of a TIFF's values, such as "float32", or "" if OpenCV cannot decode it either."""
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return ""
    return "" if stored is None else str(stored.dtype)


def write_image(path: str | Path, image: NDArray[Any], params: tuple[int, ...] = ()) -> None:
    """Write an image (H, W) or (H, W, C) in BGR order atomically. cv2.imwrite would end the process at some names."""
    suffix = "." + str(path).rpartition(".")[2].lower()
    is_encoded, data = cv2.imencode(suffix, np.ascontiguousarray(image), params)
    if not is_encoded:
        raise OSError(f"{path} could not be encoded")
    with open_atomic(path) as stream:
        stream.write(data)  # type: ignore[call-overload]


# -- maps of one channel

FLOAT_SUFFIXES = (".exr", ".pfm", ".tiff", ".tif", ".pgm", ".bin")
EXR_CHANNELS = ("Z", "Depth.Z", "Depth.V", "V", "Y", "depth", "R")
"""Names of depth channels in EXR files of renderers, Blender and gray images. R counts if R, G and B are equal."""

MAP_EXPECTED = "a map of one channel"
_COLMAP_HEADER = re.compile(rb"(\d{1,6})&(\d{1,6})&1&")
_PFM_HEADER = re.compile(rb"(P[fF])\s+(\d{1,6})\s+(\d{1,6})\s+([-+.\deE]+)\s")


def read_float_image(path: Path) -> NDArray[Any]:
    """Return the (H, W) values of a .tiff, .tif, .pgm, .pfm or .exr file, or of a dense map of COLMAP (.bin). Raises
    DataError for several channels.

    The size of a PFM's scale is left out, because Middlebury and others write it for display (-0.003922 is 1 / 255).
    """
    if path.suffix.lower() == ".exr":
        return _read_exr(path)
    data = read_bytes(path, expected=MAP_EXPECTED, max_bytes=MAX_IMAGE_BYTES)
    with name_parser_errors(path, expected=MAP_EXPECTED):
        if path.suffix.lower() == ".bin":
            return _read_colmap_map(path, data)
        if path.suffix.lower() == ".pfm":
            header = _PFM_HEADER.match(data)
            if header is None:
                raise ValueError("no PFM header")
            size, pages = (int(header[2]), int(header[3])), 1
            byte_order = b"-1" if float(header[4]) < 0 else b"1"  # OpenCV divides by the scale
            data = data[: header.start(4)] + byte_order + data[header.end(4) :]
        else:
            size, pages = _read_picture_header(data)
    check_pixel_count(path, *size)
    if pages != 1:
        raise DataError(path, found=f"{pages} pages", expected="one page", fix="write one file per image")
    stored = _decode_checked(path, data, cv2.IMREAD_UNCHANGED, MAP_EXPECTED, "write or copy it again")
    return _take_channel(path, np.asarray(stored))


def read_pfm_scale(path: Path) -> float:
    """Return the size of the scale in the header of a .pfm file, which `read_float_image` leaves out. Raises DataError
    without such a header.
    """
    header = _PFM_HEADER.match(read_bytes(path, expected=MAP_EXPECTED, max_bytes=MAX_IMAGE_BYTES))
    with name_parser_errors(path, expected=MAP_EXPECTED):
        if header is None:
            raise ValueError("no PFM header")
        return abs(float(header[4]))


def _read_colmap_map(path: Path, data: bytes) -> NDArray[np.float32]:
    """Return a depth map (H, W) of COLMAP's patch_match_stereo: width&height&channels& and float32, row by row."""
    header = _COLMAP_HEADER.match(data)
    if header is None:
        raise ValueError("no header of COLMAP's dense maps")
    check_pixel_count(path, int(header[1]), int(header[2]))
    return np.frombuffer(data, "<f4", offset=header.end()).reshape(int(header[2]), int(header[1]))


def _read_picture_header(data: bytes) -> tuple[tuple[int, int], int]:
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF", "PPM"]) as image:
            return image.size, int(getattr(image, "n_frames", 1))
    except OSError as error:
        raise ValueError(summarize_exception(error)) from error


def _take_channel(path: Path, stored: NDArray[Any]) -> NDArray[Any]:
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
        raise DataError(path, found="an .exr file", expected="the package OpenEXR", fix=fix) from error
    check_input_file(path, expected=MAP_EXPECTED, max_bytes=MAX_IMAGE_BYTES)
    with name_parser_errors(path, expected=MAP_EXPECTED):
        low, high = OpenEXR.File(str(path), header_only=True).header()["dataWindow"]
        width, height = (int(b) - int(a) + 1 for a, b in zip(low, high, strict=True))
        check_pixel_count(path, max(width, 1), max(height, 1))
        with OpenEXR.File(str(path), separate_channels=True) as opened:
            channels = {name: np.array(channel.pixels) for name, channel in opened.channels().items()}
    name = next((name for name in EXR_CHANNELS if name in channels), "")
    name = next(iter(channels)) if len(channels) == 1 else name
    colors = [channels[color] for color in "RGB" if color in channels]
    if not name or (name == "R" and not all(np.array_equal(colors[0], color) for color in colors[1:])):
        fix = f"store depth as channel {EXR_CHANNELS[0]}"
        raise DataError(path, found=f"channels {', '.join(channels)}", expected="one depth channel", fix=fix)
    return np.asarray(channels[name])


# -- sheets of images

_BAR, _GAP = 20, 4  # pixels of the label's bar and of the gap between tiles
_BACKGROUND, _INK = 24, (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_SHAPE = 1.5  # desired width over height of a sheet


def compose_image_sheet(images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay labeled (H, W, 3) uint8 RGB images out on one sheet, row by row, enlarged to one size.

    Examples:
        >>> compose_image_sheet({"input": np.zeros((32, 64, 3), np.uint8)}).dtype
        dtype('uint8')
    """
    if not images:
        raise ValueError("a sheet needs an image")
    height = max(image.shape[0] for image in images.values())
    width = max(image.shape[1] for image in images.values())
    factor = -(-max(map(_label_width, images)) // width)
    height, width = factor * height, factor * width
    tile_height, tile_width = height + _BAR + _GAP, width + _GAP
    columns = min(
        range(1, len(images) + 1),
        key=lambda n: abs(np.log(n * tile_width / (-(-len(images) // n) * tile_height) / _SHAPE)),
    )
    rows = -(-len(images) // columns)
    sheet = np.full((rows * tile_height + _GAP, columns * tile_width + _GAP, 3), _BACKGROUND, np.uint8)
    for number, (label, image) in enumerate(images.items()):
        top, left = (number // columns) * tile_height + _GAP, (number % columns) * tile_width + _GAP
        cv2.putText(sheet, label, (left + 2, top + _BAR - 6), *_FONT, _INK, 1, cv2.LINE_AA)
        fitted = _enlarge(image, height, width)
        sheet[top + _BAR : top + _BAR + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def _label_width(label: str) -> int:
    return int(cv2.getTextSize(label, *_FONT, 1)[0][0]) + 4


def _enlarge(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is (H, W, 3) uint8, found {image.shape} {image.dtype}")
    factor = min(height / image.shape[0], width / image.shape[1])
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)
