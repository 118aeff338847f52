"""Read results of other programs that are not in metres, and write copies scaled to metres in the same formats."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.io.array_files import MAX_STACK_BYTES, list_npz_arrays, read_npz
from stadia.io.atomic_files import make_temporary_folder, open_atomic, write_json, write_lines
from stadia.io.depth_files import (
    DEPTH_KEYS,
    GREATEST_INTEGER,
    PNG_PER_METRE,
    DepthFile,
    find_depth_files,
    read_depth_map,
    write_depth_map,
    write_depth_png,
)
from stadia.io.image_io import write_image
from stadia.io.input_files import check_writable, natural_sort_key, read_bytes, read_json, read_text, safe_join
from stadia.io.records.json_scenes import move_paths, read_json_poses
from stadia.io.records.read import read_trajectory
from stadia.sfm.sparse_map import import_pycolmap

Array = NDArray[np.float64]

MAX_BYTES = 4 << 30
COLMAP_FILES = ("cameras.txt", "cameras.bin")
COPY_TOLERANCE, COPY_TOLERANCE_OF_DEPTH = 1e-5, 0.01
"""Largest relative difference between a copy and the scaled original for depth maps, which PNG rounds; COPY_TOLERANCE
for text, which has at least 6 digits.
"""

EXPECTED = "a COLMAP model, a trajectory (TUM, KITTI, EuRoC), a PLY file, a folder of depth maps, or transforms.json"


@dataclass(frozen=True)
class ForeignResult:
    """What another program reconstructed, in its own unit of length.

    path: the file or folder.
    kind: name of its format in FORMATS.
    names: N names of the images without suffix, or numbers of the frames.
    T_world_camera: (N, 4, 4) poses, camera to world.
    times_s: (N,) times of the poses, seconds; None if unknown.
    depths: depth files by image name.
    points: (P, 3) in the world.
    observed: for each image by its name, the rows of the points that it shows.
    has_names: whether the file states the names; False if they only count the rows.
    """

    path: Path
    kind: str
    names: tuple[str, ...] = ()
    T_world_camera: Array = field(default_factory=lambda: np.empty((0, 4, 4)))
    times_s: Array | None = None
    depths: Mapping[str, DepthFile] = field(default_factory=dict)
    points: Array = field(default_factory=lambda: np.empty((0, 3)))
    observed: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)
    has_names: bool = True

    @property
    def has_depth(self) -> bool:
        """Return whether it has depth in images: depth maps, or points that images observe."""
        return bool(self.depths or self.observed)

    def measure_size(self) -> Array:
        """Return M lengths of the result that grow with its scale, to compare a copy with the original."""
        depths = [float(np.median(read_depth(file))) for file in islice(self.depths.values(), 5)]
        return np.concatenate([np.abs(self.T_world_camera[:, :3, 3]).ravel(), np.abs(self.points).ravel(), depths])


def open_result(path: Path) -> ForeignResult:
    """Read a result of another program, or the COLMAP model in the folder of a map.

    Raises DataError for anything else.
    """
    path = path / "colmap" if (path / "map.json").is_file() else path
    if not path.exists():
        raise DataError(path, found="no such file or folder", expected=EXPECTED, fix="check the path")
    for kind, (recognizes, read, _) in FORMATS.items():
        if recognizes(path):
            return read(path, kind)
    raise DataError(path, found="something else", expected=EXPECTED, fix="convert it, or check the path")


def write_scaled(result: ForeignResult, out: Path, factor: float) -> None:
    """Write a copy of a result with all lengths multiplied by a factor, and check it against the original.

    result: the original.
    out: the new file or folder.
    factor: metres per unit.

    Raises StadiaError if the copy differs from the scaled original, or `out` exists.
    """
    _, read, write = FORMATS[result.kind]
    check_writable(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = make_temporary_folder(out.parent, out.name)
    try:
        write(result, folder / out.name, factor)
        before, after = result.measure_size(), read(folder / out.name, result.kind).measure_size()
        most = (COPY_TOLERANCE_OF_DEPTH if result.depths else COPY_TOLERANCE) * max(float(after.max(initial=0)), 1e-9)
        if len(before) != len(after) or np.abs(after - factor * before).max(initial=0) > most:
            expected, fix = f"{factor:.6g} times {result.path}", "report it with the first lines of the file"
            raise StadiaError(out, found="a copy of another shape", expected=expected, fix=fix)
        made = {path: out.with_name(path.name) for path in folder.iterdir()}
        if taken := next((target for target in made.values() if os.path.lexists(target)), None):
            raise StadiaError(taken, found="a file or folder", expected="a new name", fix="choose another --out")
        for path, target in made.items():
            path.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- trajectories

_TRANSLATIONS = {8: (1, 2, 3), 12: (3, 7, 11), 13: (4, 8, 12), 16: (3, 7, 11)}
"""Columns of the translation by the number of columns; other rows are EuRoC's, with a velocity in columns 8 to 10."""

_SEPARATORS = re.compile(r"([,;\s]+)")


def _read_trajectory(path: Path, kind: str) -> ForeignResult:
    read = read_trajectory(path)
    names = tuple(f"{number:06d}" for number in read.frame_numbers.tolist())
    return ForeignResult(path, kind, names, read.T_world_camera, read.times_s, has_names=read.frames is not None)


def _write_trajectory(result: ForeignResult, out: Path, factor: float) -> None:
    text = read_text(result.path, expected=EXPECTED, max_bytes=MAX_BYTES)
    write_lines(out, (_scale_row(line, factor) for line in text.splitlines()))


def _scale_row(line: str, factor: float) -> str:
    parts = _SEPARATORS.split(line.strip())
    numbers = [part for part in parts[::2] if part]
    if line.lstrip().startswith("#") or not numbers or not re.fullmatch(r"[-+.\deE]+", numbers[-1]):
        return line
    columns = _TRANSLATIONS.get(len(numbers), (1, 2, 3, 8, 9, 10)[: 6 if len(numbers) > 10 else 3])
    if len(numbers) == 17 and [float(word) for word in numbers[13:]] == [0, 0, 0, 1]:
        columns = (4, 8, 12)
    for column in columns:
        parts[2 * column] = f"{float(parts[2 * column]) * factor:.12g}"
    return "".join(parts)


# -- scenes


def _read_colmap(path: Path, kind: str) -> ForeignResult:
    model: Any = import_pycolmap().Reconstruction(str(path))
    images = sorted(
        (image for image in model.images.values() if image.has_pose),
        key=lambda image: natural_sort_key(Path(image.name), whole=True),
    )
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    ids = sorted(model.points3D)
    row_of, observed = {point: row for row, point in enumerate(ids)}, dict[str, NDArray[np.intp]]()
    for number, image in enumerate(images):
        poses[number, :3] = image.cam_from_world().inverse().matrix()
        seen = [row_of[point.point3D_id] for point in image.points2D if point.has_point3D()]
        observed[Path(image.name).stem] = np.array(seen, np.intp)
    points = np.array([model.points3D[point].xyz for point in ids]).reshape(-1, 3)
    names = tuple(Path(image.name).stem for image in images)
    return ForeignResult(path, kind, names, poses, points=points, observed=observed)


def _write_colmap(result: ForeignResult, out: Path, factor: float) -> None:
    pycolmap = import_pycolmap()
    model: Any = pycolmap.Reconstruction(str(result.path))
    model.transform(pycolmap.Sim3d(factor, pycolmap.Rotation3d(), np.zeros(3)))
    out.mkdir()
    (model.write_binary if (result.path / "cameras.bin").is_file() else model.write_text)(str(out))


def _read_transforms(path: Path, kind: str) -> ForeignResult:
    listed = read_json_poses(path, read_json(path, expected=EXPECTED, max_bytes=MAX_BYTES))
    names = listed.names
    order = sorted(range(len(names)), key=lambda row: natural_sort_key(Path(names[row]), whole=True))
    return ForeignResult(path, kind, tuple(Path(names[row]).stem for row in order), listed.T_world_camera[order])


def _write_transforms(result: ForeignResult, out: Path, factor: float) -> None:
    """Write the scene; paths stay relative to its later folder, the parent of the temporary one."""
    content = read_json(result.path, expected=EXPECTED, max_bytes=MAX_BYTES)
    before, after = result.path.parent.resolve(), out.parent.parent.resolve()
    for frame in content["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= factor
    content["frames"] = [move_paths(frame, before, after) for frame in content["frames"]]
    cloud = content.get("ply_file_path")
    if isinstance(cloud, str) and (source := safe_join(result.path.parent, cloud)).is_file():
        copy = f"{out.stem}.points.ply"
        _write_ply(ForeignResult(source, "PLY file"), out.with_name(copy), factor)
        content["ply_file_path"] = copy
    write_json(out, content)


# -- points

_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"), **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"), **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"), **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"), **dict.fromkeys(("double", "float64"), "f8"),
}  # fmt: skip


def _parse_ply(path: Path) -> tuple[bytes, NDArray[Any], bytes, list[list[str]] | None]:
    """Return a PLY file in parts: the header, the vertices by property, the rest, and the words if it is text."""
    data = read_bytes(path, expected="a PLY file", max_bytes=MAX_BYTES)
    head = re.match(rb"ply\r?\n.*?end_header\r?\n", data, re.DOTALL)
    lines = head[0].decode("ascii", "replace").split("\n") if head else []
    words = [line.split() for line in lines if line.strip()]
    elements = [word for word in words if word[0] == "element"]
    layout = next((word[1] for word in words if word[0] == "format"), "")
    expected, fix = "a PLY file whose first element is its vertices", "write it again with Open3D or MeshLab"
    if (
        head is None
        or not elements
        or elements[0][1] != "vertex"
        or layout not in _LAYOUTS
        or not elements[0][2].isdecimal()
    ):
        raise DataError(path, found=f"a header of {layout or 'another format'}", expected=expected, fix=fix)
    start = words.index(elements[0]) + 1
    stop = words.index(elements[1]) if len(elements) > 1 else len(words)
    properties = [word for word in words[start:stop] if word[0] == "property"]
    if any(word[1] not in _PLY_TYPES for word in properties) or not {"x", "y", "z"} <= {
        word[-1] for word in properties if _PLY_TYPES[word[1]][0] == "f"
    }:
        raise DataError(path, found="vertices without x, y and z as float or double", expected=expected, fix=fix)
    order, count = _LAYOUTS[layout], int(elements[0][2])
    row_type = np.dtype([(word[2], f"{order}{_PLY_TYPES[word[1]]}") for word in properties])
    if order:
        stop_byte = head.end() + count * row_type.itemsize
        if stop_byte > len(data):
            raise DataError(path, found="a truncated file", expected=f"{count} vertices", fix=fix)
        rows = np.frombuffer(data, row_type, count, head.end()).copy()
        return head[0], rows, data[stop_byte:], None
    text = data[head.end() :].decode("ascii", "replace").splitlines()
    tokens = [line.split() for line in text[:count]]
    try:
        values = [tuple(map(float, row[: len(properties)])) for row in tokens]
        rows = np.array(values, [(word[2], "f8") for word in properties]).reshape(count)
    except ValueError as error:
        found, expected = "too few numbers", f"{count} vertices of {len(properties)} numbers"
        raise DataError(path, found=found, expected=expected, fix=fix) from error
    return head[0], rows, "".join(f"{line}\n" for line in text[count:]).encode(), tokens


_LAYOUTS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


def _read_ply(path: Path, kind: str) -> ForeignResult:
    rows = _parse_ply(path)[1]
    return ForeignResult(path, kind, points=np.stack([rows[axis].astype(np.float64) for axis in "xyz"], -1))


def _write_ply(result: ForeignResult, out: Path, factor: float) -> None:
    """Write the points; sizes of Gaussians (scale_0 and so on) are logarithms."""
    head, rows, rest, tokens = _parse_ply(result.path)
    for column, name in enumerate(rows.dtype.names or ()):
        is_size = re.fullmatch(r"scale_\d", name)
        if is_size or name in ("x", "y", "z"):
            rows[name] = rows[name] + np.log(factor) if is_size else rows[name] * factor
            for row, value in zip(tokens or (), rows[name].tolist(), strict=False):
                row[column] = f"{value:.12g}"
    body = rows.tobytes() if tokens is None else "".join(" ".join(row) + "\n" for row in tokens).encode()
    with open_atomic(out) as stream:
        stream.writelines((head, body, rest))


# -- depth maps


_POWERS = {**dict.fromkeys(DEPTH_KEYS.values(), 1), "inverse_depth": -1, "disparity": -1}
"""Power of the scale in the maps of an .npz, by name. Other arrays are copied, but one alone is depth."""


_DISPARITY = re.compile(r"disp(arity|arities)?(?![a-z])")


def read_depth(file: DepthFile) -> NDArray[np.floating]:
    """Return the depth (H, W) in a file, also if the file stores inverse depth or disparity; 0 where unknown."""
    key = _find_key(file)
    values = read_depth_map(file, key=key)
    return values if _POWERS[key] > 0 else np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def _find_key(file: DepthFile) -> str:
    """Return the key of _POWERS: an array of an .npz, else "disparity" if the file or its folder is named so."""
    path = file if isinstance(file, Path) else file.stack.path
    names = list_npz_arrays(path, max_bytes=MAX_STACK_BYTES) if path.suffix.lower() == ".npz" else ()
    is_disparity = not names and _DISPARITY.search(f"{path.parent.name}/{path.stem}".lower())
    return next((name for name in _POWERS if name in names), "disparity" if is_disparity else "depth_m")


def _read_depths(path: Path, kind: str) -> ForeignResult:
    depths = find_depth_files(path)
    return ForeignResult(path, kind, tuple(depths), depths=depths)


def _write_depths(result: ForeignResult, out: Path, factor: float) -> None:
    """Write each map with its suffix; of a stack of maps in an .npy, a folder. Inverse depth is divided."""
    if result.path.is_file() and result.path.suffix.lower() == out.suffix.lower() == ".npz":
        _write_npz(result.path, out, factor)
        return
    if any(_find_key(file) == "disparity" for file in result.depths.values()) and not _DISPARITY.search(out.name):
        raise DataError(out, found="a copy of disparity", expected="a name with it", fix=f"--out {out.name}-disparity")
    out.mkdir()
    fix = "convert it to .npy or .pfm"
    for name, file in result.depths.items():
        source = file if isinstance(file, Path) else None
        key = _find_key(file)
        values, change = read_depth_map(file, key=key), factor ** _POWERS[key]
        match source.suffix.lower() if source else ".npy":
            case ".png":
                if (most := float(values.max()) * change * PNG_PER_METRE) > GREATEST_INTEGER + 0.5:
                    raise DataError(file, found=f"{most:.0f}", expected=f"at most {GREATEST_INTEGER}", fix=fix)
                write_depth_png(out / f"{name}.png", values * change)
            case ".npz" if source:
                _write_npz(source, out / f"{name}.npz", factor)
            case ".npy":
                with open_atomic(out / f"{name}.npy") as stream:
                    np.save(stream, (values * change).astype(values.dtype))
            case ".exr":
                raise DataError(file, found="an .exr file", expected=".png, .npz, .npy, .pfm or .tiff", fix=fix)
            case suffix:
                write_image(out / f"{name}{suffix}", (values * change).astype(np.float32))


def _write_npz(path: Path, out: Path, factor: float) -> None:
    arrays: dict[str, Any] = read_npz(path, max_bytes=MAX_STACK_BYTES)
    powers = _POWERS if arrays.keys() & _POWERS.keys() else dict.fromkeys(arrays, 1)
    for key in arrays.keys() & powers.keys():
        values = arrays[key] / (1 if arrays[key].dtype.kind == "f" else PNG_PER_METRE)
        arrays[key] = np.asarray(values * factor ** powers[key], values.dtype)
    write_depth_map(out, **arrays)


_Format = tuple[
    Callable[[Path], bool], Callable[[Path, str], ForeignResult], Callable[[ForeignResult, Path, float], None]
]
FORMATS: Mapping[str, _Format] = {
    "COLMAP model": (
        lambda path: any((path / name).is_file() for name in COLMAP_FILES), _read_colmap, _write_colmap,
    ),
    "transforms.json": (
        lambda path: path.is_file() and path.suffix.lower() == ".json", _read_transforms, _write_transforms,
    ),
    "PLY file": (lambda path: path.is_file() and path.suffix.lower() == ".ply", _read_ply, _write_ply),
    "depth maps": (
        lambda path: path.is_dir() or path.suffix.lower() in (".npy", ".npz"), _read_depths, _write_depths,
    ),
    "trajectory": (Path.is_file, _read_trajectory, _write_trajectory),
}  # fmt: skip
"""For each format by its name: functions that recognize, read and write it. The first one that recognizes a file is
used.
"""
