"""List, read, check and hash files of images and depth maps."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording
from stadia.io import image_io
from stadia.io.array_files import MAX_ARRAY_BYTES
from stadia.io.input_files import check_input_file, name_parser_errors, natural_sort_key, open_input, read_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", *image_io.PICTURE_SUFFIXES)
HASH_DIGITS = 12
_HASHED_BYTES = 4096
_COPY = "copy or extract it again, or remove its frame"
READ_THREADS = 16  # disks serve many small reads in parallel


def list_images(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the image files of a folder in natural order (frame2 before frame10).

    folder: the folder.
    pattern: pattern of the file names.

    Raises DataError if there are none, or if two differ only in their suffix.
    """
    listed = (p for p in folder.glob(pattern) if not p.name.startswith("."))
    files = [p for p in listed if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not files:
        state = "no image"
        if not folder.is_dir() or not any(folder.iterdir()):
            state = "an empty folder" if folder.is_dir() else "no such folder"
        expected = f"images ({', '.join(IMAGE_SUFFIXES)})"
        raise DataError(folder, found=state, expected=expected, fix="check the path or the download")
    _check_stems(folder, files)
    return sorted(files, key=natural_sort_key)


def _check_stems(folder: Path, files: Sequence[Path]) -> None:
    by_stem: dict[str, list[Path]] = {}
    for file in files:
        by_stem.setdefault(file.stem, []).append(file)
    if len(by_stem) == len(files):
        return
    repeated = {stem: [file.name for file in sorted(same)] for stem, same in by_stem.items() if len(same) > 1}
    suffixes = sorted({file.suffix for stem in repeated for file in by_stem[stem]})
    kept = next((suffix for suffix in suffixes if suffix.lower() == ".png"), suffixes[0])
    moved = " and ".join(suffix for suffix in suffixes if suffix != kept)
    fix = f"keep {kept}, and move the {moved} files to another folder"
    found = f"{' and '.join(next(iter(repeated.values())))} ({len(repeated)} of {len(by_stem)} frames like this)"
    raise DataError(folder, found=found, expected="one file for each frame", fix=fix)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size in pixels, bits per channel, and number of stored channels of an image."""

    width: int
    height: int
    bits: int
    channels: int


def read_image_header(path: Path) -> ImageHeader | None:
    """Return size, bits and channels of an image, or None for a damaged file.

    Raises DataError for an unreadable file.
    """
    count_image_bytes(path)
    try:
        with open_photo(path) as photo:
            # The mode may still have 8 bits.
            is_deep_png = isinstance(photo, PngImageFile) and ";16" in str(photo.tile[0].args)
            is_deep = is_deep_png or photo.mode.startswith("I;16")
            bits = 16 if is_deep else 32 if photo.mode in ("I", "F") else 8
            return ImageHeader(*photo.size, bits, len(photo.getbands()))
    except DataError:
        return None


_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF 2.32, section 4.6.4


@contextmanager
def open_photo(path: Path) -> Iterator[Image.Image]:
    """Open an image with Pillow to read its size and metadata, without decoding it.

    Raises DataError if the file is not an image.
    """
    with (
        name_parser_errors(path, expected="a complete image"),
        open_input(path, expected="a complete image", max_bytes=image_io.MAX_IMAGE_BYTES, fix=_COPY) as stream,
    ):
        if not (format := image_io.find_image_format(stream.read(image_io.SIGNATURE_BYTES))):
            raise DataError(path, found="no image", expected="a complete image", fix=_COPY)
        stream.seek(0)
        try:
            with image_io.open_picture(path, stream, format) as photo:
                yield photo
        except Image.DecompressionBombError as error:
            expected, fix = f"at most {image_io.MAX_PIXELS} pixels", "pass a smaller image"
            raise DataError(path, found="an image with more pixels", expected=expected, fix=fix) from error


def read_upright_size(path: Path) -> tuple[int, int]:
    """Return the (height, width) of an image after its EXIF orientation is applied, without decoding it."""
    with open_photo(path) as image:
        width, height = image.size
        is_turned = image.format in ("JPEG", "WEBP", "AVIF") and image.getexif().get(_ORIENTATION) in _TURNED
    return (width, height) if is_turned else (height, width)


KIND_SAMPLES = 64  # images of a folder whose headers are read


def check_one_kind(images: Sequence[Path]) -> None:
    """Raise DataError if the images of a folder are a mixture of color images and 16-bit depth maps."""
    head = list(images[: KIND_SAMPLES // 2])
    kinds: dict[tuple[int, int], Path] = {}
    for image in dict.fromkeys([*head, *images[:: max(len(images) // (KIND_SAMPLES // 2), 1)]]):
        if (header := read_image_header(image)) is not None:
            kinds.setdefault((header.bits, header.channels), image)
    deep = next((file for kind, file in kinds.items() if kind == (16, 1)), None)
    color = next((file for (bits, _), file in kinds.items() if bits == 8), None)
    if deep is not None and color is not None:
        found = f"{color.name} of 8 bits and {deep.name} of 16 bits and one channel, which looks like depth"
        fix = f"move files like {deep.name} to another folder"
        raise DataError(images[0].parent, found=found, expected="images of one kind", fix=fix)


def parse_frame_number(image: Path) -> int:
    """Return the video frame number that is the name of an image file (000012.png gives 12).

    Raises DataError if the name is not a number.
    """
    if not image.stem.isdecimal():
        found = f"the name '{image.stem}'"
        raise DataError(image, found=found, expected="a frame number (000000.png)", fix="rename the file")
    return int(image.stem)


def count_image_bytes(path: Path) -> int:
    """Return the size of an image file in bytes. Raises DataError if it is missing or too large."""
    return check_input_file(path, expected="an image", max_bytes=image_io.MAX_IMAGE_BYTES, fix=_COPY)


def _jpeg_ends_early(data: bytes, image: NDArray[np.uint8]) -> bool:
    """Return whether libjpeg filled missing data with gray; a strict decoder decides if the last row is flat."""
    if np.ptp(image[-1].reshape(-1, image.shape[-1]), axis=0).any():
        return False
    strict = av.CodecContext.create("mjpeg", "r")
    strict.options = {"err_detect": "explode"}
    try:
        strict.decode(av.Packet(data))
    except av.error.InvalidDataError:
        return True
    return False


def _decode(path: Path, flags: int) -> tuple[bytes, NDArray]:
    data = read_bytes(path, expected="a complete image", max_bytes=image_io.MAX_IMAGE_BYTES, fix=_COPY)
    return data, image_io.decode_image(path, data, flags, fix=_COPY)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, with the EXIF orientation applied.

    Raises DataError for a damaged file.
    """
    return _read_reduced(path, 1)


def read_rgb_near(path: Path, min_side_px: int) -> tuple[NDArray[np.uint8], int]:
    """Read an image as `read_rgb` does, but decode only every second, fourth or eighth pixel of a large JPEG.

    The pixel at x in the result is at factor (x + 0.5) - 0.5 in the file. Transparent pixels of a PNG are black.

    path: the file.
    min_side_px: the longer side of the result has at least this many pixels, if the file has as many.

    Returns the image, and the factor by which its pixels are larger: 1, 2, 4 or 8.

    Raises DataError for a damaged file.
    """
    with open_photo(path) as photo:
        side_px, is_jpeg = max(photo.size), photo.format == "JPEG"
        has_alpha = photo.format == "PNG" and photo.mode in ("RGBA", "LA")
    if has_alpha:
        stored = _decode(path, cv2.IMREAD_UNCHANGED)[1]
        if stored.ndim == 3 and stored.shape[2] == 4:
            is_clear = stored[..., 3] < np.iinfo(stored.dtype).max / 2
            image = read_rgb(path)
            image[is_clear] = 0
            return image, 1
    factor = max(one for one in _REDUCED if one == 1 or (is_jpeg and side_px >= one * min_side_px))
    return _read_reduced(path, factor), factor


def _read_reduced(path: Path, factor: int) -> NDArray[np.uint8]:
    data, bgr = _decode(path, _REDUCED[factor])
    if image_io.find_image_format(data) == "JPEG" and _jpeg_ends_early(data, bgr):
        raise DataError(path, found="compressed data that end too early", expected="a complete image", fix=_COPY)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_rgba(path: Path) -> NDArray[np.uint8]:
    """Read a PNG as (H, W, 4) uint8: RGB and alpha (opacity), with colors that are not multiplied by alpha.

    Raises DataError if alpha is missing or the same everywhere.
    """
    data, stored = _decode(path, cv2.IMREAD_UNCHANGED)
    fix = "cut the object out: save a PNG with transparency around it"
    if stored.ndim != 3 or stored.shape[2] != 4:
        found = "a JPEG" if image_io.find_image_format(data) == "JPEG" else "no alpha channel"
        raise DataError(path, found=found, expected="a PNG with red, green, blue and alpha", fix=fix)
    if stored.dtype == np.uint16:
        stored = (stored >> 8).astype(np.uint8)
    if (stored[..., 3] == stored[0, 0, 3]).all():
        raise DataError(path, found=f"alpha {stored[0, 0, 3]} everywhere", expected="0 around the object", fix=fix)
    return np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA), np.uint8)


def check_image_ends(path: Path) -> None:
    """Raise DataError if an image file is missing, truncated or no image. Usually only its ends are read."""
    with open_input(path, expected="a complete image", max_bytes=image_io.MAX_IMAGE_BYTES, fix=_COPY) as stream:
        format = image_io.find_image_format(stream.read(image_io.SIGNATURE_BYTES))
        end = image_io.ENDS.get(format, b"")
        stream.seek(max(stream.seek(0, os.SEEK_END) - len(end), 0))
        if end and stream.read() == end:
            return
    read_rgb(path)


def read_depth_png(path: Path, *, units_per_metre: float, invalid: Iterable[int] = (0,)) -> NDArray[np.float32]:
    """Read a depth map (H, W) in metres from a one-channel uint16 PNG.

    path: the file.
    units_per_metre: integers per metre.
    invalid: integers that mean unknown depth; they become 0.

    Raises DataError for another kind of image.
    """
    data, stored = _decode(path, cv2.IMREAD_UNCHANGED)
    if image_io.find_image_format(data) == "JPEG":
        raise _make_depth_error(path)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        found, expected = f"{stored.dtype} of shape {stored.shape}", "a one-channel 16-bit PNG"
        raise DataError(path, found=found, expected=expected, fix="write depth as uint16")
    depth_m = stored.astype(np.float32) / np.float32(units_per_metre)
    depth_m[np.isin(stored, list(invalid))] = 0
    return depth_m


OTHER_DEPTH_SUFFIXES = (".tiff", ".tif", ".exr", ".pfm", ".npz")  # Recordings do not read these.


def refuse_jpeg_depth(path: Path) -> None:
    """Raise DataError if a depth PNG is missing, but a depth map exists there in a format that cannot be used."""
    for candidate in list_depth_images(path)[1:]:
        if candidate.exists():
            raise _make_depth_error(candidate)


def list_depth_images(path: Path) -> tuple[Path, ...]:
    """Return the path of a depth PNG, followed by the paths it would have in formats that cannot be used."""
    return path, *(path.with_suffix(suffix) for suffix in (".jpg", ".jpeg", *OTHER_DEPTH_SUFFIXES))


def _make_depth_error(path: Path) -> DataError:
    fix = "use the original files: a JPEG is lossy and has only 8 bits"
    found = "depth as a JPEG"
    if path.suffix in OTHER_DEPTH_SUFFIXES:
        found, fix = (
            f"depth as {path.suffix}",
            f"convert each file to metres in .npy: numpy.save('{path.stem}.npy', ...)",
        )
    return DataError(path, found=found, expected="a one-channel 16-bit PNG, or .npy in metres", fix=fix)


def read_raw_depth_png(path: Path) -> NDArray:
    """Read a PNG that encodes depth without converting it: (H, W) uint16, or (H, W, 3) uint8 BGR.

    Raises DataError for another kind of image.
    """
    data, stored = _decode(path, cv2.IMREAD_UNCHANGED)
    kind = stored.dtype.name, *stored.shape[2:]
    if kind not in (("uint16",), ("uint8", 3)) or not data.startswith(image_io.PNG_SIGNATURE):
        found, expected = f"{stored.dtype} of shape {stored.shape}", "one channel of 16 bits, or three of 8 bits"
        raise DataError(path, found=found, expected=expected, fix="copy the file again")
    return stored


def read_stored_labels(path: Path) -> NDArray[Any]:
    """Read the numbers (H, W) that an image has for each pixel; (H, W, C), BGR, if it has colors.

    They are the indices of a palette, as in DAVIS and VOC, or the only channel that is not zero, as CARLA's red.
    """
    data, stored = _decode(path, cv2.IMREAD_UNCHANGED)
    if data.startswith(image_io.PNG_SIGNATURE) and data[_PNG_COLOR_TYPE] == _PALETTE:
        with open_photo(path) as photo:
            return np.asarray(photo)
    used = [channel for channel in range(3) if stored[..., channel].any()] if stored.ndim == 3 else []
    return stored[..., used[0]] if len(used) == 1 else stored


_PNG_COLOR_TYPE, _PALETTE = 25, 3  # place in a PNG, and its value for a palette


def read_label_png(path: Path) -> NDArray[np.int32]:
    """Read the integers (H, W) of a PNG, such as class or object numbers, as `read_stored_labels` finds them.

    Raises DataError for JPEG, which blurs labels, and for colors.
    """
    stored = read_stored_labels(path)
    with open_input(path, expected="a PNG", max_bytes=image_io.MAX_IMAGE_BYTES) as stream:
        jpeg = image_io.find_image_format(stream.read(image_io.SIGNATURE_BYTES)) == "JPEG"
    if jpeg or stored.ndim != 2 or stored.dtype not in (np.uint8, np.uint16):
        found = "a JPEG, which blurs labels" if jpeg else f"{stored.dtype} of shape {stored.shape}"
        expected, fix = "a PNG of one channel", "write the label numbers with 8 or 16 bits"
        raise DataError(path, found=found, expected=expected, fix=fix)
    return stored.astype(np.int32)


class ImageSizeError(DataError):
    """Raised if the size of an image differs from the image size of its camera."""


MAX_COUNTED = 500
"""Images whose sizes are counted for a message."""

SAME_ASPECT = 0.02
"""Relative difference of the aspect ratios of one picture at two sizes."""


def describe_other_sizes(images: Sequence[Path], size: tuple[int, int]) -> str:
    """Return how many images have another size than their camera, with their names, as the end of a sentence.

    images: the images of a recording.
    size: width and height of their camera.
    """
    others = list[Path]()
    turned = 0
    counted = images[:MAX_COUNTED]
    for path in counted:
        with open_photo(path) as photo:
            is_turned = photo.getexif().get(_ORIENTATION, 1) in _TURNED
            shown = photo.size[::-1] if is_turned else photo.size
        if shown != size:
            others.append(path)
            turned += is_turned
    names = ", ".join(path.name for path in others[:5]) + (" ..." if len(others) > 5 else "")
    by_exif = f", {turned} of them turned by their Exif tag" if turned else ""
    return f", as {len(others)} of {len(counted)} images have another size ({names}{by_exif})"


def fix_image_size(found: tuple[int, int], expected: tuple[int, int]) -> str:
    """Return what to do with an image of another size than its camera: sizes are (width, height)."""
    if found == expected[::-1] and found[0] != found[1]:
        return "put the images of each orientation into a folder of their own, with their own camera"
    if abs(found[0] * expected[1] / (found[1] * expected[0]) - 1) > SAME_ASPECT:
        return "put the images of each size into a folder of their own, with their own camera"
    size = f"{expected[0]}x{expected[1]}"
    return f"rescale the images to {size}, or give K of {found[0]}x{found[1]}"


def check_image_size(
    path: object, image: NDArray, height: int, width: int, *, like: str, fix: str | None = None
) -> None:
    """Raise DataError if an image (H, W, ...) does not have the expected size.

    path: the file that an error message names.
    image: the image.
    height, width: expected size in pixels.
    like: what follows the expected size in the message, such as ", the size of its camera".
    fix: the fix that an error message names.
    """
    if image.shape[:2] != (height, width):
        raise DataError(path, found=f"{image.shape[1]}x{image.shape[0]}", expected=f"{width}x{height}{like}", fix=fix)


def check_depth_map(path: Path, depth_m: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return a depth map (H, W) unchanged if its size and values are possible.

    path: the file, for messages.
    depth_m: depth in metres; 0 means unknown.
    height, width: expected size.

    Raises DataError if the size differs, or a value is negative or not finite.
    """
    check_image_size(path, depth_m, height, width, like=", the image's size", fix="store depth at full size")
    wrong = ~np.isfinite(depth_m) | (depth_m < 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        found = f"{depth_m[row, column]} at row {row}, column {column} ({int(wrong.sum())} such pixels)"
        raise DataError(path, found=found, expected="metres, or 0 for unknown", fix="write 0 for unknown depth")
    return depth_m


def encode_name(name: str) -> bytes:
    """Return the bytes of a file name, which need not be valid UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def hash_file(file: Path) -> str:
    """Return a hash of a file as HASH_DIGITS hexadecimal digits. It depends on the file's size, middle and end only.

    Raises DataError for a missing file.
    """
    with open_input(file, expected="an image", max_bytes=MAX_ARRAY_BYTES, fix=_COPY) as stream:
        size = stream.seek(0, os.SEEK_END)
        digest = hashlib.blake2b(str(size).encode(), digest_size=HASH_DIGITS // 2)
        for start in (size // 2, max(size - _HASHED_BYTES, 0)):
            stream.seek(start)
            digest.update(stream.read(_HASHED_BYTES))
    return digest.hexdigest()


def hash_frames(recording: Recording, indices: Sequence[int], side: str = LEFT) -> dict[int, str]:
    """Return the hash of the image file of each video frame, by the frame's index; frames without a file are left out.

    recording: the recording.
    indices: indices of the frames.
    side: "left" or "right".
    """
    return hash_files({index: file for index in indices if (file := recording.file(index, side)) is not None})


def hash_files(files: Mapping[int, Path]) -> dict[int, str]:
    """Return the hash of each file, by the file's key in `files`."""
    with ThreadPoolExecutor(READ_THREADS) as threads:
        return dict(zip(files, threads.map(hash_file, files.values()), strict=True))


def hash_depth(recording: Recording, frames: Iterable[tuple[int, str]]) -> str | None:
    """Return one hash of the depth files of video frames; None if there are none.

    recording: the recording.
    frames: index and side of each frame.
    """
    frames = list(frames)
    with ThreadPoolExecutor(READ_THREADS) as threads:
        hashes = list(threads.map(lambda frame: _hash_first_file(recording.depth_files(*frame)), frames))
    lines = [f"{side}/{index}:{digits}\n" for (index, side), digits in zip(frames, hashes, strict=True) if digits]
    return hashlib.blake2b("".join(lines).encode(), digest_size=16).hexdigest() if lines else None


def _hash_first_file(files: Iterable[Path]) -> str:
    return next((hash_file(file) for file in files if file.is_file()), "")


def join_hashes(digits: Sequence[str]) -> str:
    """Join hashes of equal length to one string, which `split_hashes` splits again."""
    return "".join(digits)


def split_hashes(digits: str) -> list[str]:
    """Split a string that `join_hashes` returned."""
    return [digits[start : start + HASH_DIGITS] for start in range(0, len(digits), HASH_DIGITS)]
