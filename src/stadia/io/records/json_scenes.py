"""Read and write cameras and poses in JSON: nerfstudio, instant-ngp, Blender, Polycam, 3D Scanner App and Record3D."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.cameras import make_K
from stadia.geometry.conventions import OPENGL, Direction, write_poses
from stadia.geometry.lens import Lens
from stadia.io.atomic_files import atomic_folder, write_json
from stadia.io.image_files import read_upright_size
from stadia.io.input_files import natural_sort_key, open_input, read_json, safe_join
from stadia.io.number_rows import parse_numbers
from stadia.io.records.colmap import EQUIRECTANGULAR, ColmapCamera, fit_distortion, split_camera
from stadia.io.records.formats import FIRST_PIXEL, JSON_FORMATS, JSON_PROGRAMS, POLYCAM, RECORD3D, SCANNER_APP, Format
from stadia.io.records.poses import MAX_POSES, convert_times, count_numbers, is_rotation, make_poses
from stadia.io.records.reconstruction import (
    MILLIMETRES,
    ReadDepth,
    Reconstruction,
    add_depth_folder,
    make_lenses,
    make_reconstruction,
    read_one_depth,
)

Array = NDArray[np.float64]

MAX_BYTES = 512 << 20
MAX_FILES = 100_000
MAX_FILE_BYTES = 1 << 16  # size of a file with one pose
TRANSFORMS = "transforms.json of nerfstudio or instant-ngp"
PHONE = "one JSON file per image (Polycam, 3D Scanner App)"
RECORD3D_FILE = "metadata of Record3D"
_CHECK = "check the file"


# -- poses


MATRIX_OF_FRAME = "intrinsic"
"""Key of K in each frame of ScanNet++'s pose_intrinsic_imu.json."""


def read_json_poses(path: Path, content: Any) -> Reconstruction:
    """Return the poses in a JSON file of a program of JSON_FORMATS or of Record3D, or 4x4 matrices by name.

    path: the file, for messages.
    content: its parsed content.

    Raises DataError for other content, and for a damaged pose.
    """
    if isinstance(content, dict) and isinstance(content.get("poses"), list) and "K" in content:
        return _read_record3d_poses(path, content["poses"])
    entries, keys = _list_entries(content)
    if keys is None or len(entries) > MAX_POSES:
        inside = ", ".join(map(str, list(content)[:MAX_NAMED])) if isinstance(content, dict) else type(content).__name__
        inside = inside or "an empty object"
        found = f"no poses: no rotation with a position, and no 4x4 matrix, in {inside}"
        fix = "write a transforms.json, or rows t x y z qx qy qz qw"
        raise DataError(path, found=found, expected=JSON_PROGRAMS, fix=fix)
    entries = _transpose_matrices(entries, keys)
    is_named = any(keys.name and keys.name in entry for _, entry in entries)
    clocks = ("timestamp", "time") if not is_named else ()
    timed = (key for key in clocks if all(isinstance(entry.get(key), int | float) for _, entry in entries))
    time_key = keys.time or next(timed, "")
    places = [f"{path}, frame {_find_value(entry, keys.name or 'name') or name}" for name, entry in entries]
    numbers = [read_numbers(where, keys, entry) for where, (_, entry) in zip(places, entries, strict=True)]
    T = make_poses(np.array(numbers), keys, places.__getitem__)
    times_s = None
    if time_key:
        stamps = [_find_value(entry, time_key) for _, entry in entries]
        times_s = convert_times([_read_time(*stamp) for stamp in zip(places, stamps, strict=True)])[0]
    note = _describe_keys(path, keys)
    distinct_s, order = np.unique(() if times_s is None else times_s, return_index=True)
    if times_s is not None and not is_named and 2 * len(distinct_s) > len(T) and not (np.diff(times_s) > 0).all():
        times_s = distinct_s
        left_out = f", and {len(T) - len(order)} of an equal time are left out" if len(order) < len(T) else ""
        note += f"; they are sorted by {time_key}{left_out}"
        entries, T = [entries[row] for row in order], T[order]
    names = [str(entry.get(keys.name, name)) for name, entry in entries]
    if keys.program == "Meshroom" and isinstance(content.get("views"), list):
        views = [view for view in content["views"] if isinstance(view, dict)]
        images = {str(view.get("poseId")): str(view.get("path", "")) for view in views}
        names = [images.get(name, name) for name in names]
    is_named = bool(keys.name) or not all(name.isdecimal() for name, _ in entries)
    read = make_reconstruction(
        path, T, note, names=names if is_named else None, times_s=times_s, format="transforms", pose_format=keys
    )
    matrices = [_find_value(entry, MATRIX_OF_FRAME) for _, entry in entries]
    if all(isinstance(matrix, list) and len(matrix) == 3 for matrix in matrices):
        K = np.stack([_parse_K(where, matrix) for where, matrix in zip(places, matrices, strict=True)])
        read = replace(read, K=K, notes=(*read.notes, f"K is that of '{MATRIX_OF_FRAME}' of each frame"))
    if isinstance(content, dict) and "camera_path" in content:
        return _add_path_cameras(path, read, content)
    return read


def _add_path_cameras(path: Path, read: Reconstruction, content: dict[str, Any]) -> Reconstruction:
    """Return poses of nerfstudio's camera_path.json with K by the vertical field of view `fov` of each, degrees."""
    sides = [content.get(key) for key in ("render_width", "render_height")]
    listed = content["camera_path"]
    angles = [entry.get("fov") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if len(angles) != len(read) or not all(isinstance(side, int) and 0 < side < MAX_SIDE for side in sides):
        return read
    if not all(isinstance(angle, int | float) and 0 < angle < 180 for angle in angles):
        return read
    width, height = (int(side) for side in sides if side is not None)
    focal_px = height / 2 / np.tan(np.radians(np.array(angles, np.float64)) / 2)
    K = np.stack([make_K(path, focal, focal, (width - 1) / 2, (height - 1) / 2) for focal in focal_px.tolist()])
    note = f"K is that of the field of view 'fov' in images of {width}x{height}"
    return replace(read, K=K, sizes=np.tile([width, height], (len(K), 1)), notes=(*read.notes, note))


MAX_SIDE = 1 << 16
"""Least side of an image, pixels, that no image has."""


def _describe_keys(path: Path, keys: Format) -> str:
    if keys.program == "":
        what = "4x4 matrices" if keys.keys == (MATRIX,) else f"matrices '{keys.keys[0]}'"
        return f"{what} of {path.name} are read as {keys.direction}"
    note = f"poses of {path.name} are read as {keys.program}'s"
    note += ", converted from the camera axes of OpenGL (y up, z backward) to OpenCV's" if keys.is_opengl else ""
    return note + (", inverted from world-to-camera" if keys.is_inverted else "")


def read_json_folder(folder: Path) -> Reconstruction | None:
    """Return the poses of a folder with a JSON file for each image; None if the first file has no pose, or is one of
    the apps that `read_phone_files` reads.
    """
    files = sorted(folder.glob("*.json"), key=natural_sort_key)[:MAX_FILES]
    if len(files) < 2 or find_phone_files(folder) or files[0].stat().st_size > MAX_FILE_BYTES:
        return None
    if find_pose_keys(read_json(files[0], expected=JSON_PROGRAMS)) is None:
        return None
    return read_json_poses(folder, {file.stem: read_json(file, expected=JSON_PROGRAMS) for file in files})


def _read_time(where: str, time: Any) -> str:
    """Return a number as text, or ROS's seconds and nanoseconds as one number of nanoseconds."""
    if isinstance(time, dict) and len(time) == 2:
        parts = (_read_number(where, time, next((key for key in keys if key in time), keys[0])) for keys in _STAMP)
        seconds, nanoseconds = parts
        if not (float(seconds).is_integer() and float(nanoseconds).is_integer()):
            expected = "whole numbers sec and nanosec, as ROS writes them"
            raise DataError(where, found=f"the stamp {time}", expected=expected, fix="correct the stamp")
        return str(int(seconds) * 10**9 + int(nanoseconds))
    return str(time) if type(time) is int else str(_read_number(where, {"time": time}, "time"))


_STAMP = (("sec", "secs"), ("nanosec", "nsec", "nsecs"))


_LISTS = ("frames", "shots", "poses")


def _list_entries(content: Any) -> tuple[list[tuple[str, Any]], Format | None]:
    """Return the images of a scene with their names, and their keys: the first list or mapping that contains poses.

    Keys of _LISTS come first, then other ones, then those inside.
    """
    waiting, looked = [content], 0
    while waiting and looked < MAX_LOOKED:
        values, looked = waiting.pop(0), looked + 1
        if isinstance(values, dict):
            entries = list(values.items())
            waiting += [values[key] for key in _LISTS if key in values]
        elif isinstance(values, list):
            entries = [(str(index), entry) for index, entry in enumerate(values)]
        else:
            continue
        if entries and (keys := find_pose_keys(entries[0][1])) is not None:
            if all(isinstance(entry, dict) for _, entry in entries):
                return entries, keys
            if all(_is_rigid(entry) for _, entry in entries):
                return [(name, {MATRIX: entry}) for name, entry in entries], keys
        waiting += [entry for _, entry in entries[:MAX_LOOKED] if isinstance(entry, dict | list)]
    return [], None


MATRIX = "matrix"
MAX_NAMED = 8  # keys of an unknown file that an error names
MAX_LOOKED = 64  # lists and mappings in which poses are looked for
_INVERTED = re.compile("extrinsic|w2c|world_?(?:to|2)_?cam|view", re.IGNORECASE)


def find_pose_keys(entry: Any) -> Format | None:
    """Return the first entry of JSON_FORMATS whose keys the pose of an image has, or the key of its only rigid matrix.

    The result is None if it has neither.
    """
    for format in JSON_FORMATS:
        values = _find_values(entry, format)
        if format.has_matrix:
            fits = not isinstance(values[0], dict)
        else:
            fits = _to_numbers(_list_numbers(values[0])).size == count_numbers(format) - 3
        if fits and all(
            value is not None for value in (*values, _find_value(entry, format.time) if format.time else 0)
        ):
            return format
    if _is_rigid(entry):
        return Format("", "matrix", (MATRIX,))
    own = [key for key, value in entry.items() if _is_rigid(value)] if isinstance(entry, dict) else []
    direction = Direction.WORLD_TO_CAMERA if own and _INVERTED.search(own[0]) else Direction.CAMERA_TO_WORLD
    return Format("", "matrix", (own[0],), direction=direction) if len(own) == 1 else None


def _find_values(entry: Any, format: Format) -> list[Any]:
    """Return the values of the keys of a format: the matrix, or the rotation and the position."""
    if not format.is_scattered:
        return [_find_value(entry, key) for key in format.keys]
    values = [entry.get(key) if isinstance(entry, dict) else None for key in format.keys]
    return [None if None in values else values]


def _to_numbers(values: Any) -> Array:
    """Return the numbers of nested lists as (N,); empty if there are none, or lists have several lengths."""
    try:
        return np.array(values, np.float64).ravel()
    except (TypeError, ValueError):
        return np.empty(0)


def _is_rigid(values: Any) -> bool:
    """Return whether a value has the 12 or 16 numbers of a pose, row by row or column by column."""
    numbers = _to_numbers(values) if isinstance(values, list) and len(values) in (3, 4, 12, 16) else np.empty(0)
    if numbers.size not in (12, 16) or not (np.abs(numbers) < _MAX_VALUE).all():
        return False
    R = numbers.reshape(-1, 4)[:3, :3]
    return is_rotation(R)


def _transpose_matrices(entries: list[tuple[str, Any]], keys: Format) -> list[tuple[str, Any]]:
    """Return the entries with matrices row by row, if translations are in their last rows, as in Open3D's files."""
    values = [_to_numbers(_find_value(entry, keys.keys[0])) for _, entry in entries]
    if not keys.has_matrix or keys.is_scattered or any(value.size != 16 for value in values):
        return entries
    T = np.reshape(values, (-1, 4, 4))
    if not T[:, 3, :3].any() or T[:, :3, 3].any():
        return entries
    return [(name, {**entry, keys.keys[0]: rows}) for (name, entry), rows in zip(entries, T.mT.tolist(), strict=True)]


def _find_value(entry: Any, key: str) -> Any:
    """Return the value of a key, or of a key inside another ("a.b"); None if it is missing."""
    for name in key.split("."):
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry


def _list_numbers(values: Any) -> Any:
    """Return named numbers as a list, w before x, y and z; other values as they are."""
    return [values[key] for key in "wxyz" if key in values] if isinstance(values, dict) else values


def read_numbers(where: str, format: Format, entry: Any) -> Array:
    """Return the numbers of an image's pose in the order of `format.columns`.

    where: the file and the image, for messages.
    format: the program's format.
    entry: the image's values by key.

    Raises DataError if a number is missing.
    """
    values = [_list_numbers(value) for value in _find_values(entry, format)]
    if format.has_matrix:
        return _parse_matrix(where, values[0], f"a 4x4 '{format.keys if format.is_scattered else format.keys[0]}'")
    numbers = parse_numbers([str(number) for value in values for number in np.ravel(value)])
    count = count_numbers(format)
    if len(numbers) != count:
        expected = f"{count - 3} numbers of '{format.keys[0]}' and 3 of '{format.keys[1]}'"
        raise DataError(where, found="other numbers", expected=expected, fix=_CHECK)
    return numbers


def _read_record3d_poses(path: Path, values: Any) -> Reconstruction:
    rows = np.array([parse_numbers([str(value) for value in np.ravel(row)]) for row in values if np.size(row) == 7])
    if len(rows) != len(values) or rows.ndim != 2 or len(rows) > MAX_POSES:
        raise DataError(path, found="other poses", expected="qx qy qz qw x y z of each frame", fix=_CHECK)
    note = f"poses of {path.name} are read as qx qy qz qw x y z of Record3D, one for each frame, with OpenGL's axes"
    T = make_poses(rows, RECORD3D, lambda row: str(path))
    return make_reconstruction(path, T, note, format="record3d", pose_format=RECORD3D)


_MAX_VALUE = 1e20
_MAX_SIDE_PX = 1 << 20


def _parse_matrix(where: str, values: Any, expected: str) -> Array:
    """Return the 12 numbers of the upper (3, 4) of a pose."""
    try:
        T = np.array(values, np.float64)
    except (TypeError, ValueError):
        T = np.empty(0)
    T = T.reshape(-1, 4) if T.shape in ((12,), (16,)) else T
    if T.shape not in ((4, 4), (3, 4)) or not (np.abs(T) <= _MAX_VALUE).all():
        raise DataError(where, found=f"no {expected.removeprefix('a ')}", expected=expected, fix=_CHECK)
    if len(T) == 4 and T[3, 3] > 0 and not T[3, :3].any():
        T = T / T[3, 3]  # a program scaled all 16 numbers
    return T[:3].ravel()


# -- transforms.json


def find_transforms(path: Path) -> Path | None:
    """Return a transforms.json: a file, or the one in a folder."""
    names = ("transforms.json", "transforms_train.json")
    file = path if path.is_file() else next((path / name for name in names if (path / name).is_file()), path)
    if file.suffix.lower() != ".json" or not file.is_file():
        return None
    content = read_json(file, expected=TRANSFORMS, max_bytes=MAX_BYTES)
    return file if isinstance(content, dict) and isinstance(content.get("frames"), list) else None


def read_transforms(path: Path) -> Reconstruction:
    """Read a transforms.json, whose camera belongs to all frames or to each one.

    Without a size, it is read from the image that the frame names, as Blender's files need. Depth comes from
    `depth_file_path`, integers in millimetres.

    path: the file, or its folder.

    Raises DataError for a damaged file.

    Source: nerfstudio's data conventions, and instant-ngp's scripts/colmap2nerf.py.
    """
    file = find_transforms(path)
    assert file is not None
    content = read_json(file, expected=TRANSFORMS, max_bytes=MAX_BYTES)
    listed = read_json_poses(file, content)
    K, distortion, sizes = listed.K.copy(), listed.distortion.copy(), listed.sizes.copy()
    notes = ["camera axes are converted from OpenGL's to OpenCV's"]
    known = dict[tuple[Any, ...], tuple[Array | None, Array, Lens | None, tuple[int, int], str]]()
    lenses: list[Lens | None] = [None] * len(listed)
    for row, frame in enumerate(content["frames"]):
        values = {**{key: value for key, value in content.items() if key != "frames"}, **frame}
        key = tuple(str(values.get(name)) for name in _CAMERA_KEYS)
        if key not in known:
            known[key] = _read_camera(f"{file}, frame {row}", values, file.parent)
        one, distortion[row], lenses[row], sizes[row], note = known[key]
        if one is not None:
            K[row] = one
        if note and note not in notes:
            notes.append(note)
    return replace(
        listed,
        K=K,
        distortion=distortion,
        lenses=make_lenses(lenses),
        sizes=sizes,
        times_s=None,
        depth=_find_transforms_depth(file, content),
        path=path,
        notes=tuple(notes),
    )


_CAMERA_KEYS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", "camera_model", "is_fisheye",
                "k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")  # fmt: skip


_SHUTTER_KEYS = ("transform_matrix_start", "transform_matrix_end")
"""Poses of a rolling shutter in instant-ngp's files, which are not written again: they would contradict the pose."""


def _read_number(where: str, values: Mapping[str, Any], key: str, default: float = math.nan) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (abs(value) < _MAX_VALUE or value != value):
        raise DataError(where, found=f"{key} = {str(value)[:40]}", expected="a number", fix=_CHECK)
    return float(value)


def _read_size(where: str, values: Mapping[str, Any], keys: tuple[str, str]) -> tuple[int, int]:
    """Return width and height; 0 if a key is missing."""
    width, height = (_read_number(where, values, key, 0.0) for key in keys)
    if not (0 <= width <= _MAX_SIDE_PX and 0 <= height <= _MAX_SIDE_PX):
        raise DataError(where, found=f"images of {width:g}x{height:g}", expected="a size in pixels", fix=_CHECK)
    return int(width), int(height)


@dataclass(frozen=True)
class TransformsCamera:
    """The camera of a frame, as transforms.json has it.

    model: name of its model, in capitals.
    focals: fx and fy in pixels.
    center: cx and cy, where the first pixel's center is 0.5; None without intrinsics, or an angle without a size.
    lens: k1, k2, p1, p2 and k3, or k1 to k4 of a fisheye lens.
    size: width and height; 0 if unknown.
    """

    model: str
    focals: tuple[float, float]
    center: tuple[float, float] | None
    lens: list[float]
    size: tuple[int, int]

    @property
    def is_fisheye(self) -> bool:
        """Return whether the lens has the model of OpenCV's fisheye module."""
        return self.model == "OPENCV_FISHEYE"


def parse_transforms_camera(where: str, values: Mapping[str, Any], folder: Path) -> TransformsCamera:
    """Return the camera that the keys of a frame describe.

    where: the file and the frame, for messages.
    values: the frame's values, and those of the file.
    folder: the folder of the file. Without a size, it is read from the image that `file_path` names.

    Raises DataError for a wrong number.
    """
    size = _read_size(where, values, ("w", "h"))
    if not all(size):
        size = find_image_size(folder, str(values.get("file_path", "")))
    fx, fy = (_read_number(where, values, key) for key in ("fl_x", "fl_y"))
    for focal, key, side in ((fx, "camera_angle_x", size[0]), (fy, "camera_angle_y", size[1])):
        angle = _read_number(where, values, key)
        if math.isnan(focal) and 0 < angle < math.pi and side:
            focal_px = side / 2 / math.tan(angle / 2)
            fx, fy = (focal_px, fy) if key == "camera_angle_x" else (fx, focal_px)
    fx, fy = (fy if math.isnan(fx) else fx), (fx if math.isnan(fy) else fy)
    cx, cy = (_read_number(where, values, key, side / 2) for key, side in zip(("cx", "cy"), size, strict=True))
    model = "OPENCV_FISHEYE" if values.get("is_fisheye") else str(values.get("camera_model", "OPENCV")).upper()
    keys = ("k1", "k2", "k3", "k4") if model == "OPENCV_FISHEYE" else ("k1", "k2", "p1", "p2", "k3")
    lens = [_read_number(where, values, key, 0.0) for key in keys]
    has_center = all(side or key in values for key, side in zip(("cx", "cy"), size, strict=True))
    center = (cx, cy) if has_center and not math.isnan(fx) else None
    return TransformsCamera(model, (fx, fy), center, lens, size)


def _read_camera(
    where: str, values: Mapping[str, Any], folder: Path
) -> tuple[Array | None, Array, Lens | None, tuple[int, int], str]:
    """Return K or None, the distortion, the lens of another model, (width, height) and a note for one frame."""
    camera = parse_transforms_camera(where, values, folder)
    model, lens = camera.model, camera.lens
    if model == EQUIRECTANGULAR and all(camera.size):
        return *split_camera(ColmapCamera(model, *camera.size, camera.size)), camera.size, ""
    if camera.center is None or min(camera.focals) <= 0:
        return None, np.zeros(4), None, camera.size, "no intrinsics, or an angle without the size of the images"
    if model in (EQUIRECTANGULAR, "ORTHOPHOTO", "VR180_L", "VR180_R", "OMNIDIRECTIONALSTEREO_L"):
        fix = "cut perspective views out of the images"
        raise DataError(where, found=f"the camera model {model}", expected="a perspective camera", fix=fix)
    if not camera.is_fisheye:
        lens = [*lens, *(_read_number(where, values, key, 0.0) for key in ("k4", "k5", "k6"))]
        model, lens = ("FULL_OPENCV", lens) if any(lens[4:]) else ("OPENCV", lens[:4])
    return *split_camera(ColmapCamera(model, *camera.size, (*camera.focals, *camera.center, *lens))), camera.size, ""


def find_image_size(folder: Path, name: str) -> tuple[int, int]:
    """Return width and height of the upright image that a transforms.json names, or (0, 0) without it.

    folder: the folder of the file.
    name: the image relative to it; Blender leaves out the suffix.
    """
    for suffix in ("", ".png", ".jpg"):
        try:
            file = safe_join(folder, name + suffix)
            if name and file.is_file():
                height, width = read_upright_size(file)
                return width, height
        except DataError:
            continue
    return 0, 0


def _find_transforms_depth(file: Path, content: Mapping[str, Any]) -> ReadDepth | None:
    paths = [frame.get("depth_file_path") for frame in content["frames"]]
    if not any(isinstance(path, str) for path in paths):
        return None
    scale = content.get("depth_unit_scale_factor", 1 / MILLIMETRES)
    per_metre = 1 / scale if isinstance(scale, float) and scale > 0 else MILLIMETRES

    def read(row: int) -> NDArray[np.float32]:
        path = paths[row]
        if not isinstance(path, str):
            return np.full((1, 1), np.nan, np.float32)
        return read_one_depth(safe_join(file.parent, path), per_metre)

    return read


def write_transforms(reconstruction: Reconstruction, out: Path) -> None:
    """Write a reconstruction as a transforms.json.

    A camera of all frames is written once, as by nerfstudio; else each frame has its camera. Other keys of the
    original's frames and scene are kept, by the name of the image. Relative paths still lead to the original's files.

    reconstruction: cameras and poses.
    out: the new file; a folder gets a transforms.json.
    """
    file = find_transforms(reconstruction.path) if reconstruction.format == "transforms" else None
    before = {} if file is None else read_json(file, expected=TRANSFORMS, max_bytes=MAX_BYTES)
    original = None if file is None else read_transforms(file)
    row_of = {} if original is None else {name: row for row, name in enumerate(original.names)}
    own = {str(frame.get("file_path", row)): frame for row, frame in enumerate(before.get("frames", ()))}
    target = out if out.suffix.lower() == ".json" else out / "transforms.json"
    folders = (file or reconstruction.path).absolute().parent, target.absolute().parent
    T = _write_opengl(reconstruction)
    frames, cameras = list[dict[str, Any]](), list[dict[str, Any]]()
    for row in np.flatnonzero(np.isfinite(T).all(axis=(1, 2))).tolist():
        name = reconstruction.names[row] or f"{row:06d}"
        kept = {key: value for key, value in own.get(name, {}).items() if key not in (*_CAMERA_KEYS, *_SHUTTER_KEYS)}
        camera = _describe_camera(reconstruction, row)
        if original is not None and name in row_of and _is_same_camera(reconstruction, row, original, row_of[name]):
            camera = {key: {**before, **own[name]}[key] for key in _CAMERA_KEYS if key in {**before, **own[name]}}
        kept |= {"file_path": name, "transform_matrix": T[row].tolist()}
        frames.append(kept if file is None else move_paths(kept, *folders))
        cameras.append(camera)
    scene = {key: value for key, value in before.items() if key not in (*_CAMERA_KEYS, "frames")}
    if cameras and all(camera == cameras[0] for camera in cameras):
        scene |= cameras[0]
    else:
        frames = [{**frame, **camera} for frame, camera in zip(frames, cameras, strict=True)]
    write_json(target, {**scene, "frames": frames})


def _write_opengl(reconstruction: Reconstruction) -> Array:
    """Return camera-to-world poses (N, 4, 4) with the camera axes of OpenGL."""
    return write_poses(reconstruction.T_world_camera, OPENGL)


def _is_same_camera(first: Reconstruction, row: int, second: Reconstruction, other: int) -> bool:
    same = [np.allclose(first.K[row], second.K[other], equal_nan=True), (first.sizes[row] == second.sizes[other]).all()]
    lenses = [None if one.lenses is None else one.lenses[at] for one, at in ((first, row), (second, other))]
    return all(same) and np.allclose(first.distortion[row], second.distortion[other]) and lenses[0] == lenses[1]


PATHS_OF_FRAMES = ("file_path", "mask_path", "depth_file_path")


def move_paths(frame: Mapping[str, Any], before: Path, after: Path) -> dict[str, Any]:
    """Return a frame of a transforms.json whose file moves to another folder; see `move_path`."""
    is_path = {key: key in PATHS_OF_FRAMES and isinstance(value, str) for key, value in frame.items()}
    return {key: move_path(value, before, after) if is_path[key] else value for key, value in frame.items()}


def move_transforms(file: Path, before: Path, after: Path) -> None:
    """Write the paths in a transforms.json, which are relative to the folder `before`, as relative to `after`."""
    content = read_json(file, expected=TRANSFORMS, max_bytes=MAX_BYTES)
    frames = [move_paths(frame, before.absolute(), after.absolute()) for frame in content["frames"]]
    write_json(file, {**content, "frames": frames})


def move_path(path: str, before: Path, after: Path) -> str:
    """Return a path relative to a folder as one relative to another folder; an absolute path stays.

    path: the path.
    before: the folder that it is relative to.
    after: the other folder.
    """
    if before == after or Path(path).is_absolute():
        return path
    return Path(os.path.relpath(before / path, after)).as_posix()


def _describe_camera(reconstruction: Reconstruction, row: int) -> dict[str, Any]:
    K, model, values = reconstruction.K[row], "OPENCV", reconstruction.distortion[row].tolist()
    width, height = reconstruction.sizes[row].tolist()
    keys: tuple[str, ...] = ("k1", "k2", "p1", "p2")
    lens = None if reconstruction.lenses is None else reconstruction.lenses[row]
    if lens is not None:
        if lens.model == EQUIRECTANGULAR:
            return {"camera_model": EQUIRECTANGULAR, "w": width, "h": height}
        found = FISHEYES.get(lens.model)
        if found is not None:
            model, keys, values = "OPENCV_FISHEYE", ("k1", "k2", "k3", "k4"), (*lens.params, *(0.0,) * found)
        elif lens.model == "FULL_OPENCV":
            keys, values = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"), lens.params
        else:
            K, coefficients, _ = fit_distortion(lens.distort, K, (width, height))
            values = coefficients.tolist()
    size = {"w": width, "h": height} if width and height else {}
    if not np.isfinite(K).all():
        return size
    focal = {"fl_x": float(K[0, 0]), "fl_y": float(K[1, 1])}
    center = {"cx": float(K[0, 2]) + FIRST_PIXEL, "cy": float(K[1, 2]) + FIRST_PIXEL}
    return {"camera_model": model, **focal, **center, **size, **dict(zip(keys, map(float, values), strict=True))}


FISHEYES = {"OPENCV_FISHEYE": 0, "RADIAL_FISHEYE": 2, "SIMPLE_RADIAL_FISHEYE": 3, "SIMPLE_FISHEYE": 4, "FISHEYE": 4}
"""COLMAP's lenses that are OPENCV_FISHEYE with this many zeros more."""


# -- one file per image


CORRECTED = "corrected_cameras"
"""Folder of Polycam with optimized poses, whose images are in corrected_images."""


def find_phone_files(path: Path) -> list[Path]:
    """Return the JSON files of Polycam or the 3D Scanner App in a folder or its subfolders, in natural order."""
    folders = (f"keyframes/{CORRECTED}", "keyframes/cameras", CORRECTED, "cameras", "")
    for folder in (path / name for name in folders):
        files = sorted(folder.glob("*.json"), key=natural_sort_key)[:MAX_FILES] if folder.is_dir() else []
        files = [file for file in files if file.name not in ("info.json", "mesh_info.json", "transforms.json")]
        if files and files[0].stat().st_size < MAX_FILE_BYTES and _find_phone_keys(read_json(files[0], expected=PHONE)):
            return files
    return []


def _find_phone_keys(content: Any) -> Format | None:
    keys = find_pose_keys(content)
    return keys if keys in (POLYCAM, SCANNER_APP) and ("fx" in content or "intrinsics" in content) else None


def read_phone_files(path: Path) -> Reconstruction:
    """Read the poses of ARKit in one JSON file per image, with the camera axes of OpenGL.

    Polycam writes the rows of the camera-to-world matrix as t_00 to t_23 next to fx, fy, cx and cy. The 3D Scanner App
    writes 16 numbers cameraPoseARFrame and 9 numbers intrinsics, row by row.

    path: the folder of the files, or the folder of the export above it.

    Raises DataError for a damaged file.

    Source: nerfstudio/process_data/polycam_utils.py; files of the apps.
    """
    files = find_phone_files(path)
    format = _find_phone_keys(read_json(files[0], expected=PHONE)) or POLYCAM
    T, K = np.empty((len(files), 4, 4)), np.tile(np.eye(3), (len(files), 1, 1))
    sizes, times = np.zeros((len(files), 2), np.int64), list[float]()
    for row, file in enumerate(files):
        content = read_json(file, expected=PHONE)
        if (keys := _find_phone_keys(content)) is None:
            raise DataError(file, found="no pose", expected=PHONE, fix="move other files to another folder")
        T[row] = make_poses(read_numbers(str(file), keys, content)[None], keys, [str(file)].__getitem__)[0]
        if keys is POLYCAM:
            K[row, [0, 1, 0, 1], [0, 1, 2, 2]] = [_read_number(str(file), content, key) for key in _FOCALS]
            sizes[row] = _read_size(str(file), content, ("width", "height"))
        else:
            K[row] = _parse_K(str(file), content["intrinsics"])
        times.append(_read_number(str(file), content, keys.time) if keys.time else math.nan)
    notes = ["camera axes are converted from ARKit's (OpenGL) to OpenCV's"]
    if files[0].parent.name == CORRECTED and files[0].parent.with_name("cameras").is_dir():
        notes.append(f"poses and K are those of {CORRECTED}, which belong to corrected_images, not to images")
    names = [file.stem for file in files]
    posed = make_reconstruction(path, T, "", names=names, times_s=np.array(times), format="arkit", pose_format=format)
    found = replace(posed, K=K, sizes=sizes, notes=tuple(notes))
    depth = files[0].parent.parent / "depth"
    return add_depth_folder(found, depth) if depth.is_dir() and any(depth.iterdir()) else found


_FOCALS = ("fx", "fy", "cx", "cy")


def _parse_K(where: str, values: Any) -> Array:
    try:
        K = np.array(values, np.float64).reshape(3, 3)
    except (TypeError, ValueError):
        K = np.full((3, 3), np.nan)
    K = K.T if K[0, 2] == K[1, 2] == 0 else K
    if not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
        raise DataError(where, found="no K", expected="9 numbers", fix=_CHECK)
    return K


def write_phone_files(reconstruction: Reconstruction, out: Path) -> None:
    """Write the JSON files of Polycam or of the 3D Scanner App again; other keys are copied from the original's files.

    reconstruction: cameras and poses, with the names of the original's files.
    out: the new folder.
    """
    before = {file.stem: file for file in find_phone_files(reconstruction.path)}
    T = _write_opengl(reconstruction)
    with atomic_folder(out) as folder:
        for row, name in enumerate(reconstruction.names):
            content = read_json(before[name], expected=PHONE) if name in before else {}
            K, size = reconstruction.K[row], reconstruction.sizes[row].tolist()
            if "cameraPoseARFrame" in content:
                content |= {"cameraPoseARFrame": T[row].ravel().tolist(), "intrinsics": K.ravel().tolist()}
            else:
                content |= dict(zip(POLYCAM.keys, T[row, :3].ravel().tolist(), strict=True))
                content |= dict(zip(_FOCALS, K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(), strict=True))
                content |= dict(zip(("width", "height"), size, strict=True)) if all(size) else {}
            write_json(folder / f"{name}.json", content)


# -- Record3D


def find_record3d(path: Path) -> Path | None:
    """Return the metadata file of a Record3D export: a file, or `metadata` or `metadata.json` in a folder."""
    names = ("metadata", "metadata.json", "metadata.txt")
    file = path if path.is_file() else next((path / name for name in names if (path / name).is_file()), None)
    if file is None or file.suffix.lower() not in ("", ".json", ".txt") or not _starts_with_brace(file):
        return None
    content = read_json(file, expected=RECORD3D_FILE, max_bytes=MAX_BYTES)
    return file if isinstance(content, dict) and "poses" in content and "K" in content else None


def _starts_with_brace(file: Path) -> bool:
    with open_input(file, expected=RECORD3D_FILE, max_bytes=MAX_BYTES) as stream:
        return stream.read(64).lstrip().startswith(b"{")


def read_record3d(path: Path) -> Reconstruction:
    """Read the metadata of a Record3D export: poses qx qy qz qw x y z with ARKit's camera axes, and K column by column.

    Image k is k.jpg in the folder rgbd or rgb. The intrinsics of each frame (perFrameIntrinsicCoeffs) have priority
    over K.

    path: the file or its folder.

    Raises DataError for a damaged file.

    Source: nerfstudio/process_data/record3d_utils.py, which takes these poses as camera-to-world with OpenGL's axes.
    """
    file = find_record3d(path)
    assert file is not None
    content = read_json(file, expected=RECORD3D_FILE, max_bytes=MAX_BYTES)
    listed = read_json_poses(file, content)
    count = len(listed)
    K = np.tile(_parse_K(str(file), content["K"]), (count, 1, 1))
    rows = content.get("perFrameIntrinsicCoeffs")
    if isinstance(rows, list) and len(rows) == count:
        for row, values in enumerate(rows):
            if not isinstance(values, list) or len(values) < 4:
                raise DataError(file, found=f"perFrameIntrinsicCoeffs {row}", expected="fx, fy, cx, cy", fix=_CHECK)
            numbers = dict(zip(_FOCALS, values, strict=False))
            K[row, [0, 1, 0, 1], [0, 1, 2, 2]] = [_read_number(str(file), numbers, key) for key in _FOCALS]
    times: Any = content.get("frameTimestamps")
    is_timed = isinstance(times, list) and len(times) == count and all(isinstance(t, int | float) for t in times)
    size = _read_size(str(file), content, ("w", "h"))
    return replace(
        listed,
        names=tuple(map(str, range(count))),
        K=K,
        sizes=np.tile(np.array(size, np.int64), (count, 1)),
        times_s=np.array(times, np.float64) if is_timed else None,
        path=path,
        notes=("camera axes are converted from ARKit's (OpenGL) to OpenCV's",),
    )


def write_record3d(reconstruction: Reconstruction, out: Path) -> None:
    """Write the metadata of Record3D again, with poses and intrinsics by image; other keys are the original's.

    reconstruction: cameras and poses of one image size.
    out: the new file; a folder gets a file `metadata`.
    """
    from scipy.spatial.transform import Rotation  # slow to import

    file = find_record3d(reconstruction.path)
    content = read_json(file, expected=RECORD3D_FILE, max_bytes=MAX_BYTES) if file is not None else {}
    T = _write_opengl(reconstruction)
    quaternions = Rotation.from_matrix(T[:, :3, :3]).as_quat()
    K = reconstruction.K
    content["poses"] = np.hstack([quaternions, T[:, :3, 3]]).tolist()
    content["K"] = K[0].T.ravel().tolist()
    content["perFrameIntrinsicCoeffs"] = K[:, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    if (size := reconstruction.sizes[0].tolist()) and all(size):
        content |= {"w": size[0], "h": size[1]}
    if reconstruction.times_s is not None:
        content["frameTimestamps"] = reconstruction.times_s.tolist()
    write_json(out if out.suffix or not out.is_dir() else out / "metadata", content)
