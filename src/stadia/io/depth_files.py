"""Read depth maps from PNG, TIFF, PFM, EXR, .npz and .npy, and write them as PNG and .npz."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import DepthScale
from stadia.io import array_files, image_io
from stadia.io.atomic_files import open_atomic
from stadia.io.input_files import check_no_archive, natural_sort_key, read_bytes

PNG_PER_METRE = 256.0  # KITTI: a uint16 of 256 is one metre, 0 is unknown
SUFFIXES = (".npz", ".npy", *image_io.FLOAT_SUFFIXES, ".png")  # the most precise first
EXPECTED = "uint16 .png, .pgm or .tiff, .npz, .npy, .pfm, .exr or .bin of COLMAP"
MAX_BYTES = 8 * image_io.MAX_PIXELS  # size of one map with MAX_PIXELS values of float64

DEPTH_KEYS: Mapping[DepthScale, str] = {
    DepthScale.METRES: "depth_m",
    DepthScale.UP_TO_SCALE: "depth",
    DepthScale.AFFINE_INVERSE: "inverse_depth",
    DepthScale.AFFINE_DEPTH: "affine_depth",
}
"""Name of the depth array in an .npz of predictions, by the scale of the depth."""

DISTANCE_KEYS: Mapping[DepthScale, str] = {DepthScale.METRES: "distance_m", DepthScale.UP_TO_SCALE: "distance"}
"""Name of the array of a panorama, the distance along the ray of each pixel, by the scale of the depth."""

MAX_MAPS = 1_000_000  # maps of one file, since a header may claim any number
UNCERTAINTY_KEY = "log_uncertainty"  # a second map in the .npz: log Sigma of the photometric residual

GREATEST_INTEGER = 65535  # largest value of 16 bits, which sensors write for unknown depth
MAX_SHARE_OF_ENDS = 0.02  # share of the pixels at both ends of a normalized map
MAX_GREATEST = 3  # pixels with the greatest value of a map that was stretched to its own range; saturated ones are more
_ROWS = 64  # rows of a map that are scaled at once, to save memory


@dataclass(frozen=True, slots=True)
class StackedMap:
    """One depth map of a file that contains an array (N, H, W) of maps.

    stack: the array.
    index: index of the map.
    """

    stack: array_files.StackedArray
    index: int

    def __str__(self) -> str:
        return f"{self.stack.path}, map {self.index}"

    @property
    def suffix(self) -> str:
        """Return the suffix of the file that contains the map, such as ".npy"."""
        return self.stack.path.suffix

    @property
    def is_integer(self) -> bool:
        """Return whether the maps are stored as integers, which must be divided by a number of integers per metre."""
        return self.stack.dtype.kind in "iu"


DepthFile = Path | StackedMap

OF_DEPTH = ".depth"
"""Stems of depth maps end with this if their folder also contains color images."""


def find_depth_files(folder: Path) -> dict[str, DepthFile]:
    """Find the depth maps in a folder, its subfolder `depth`, or one file; return them by name, sorted.

    The name is the file's name without its suffix. The maps of a single file are named by their number, as "000000".
    If some files have names such as 7-Scenes' frame-000000.depth.png, only these are returned, as frame-000000. Of two
    files with one name, the more precise one is returned.

    folder: the folder or file.

    Raises DataError if no depth map is found.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() in SUFFIXES:
        return _list_maps(folder)
    check_no_archive(folder)
    if not folder.is_dir():
        raise DataError(folder, found="no such folder", expected="a folder of depth maps", fix="check the path")
    if (folder / "depth").is_dir():
        folder = folder / "depth"
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    visible = [path for path in visible if path.stem.endswith(OF_DEPTH)] or visible
    found: dict[str, DepthFile] = {}
    for suffix in reversed(SUFFIXES):
        found |= {path.stem.removesuffix(OF_DEPTH): path for path in visible if path.suffix.lower() == suffix}
    if not found:
        if jpeg := next((path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg")), None):
            raise _jpeg_depth(jpeg)
        raise _make_no_depth_error(folder, visible)
    if len(found) == 1 and isinstance(path := next(iter(found.values())), Path):
        return _list_maps(path)
    return dict(sorted(found.items()))


CONVERSIONS = {
    ".dpt": "write each of Sintel as .npy: numpy.save(NAME, numpy.fromfile(FILE, '<f4', offset=12).reshape(H, W))",
    ".hdf5": "write each as .npy: numpy.save(NAME, h5py.File(FILE)['dataset'][:])",
    ".h5": "write each as .npy: numpy.save(NAME, h5py.File(FILE)[KEY][:])",
    ".mat": "write each as .npy: numpy.save(NAME, scipy.io.loadmat(FILE)[KEY])",
    ".txt": "write each as .npy: numpy.save(NAME, numpy.loadtxt(FILE))",
    ".csv": "write each as .npy: numpy.save(NAME, numpy.loadtxt(FILE, delimiter=','))",
    ".dmb": "write each of ACMM as .npy: numpy.save(NAME, numpy.fromfile(FILE, '<f4', offset=16).reshape(H, W))",
    ".pkl": "write each as .npy with numpy.save: a pickle may run code, and is not read",
}
"""Advice how to convert depth files that cannot be read, by suffix."""


def _make_no_depth_error(folder: Path, visible: list[Path]) -> DataError:
    """Return the error of a folder without depth maps, with what it has."""
    suffixes = Counter(path.suffix.lower() for path in visible if path.is_file())
    found, fix = "no depth map", "check the path"
    if suffixes:
        suffix, count = suffixes.most_common(1)[0]
        found = f"no depth map, but {count} files of '{suffix}'"
        fix = CONVERSIONS.get(suffix, "write the metres of each as .npy: numpy.save(NAME, depth) with depth (H, W)")
    elif folders := sorted(path for path in visible if path.is_dir()):
        found, fix = f"no depth map, but folders such as {folders[0].name}", "pass the folder of one recording"
        suffix = next((suffix for suffix in SUFFIXES if (folders[0] / f"depth{suffix}").is_file()), "")
        if suffix:  # MoGe writes a folder for each image
            found += f" with a depth{suffix}"
            copy = f'cp "$d/depth{suffix}" "maps/$(basename "$d"){suffix}"'
            fix = f"collect them: mkdir maps && for d in {shlex.quote(str(folder))}/*/; do {copy}; done"
    return DataError(folder, found=found, expected=f"files of {EXPECTED}", fix=fix)


def _list_maps(path: Path) -> dict[str, DepthFile]:
    """Return (N, H, W), (N, 1, H, W) or (N, H, W, 1) by number, else the file. Raises DataError for large ones."""
    match path.suffix.lower():
        case ".npy":
            stack = array_files.open_npy(path)
        case ".npz":
            names = array_files.list_npz_arrays(path, max_bytes=array_files.MAX_STACK_BYTES)
            known = [name for name in names if name in DEPTH_KEYS.values()] or names
            if len(known) != 1:
                return {path.stem: path}
            stack = array_files.open_npz(path, known[0])
        case _:
            return {path.stem: path}
    shape = stack.shape
    if len(shape) < 3 or shape[0] == 1 or (len(shape) == 3 and shape[2] == 1) or 0 in shape:
        return {path.stem: path}
    count, map_bytes = shape[0], math.prod(shape[1:]) * stack.dtype.itemsize
    if len(shape) > 4 or (len(shape) == 4 and 1 not in (shape[1], shape[3])):
        fix = "store one value a pixel"
        raise DataError(path, found=f"{stack.dtype} of shape {shape}", expected="maps (N, H, W)", fix=fix)
    if count > MAX_MAPS or map_bytes > MAX_BYTES:
        found = f"{count} maps of {map_bytes} bytes"
        expected = f"at most {MAX_MAPS} maps of at most {MAX_BYTES} bytes"
        raise DataError(path, found=found, expected=expected, fix="check that this is the right file")
    return {f"{index:06d}": StackedMap(stack, index) for index in range(count)}


def pair_stacks(
    predicted: Mapping[str, DepthFile], truth: Mapping[str, DepthFile]
) -> tuple[Mapping[str, DepthFile], Mapping[str, DepthFile], str]:
    """Give predictions and ground truth the same names, if one of them is a single file with many maps.

    Returns predictions, ground truth, and a note about the names, or "". The maps of the file take the names of the
    other side's files, in natural order.

    predicted: predicted depth maps by name.
    truth: ground-truth depth maps by name.

    Raises DataError if the numbers of maps differ.
    """
    of_predicted, of_truth = _find_stack(predicted), _find_stack(truth)
    if (stack := of_predicted or of_truth) is None:
        return _pair_by_numbers(predicted, truth)
    if len(predicted) != len(truth):
        raise _make_count_error(stack, len(truth if of_predicted else predicted))
    if of_predicted and of_truth:
        return predicted, truth, ""
    names = sorted(truth if of_predicted else predicted, key=lambda name: natural_sort_key(Path(name)))
    maps = dict(zip(names, (predicted if of_predicted else truth).values(), strict=True))
    last = len(names) - 1
    note = f"map i of {stack.path.name} belongs to file i by name: map 0 to {names[0]}, map {last} to {names[last]}"
    return (maps, truth, note) if of_predicted else (predicted, maps, note)


def _pair_by_numbers(
    predicted: Mapping[str, DepthFile], truth: Mapping[str, DepthFile]
) -> tuple[Mapping[str, DepthFile], Mapping[str, DepthFile], str]:
    """Give predictions the names of the ground truth with the same numbers, if no name is on both sides.

    Only numbers that differ within a side count: depth_00005 of Virtual KITTI is rgb_00005.
    """
    if not predicted.keys().isdisjoint(truth):
        return predicted, truth, ""
    of_predicted, of_truth = _find_varying_numbers(predicted), _find_varying_numbers(truth)
    by_numbers = {numbers: name for name, numbers in of_predicted.items()}
    is_unique = len(by_numbers) == len(of_predicted) and len(set(of_truth.values())) == len(of_truth) > 1
    if not is_unique or not by_numbers.keys() >= set(of_truth.values()):
        return predicted, truth, ""
    new_names = {by_numbers[numbers]: name for name, numbers in of_truth.items()}
    first = next(iter(new_names))
    note = f"files belong together by the numbers in their names: {first} to {new_names[first]}"
    return {new_names.get(name, name): file for name, file in predicted.items()}, truth, note


def _find_varying_numbers(names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the numbers in each name that are not the same in all names; none if names have other counts of them."""
    numbers = {name: tuple(map(int, re.findall(r"[0-9]{1,18}", name))) for name in names}
    if len({len(row) for row in numbers.values()}) != 1:
        return {}
    columns = [column for column in zip(*numbers.values(), strict=True) if len(set(column)) > 1]
    return dict(zip(numbers, zip(*columns, strict=True), strict=True)) if columns else {}


def _find_stack(files: Mapping[str, DepthFile]) -> array_files.StackedArray | None:
    first = next(iter(files.values()), None)
    return first.stack if isinstance(first, StackedMap) else None


def _make_count_error(stack: array_files.StackedArray, other: int) -> DataError:
    """Return the error of a stack with another number of maps."""
    fix = "write one map for each of them, in the order of their names"
    if stack.shape[-1] == other:
        name = stack.path.name
        fix = f"its last axis counts the images: numpy.save('{name}', numpy.moveaxis(maps, -1, 0).copy())"
    found = f"{len(stack)} maps of shape {stack.shape[1:]}"
    return DataError(stack.path, found=found, expected=f"{other} maps, as on the other side", fix=fix)


def read_depth_map(
    path: DepthFile, *, key: str = "depth_m", png_per_metre: float = PNG_PER_METRE, is_truth: bool = False
) -> NDArray[np.floating]:
    """Read the values (H, W) of a depth file, or of one map of a file with many maps, in the precision of the file.

    path: the file or the map.
    key: name of the array in an .npz.
    png_per_metre: integers per metre in files of integers: 256 for KITTI, 1000 for millimetres, 5000 for TUM.
    is_truth: the map is ground truth: NaN is allowed, and the integer 65535 (unknown, or farther) becomes infinite.

    Raises DataError for a file that is missing, damaged, 8-bit or not a depth map.
    """
    values: Any = path.stack.read(path.index) if isinstance(path, StackedMap) else _read_file(Path(path), key)
    values = values[0] if values.ndim == 4 and values.shape[0] == 1 else values
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if isinstance(path, Path) and values.ndim in (3, 4) and values.shape[0] > 4 and values.size > 0:
        raise _make_stack_error(path, values)
    if values.ndim == 2 and values.dtype.kind in "iu" and values.dtype.itemsize > 1:
        values = _scale_integers(values, png_per_metre, is_truth=is_truth)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind != "f":
        fix = "store metres as float32, one map a file"
        expected = "one map of floating-point values, (H, W)"
        raise DataError(path, found=f"{values.dtype} of shape {values.shape}", expected=expected, fix=fix)
    if not is_truth and (wrong := int(np.isnan(values).sum())):
        fix = "write 0 for unknown depth"
        raise DataError(path, found=f"NaN at {wrong} of {values.size} pixels", expected="numbers", fix=fix)
    return np.asarray(values)


def _read_file(path: Path, key: str) -> NDArray[Any]:
    """Return the content of a file of one map, by its suffix."""
    match path.suffix.lower():
        case ".png":
            return _read_png(path)
        case suffix if suffix in image_io.FLOAT_SUFFIXES:
            return image_io.read_float_image(path)
        case ".npz":
            return _read_npz(path, key)
        case ".npy":
            return array_files.read_npy(path, max_bytes=MAX_BYTES)
        case ".jpg" | ".jpeg":
            raise _jpeg_depth(path)
        case suffix:
            raise DataError(
                path, found=f"a '{suffix}' file", expected=EXPECTED, fix="convert the depth map to one of these formats"
            )


def _scale_integers(values: NDArray[np.integer], per_metre: float, *, is_truth: bool) -> NDArray[np.float64]:
    """Return integers divided by their number per metre; in ground truth, 65535 becomes infinite."""
    scaled = values / np.float64(per_metre)
    if is_truth and values.dtype == np.uint16:
        scaled[values == GREATEST_INTEGER] = np.inf
    return scaled


def _make_stack_error(path: Path, values: NDArray[Any]) -> DataError:
    """Return the error of one of several files with points, or with the maps of several images."""
    found = f"{values.dtype} of shape {values.shape}"
    if values.shape[-1] == 3:
        fix = f"write the depth of the points: numpy.save('{path.with_suffix('.npy').name}', points[..., 2])"
        return DataError(path, found=f"{found}, points x y z", expected="one map a file", fix=fix)
    fix = "pass this file alone, so that map i belongs to file i by name; or write one file an image"
    return DataError(path, found=f"{found}, maps of several images", expected="one map a file", fix=fix)


def describe_normalization(values: NDArray[np.floating], png_per_metre: float = PNG_PER_METRE) -> str | None:
    """Return the range if a map spans exactly 0 to 1, 255 or 65535, as images made for display do; otherwise None.

    Such a map has lost its scale.

    values: (H, W) depth.
    png_per_metre: integers per metre in a file of integers; the values were divided by it.
    """
    low, high = float(values.min()), float(values.max())
    tops = {"0 to 1": 1.0, "0 to 255": 255.0, "0 to 65535": GREATEST_INTEGER / png_per_metre}
    span = next((span for span, top in tops.items() if abs(high - top) <= 1e-6 * top), None)
    if low != 0 or span is None:
        return None
    ends = float(((values == low) | (values == high)).mean())
    beside = min(float((values > 0.8 * high).mean()), float((values < 0.2 * high).mean()))
    is_even = ends < MAX_SHARE_OF_ENDS and beside > 2 * ends
    return span if is_even or (values == high).sum() <= MAX_GREATEST else None


def stores_integers(path: DepthFile, key: str = "depth_m") -> bool:
    """Return whether a depth file has integers, which are divided by a number of integers per metre.

    path: the file or the map.
    key: name of the array in an .npz.

    Raises DataError for a damaged file.
    """
    if isinstance(path, StackedMap):
        return path.is_integer
    if path.suffix.lower() == ".npy":
        return array_files.open_npy(path).dtype.kind in "iu"
    return _read_file(path, key).dtype.kind in "iu"


def describe_stored_unit(path: DepthFile) -> str:
    """Return how depth is read from a file whose values are packed (CARLA) or have a scale (PFM); otherwise "".

    Raises DataError if the file is damaged.
    """
    suffix = path.suffix.lower()
    if isinstance(path, StackedMap) or suffix not in (".png", ".pfm"):
        return ""
    if suffix == ".png":
        stored = image_io.read_image(path, cv2.IMREAD_UNCHANGED)
        if view_float_bytes(stored) is not None:
            return "the four channels of a pixel, the bytes of a float32 (TartanAir V2)"
        packed = _is_packed(stored)
        carla = (
            "24 bits of color (CARLA): 1000 m (R + 256 G + 65536 B) / 16777215; SYNTHIA writes 5000 m in place of 1000"
        )
        return carla if packed else ""
    scale = image_io.read_pfm_scale(path)
    return "" if scale == 1 else f"stored; the scale {scale:g} in the header of the .pfm files is not applied"


def list_arrays(path: DepthFile) -> tuple[str, ...]:
    """Return the names of the arrays in an .npz of depth maps; other formats have none.

    Raises DataError if the file is damaged.
    """
    if isinstance(path, StackedMap) or path.suffix.lower() != ".npz":
        return ()
    return array_files.list_npz_arrays(path, max_bytes=MAX_BYTES)


def _jpeg_depth(path: Path) -> DataError:
    found, fix = "depth as a JPEG", "use the original files: a JPEG is lossy and has 8 bits"
    if image_io.find_image_format(read_bytes(path, expected=EXPECTED, max_bytes=MAX_BYTES)) != "JPEG":
        found = f"'{path.suffix}' without the bytes of a JPEG, such as the floats of ETH3D's ground truth"
        fix = "write each as .npy: numpy.save(NAME, numpy.fromfile(FILE, '<f4').reshape(H, W))"
    return DataError(path, found=found, expected=EXPECTED, fix=fix)


PACKED_RANGE_M = 1000.0  # CARLA packs depth into 24 bits: R, G and B, R the lowest.


def _is_packed(stored: NDArray[Any]) -> bool:
    """Return whether an 8-bit image (H, W, 3 or 4), BGR, has depth in 24 bits: the low byte changes the most."""
    if stored.dtype != np.uint8 or stored.ndim != 3 or min(stored.shape[:2]) < 2:
        return False
    for axis in (0, 1):
        change = np.asarray(np.diff(stored[..., :3].astype(np.int16), axis=axis), np.int16)
        high, middle, low = np.abs((change + 128) % 256 - 128).mean(axis=(0, 1))  # a byte continues at 0
        if low > MIN_LOW_CHANGE and low > 4 * middle and middle > 2 * high:
            return True
    return False


MAX_FLOAT_M = 1e5  # metres; the last byte of a color with alpha makes NaN or a number far from it


def view_float_bytes(stored: NDArray[Any]) -> NDArray[np.float32] | None:
    """Return the metres (H, W) whose bytes an 8-bit image (H, W, 4) holds, as TartanAir V2 stores depth; None for other
    images.
    """
    if stored.dtype != np.uint8 or stored.ndim != 3 or stored.shape[2] != 4:
        return None
    floats = np.ascontiguousarray(stored).view("<f4")[..., 0]
    is_depth = ((floats >= 0) & (floats < MAX_FLOAT_M)) | np.isposinf(floats) | np.isnan(floats)
    known = floats[~np.isnan(floats)]
    return floats if is_depth.all() and len(known) and float(np.median(known)) > 1 / MAX_FLOAT_M else None


MIN_LOW_CHANGE = 16.0  # mean change of the lowest byte between neighboring pixels; for random bytes it is 64


def unpack_depth(stored: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the metres (H, W) of CARLA's depth image (H, W, 3 or 4), BGR: 1000 (R + 256 G + 65536 B) / (2^24 - 1).

    Source: CARLA, docs/ref_sensors.md, depth camera.
    """
    return stored[..., :3].astype(np.float64) @ (65536.0, 256.0, 1.0) * (PACKED_RANGE_M / (2**24 - 1))


def _read_png(path: Path) -> NDArray[Any]:
    expected = "a uint16 PNG"
    data = read_bytes(path, expected=expected, max_bytes=image_io.MAX_IMAGE_BYTES)
    if not data.startswith(image_io.PNG_SIGNATURE):
        found = "a file without a PNG's signature"
        raise DataError(path, found=found, expected=expected, fix="write or copy it again")
    stored = image_io.decode_image(
        path, data, cv2.IMREAD_UNCHANGED, expected="a whole file", fix="write or copy it again"
    )
    if (floats := view_float_bytes(stored)) is not None:
        return floats
    if _is_packed(stored):
        return unpack_depth(stored)
    if stored.dtype != np.uint16:
        found, fix = "an 8-bit image", "that is a display image; store depth"
        if stored.ndim == 3 and (np.ptp(stored[..., :3], axis=2) > 0).any():
            found = "an 8-bit color image that is not packed as CARLA's depth"
            fix = (
                "write metres as .npy: unpack depth or disparity that a program packs into color (Sintel's disparity is"
            )
            fix += (
                " 4 R + G / 64 + B / 16384 px; depth is focal length x baseline / disparity). Display colors lost them"
            )
        raise DataError(path, found=found, expected="a 16-bit PNG of depth", fix=fix)
    if stored.ndim != 2:
        found, fix = f"{stored.shape[2]} channels", "store depth as one uint16 channel"
        raise DataError(path, found=found, expected="one channel", fix=fix)
    return stored


def _read_npz(path: Path, key: str) -> NDArray[np.generic]:
    names = array_files.list_npz_arrays(path, max_bytes=MAX_BYTES)
    if key not in names and len(names) != 1:
        expected, fix = f"'{key}', or only one array", f"name the map '{key}'"
        raise DataError(path, found=f"arrays {list(names)}", expected=expected, fix=fix)
    name = key if key in names else names[0]
    return array_files.read_npz(path, only=(name,), max_bytes=MAX_BYTES)[name]


def write_depth_png(path: str | Path, depth: NDArray[np.floating], png_per_metre: float = PNG_PER_METRE) -> None:
    """Write a depth map (H, W) as a uint16 PNG with the integers round(depth * png_per_metre), from 1 to 65535.

    Unknown depth, 0, is written as 0. The largest depth is 256 m for 256 integers per metre; larger ones are clamped.
    """
    stored = np.empty(depth.shape, np.uint16)
    is_exact = depth.dtype == np.float32 and math.frexp(png_per_metre)[0] == 0.5  # a power of two rounds nothing
    for start in range(0, len(depth), _ROWS):
        rows = depth[start : start + _ROWS]
        scaled = rows * np.float32(png_per_metre) if is_exact else np.asarray(rows, np.float64) * png_per_metre
        np.clip(np.rint(scaled, out=scaled), 1, 65535, out=scaled)
        scaled[~(rows > 0)] = 0
        stored[start : start + _ROWS] = scaled
    image_io.write_image(path, stored)


def write_depth_map(path: str | Path, **arrays: NDArray) -> None:
    """Write named maps (H, W) to an .npz atomically. It is not compressed, which would save only a tenth."""
    with open_atomic(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
