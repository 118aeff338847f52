"""Read and write depth maps as uint16 PNG, .npz and .npy, and refuse damaged files by name."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import atomic_write

PNG_PER_METRE = 256.0  # KITTI: a uint16 of 256 is one metre, 0 is none
SUFFIXES = (".npz", ".npy", ".png")  # the most precise first
MAX_BYTES = 1 << 30
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def find_depth_files(folder: Path) -> dict[str, Path]:
    """Return the depth maps of a folder by stem, sorted by name.

    A predictions folder of stadia has them in its subfolder `depth`. Of two files with one stem the more precise is
    taken (.npz, .npy, then .png). Raises DataError where there is no depth map, or only JPEGs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, found="no such folder", expected="a folder of depth maps", fix="check the path")
    if (folder / "depth").is_dir():
        folder = folder / "depth"
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found: dict[str, Path] = {}
    for suffix in reversed(SUFFIXES):
        found |= {path.stem: path for path in visible if path.suffix.lower() == suffix}
    if not found:
        if jpeg := next((path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg")), None):
            raise _jpeg_depth(jpeg)
        raise DataError(folder, found="no depth map", expected="uint16 .png, .npz or .npy files", fix="check the path")
    return dict(sorted(found.items()))


def read_depth_map(path: Path, *, key: str = "depth_m", png_per_metre: float = PNG_PER_METRE) -> NDArray[np.floating]:
    """Read the (H, W) values of one file, in the precision of the file.

    path: a uint16 PNG (value / png_per_metre), an .npy array of floats, or an .npz with the array `key` or only one.
    png_per_metre: 256 for KITTI, 1000 for millimetres.

    Raises DataError with the file's name where it is missing, truncated, 8-bit, not a map, or contains NaN.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise DataError(path, found="no such file", expected="a depth map", fix="check the path") from error
    if size > MAX_BYTES:
        raise DataError(path, found=f"{size} bytes", expected=f"at most {MAX_BYTES}", fix="is this one depth map?")
    match path.suffix.lower():
        case ".png":
            values = _read_png(path) / np.float64(png_per_metre)
        case ".npz":
            values = _read_npz(path, key)
        case ".npy":
            values = _read_npy(path)
        case ".jpg" | ".jpeg":
            raise _jpeg_depth(path)
        case suffix:
            raise DataError(path, found=f"a '{suffix}' file", expected="uint16 .png, .npz or .npy", fix="convert it")
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind != "f":
        fix = "store metres as float32, one map a file"
        expected = "one map of floating-point values, (H, W)"
        raise DataError(path, found=f"{values.dtype} of shape {values.shape}", expected=expected, fix=fix)
    if wrong := int(np.isnan(values).sum()):
        fix = "write 0 where there is no depth"
        raise DataError(path, found=f"NaN at {wrong} of {values.size} pixels", expected="numbers", fix=fix)
    return values


def list_arrays(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in an .npz; none for another format. Raise DataError where it is damaged."""
    if path.suffix.lower() != ".npz":
        return ()
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, error, "an .npz archive") from error


def _damaged(path: Path, error: Exception, expected: str) -> DataError:
    return DataError(path, found=f"a damaged file ({error})", expected=expected, fix="write or copy it again")


def _jpeg_depth(path: Path) -> DataError:
    fix = "use the files that it was made of: a JPEG is lossy and has 8 bits, so that converting it back mends nothing"
    return DataError(path, found="depth as a JPEG", expected="uint16 .png, .npz or .npy", fix=fix)


def _read_png(path: Path) -> NDArray[np.uint16]:
    data = path.read_bytes()
    if not data.startswith(_PNG_SIGNATURE):
        found = "a file without a PNG's signature"
        raise DataError(path, found=found, expected="a uint16 PNG", fix="write or copy it again")
    bits = data[24] if len(data) > 24 else 0  # of a channel, in the header
    if bits and bits < 16:
        fix = "that is an image for looking at; store depth"
        raise DataError(path, found=f"an {bits}-bit image", expected="a 16-bit PNG of depth", fix=fix)
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if _png_is_whole(data) else None
    if stored is None:
        raise DataError(path, found="a truncated or damaged PNG", expected="a whole file", fix="write or copy it again")
    if stored.ndim != 2:
        found, fix = f"{stored.shape[2]} channels", "store depth as one uint16 channel"
        raise DataError(path, found=found, expected="one channel", fix=fix)
    return stored


def _png_is_whole(data: bytes) -> bool:
    """Return whether every chunk up to the end has its checksum. libpng prints messages for damage."""
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


def _read_npz(path: Path, key: str) -> NDArray:
    try:
        with zipfile.ZipFile(path) as archive:  # a small archive may unpack to terabytes
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES:
            found, fix = f"{unpacked} bytes unpacked", "is this one depth map?"
            raise DataError(path, found=found, expected=f"at most {MAX_BYTES}", fix=fix)
        with np.load(path, allow_pickle=False) as arrays:
            names = list(arrays.keys())
            if key not in names and len(names) != 1:
                expected, fix = f"'{key}', or only one array", f"name the map '{key}'"
                raise DataError(path, found=f"arrays {names}", expected=expected, fix=fix)
            return arrays[key if key in names else names[0]]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error, "an .npz archive") from error


def _read_npy(path: Path) -> NDArray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _damaged(path, error, "an .npy array") from error


def write_depth_png(path: Path, depth: NDArray[np.floating], png_per_metre: float = PNG_PER_METRE) -> None:
    """Write (H, W) depth, 0 = none, as a uint16 PNG: round(depth * png_per_metre), from 1 to 65535 (256 m)."""
    scaled = np.clip(np.rint(np.asarray(depth, np.float64) * png_per_metre), 1, 65535)
    write_image(path, np.where(depth > 0, scaled, 0).astype(np.uint16))


def write_image(path: Path, image: NDArray) -> None:
    """Write numbers (H, W), or colors (H, W, 3) blue, green, red, atomically. Raises OSError where that fails."""
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), image):
            raise OSError(f"{path} could not be written")


def write_depth_map(path: Path, **arrays: NDArray) -> None:
    """Write named arrays as uncompressed .npz. Compression saves a tenth and takes ten times as long."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
