"""Read and write poses in arrays: .npy files, and the .npz archives of reconstruction networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.conventions import write_poses
from stadia.io.array_files import (
    MAX_STACK_BYTES,
    StackedArray,
    list_npz_arrays,
    open_npz,
    read_npy,
    read_npz,
    read_npz_shape,
)
from stadia.io.atomic_files import atomic_folder, open_atomic
from stadia.io.input_files import natural_sort_key
from stadia.io.records import formats
from stadia.io.records.formats import Format
from stadia.io.records.poses import MAX_POSES, convert_times, make_poses, read_seven_numbers, write_numbers
from stadia.io.records.reconstruction import ReadDepth, Reconstruction, clean_depth, make_reconstruction

Array = NDArray[np.float64]

EXPECTED_NPZ = "an .npz with poses, such as extrinsic (N, 3, 4) and intrinsic (N, 3, 3) of VGGT"


LLFF_BOUNDS = "poses_bounds.npy"
"""Name of LLFF's file in the folder of a scene."""

_LLFF_COLUMNS = 17  # 3x5 numbers, [R | t | height, width, focal length], and the nearest and the farthest depth


def find_npy(path: Path) -> Path | None:
    """Return an .npy file, or the poses_bounds.npy of LLFF in a folder; None for another path."""
    if path.is_dir():
        return path / LLFF_BOUNDS if (path / LLFF_BOUNDS).is_file() else None
    return path if path.suffix.lower() == ".npy" else None


def read_npy_poses(path: Path) -> Reconstruction:
    """Read the poses of an .npy file.

    Each pose is a matrix (3, 4) or (4, 4), its 12 or 16 numbers, x y z qx qy qz qw, a time and these, or 17 numbers of
    LLFF's poses_bounds.npy, which has the size of the images and their focal length, too.

    path: the file, or a folder with a poses_bounds.npy.

    Raises DataError for an array of a different shape.
    """
    file = find_npy(path)
    assert file is not None
    stored = np.asarray(read_npy(file), np.float64)
    rows = stored.reshape(len(stored), -1) if stored.ndim == 3 and stored.shape[1:] in ((3, 4), (4, 4)) else stored
    count = rows.shape[1] if rows.ndim == 2 else 0
    if count not in (7, 8, 12, 16, _LLFF_COLUMNS) or not 0 < len(rows) <= MAX_POSES:
        expected = "(N, 4, 4), (N, 3, 4), (N, 12), (N, 7) with x y z qx qy qz qw, (N, 8) with t first, (N, 17) of LLFF"
        fix = "save the poses as numpy.save(FILE, T) with T of shape (N, 4, 4)"
        raise DataError(file, found=f"an array of shape {stored.shape}", expected=expected, fix=fix)
    if count == _LLFF_COLUMNS:
        return _read_llff(path, file, rows)
    format, times_s = formats.KITTI, None
    note = f"{len(rows)} camera-to-world matrices are read from {file.name}"
    if count in (7, 8):
        seven = read_seven_numbers(file, file.name, rows[:, count - 7 :])
        if seven is None:
            found, expected = "no quaternion of length 1 in 7 numbers", "x y z qx qy qz qw"
            raise DataError(file, found=found, expected=expected, fix="check the file")
        format, note = seven
        times_s = convert_times([repr(time) for time in rows[:, 0].tolist()])[0] if count == 8 else None
        rows = rows[:, count - 7 :]
    T = make_poses(rows, format, lambda row: f"{file}, pose {row}")
    return make_reconstruction(path, T, note, times_s=times_s, format="npy", pose_format=format)


def _read_llff(path: Path, file: Path, rows: Array) -> Reconstruction:
    """Read the rows (N, 17) of LLFF, whose loader assigns poses to images in the order of their names as text.

    Source: LLFF, README and llff/poses/pose_utils.py (load_data).
    """
    format, columns = formats.LLFF, rows[:, :15].reshape(-1, 3, 5)
    T = make_poses(columns[:, :, :4].reshape(-1, 12), format, lambda row: f"{file}, pose {row}")
    note = f"poses of {file.name} are converted from LLFF's axes (down, right, back)"
    read = make_reconstruction(path, T, note, format="npy", pose_format=format)
    height, width, focal = columns[:, :, 4].T
    is_camera = (np.isfinite(columns[:, :, 4]) & (columns[:, :, 4] >= 1)).all() and columns[:, :, 4].max() <= _MAX_SIDE
    if not is_camera:
        return replace(read, is_text_order=True, notes=(*read.notes, "height, width and focal length are no numbers"))
    K = np.tile(np.eye(3), (len(T), 1, 1))
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = np.column_stack([width - 1, height - 1]) / 2
    sizes = np.column_stack([width, height]).round().astype(np.int64)
    return replace(read, K=K, sizes=sizes, is_text_order=True)


_MAX_SIDE = 1 << 20


def write_npy_poses(reconstruction: Reconstruction, out: Path) -> None:
    """Write poses as an .npy file with an array like the original's, (N, 4, 4) without an original.

    LLFF's array has one focal length, so that fx and fy become their geometric mean, and the principal point the middle
    of the image. The two depths of each pose are the original's.

    reconstruction: cameras and poses.
    out: the new file.
    """
    file = find_npy(reconstruction.path)
    before = np.asarray(read_npy(file), np.float64) if file is not None and file.is_file() else np.empty((0, 4, 4))
    format, T = reconstruction.pose_format, reconstruction.T_world_camera
    if before.ndim == 2 and before.shape[1] == _LLFF_COLUMNS:
        stored = _write_llff(reconstruction, before)
    elif before.ndim == 2 and before.shape[1] in (7, 8):
        stored = write_numbers(T, format)
        if before.shape[1] == 8 and reconstruction.times_s is not None:
            stored = np.column_stack([reconstruction.times_s, stored])
    else:
        stored = write_poses(T, format.axes, format.direction)
        stored = stored if before.shape[-2:] == (4, 4) or before.shape[-1] == 16 else stored[:, :3]
        stored = stored.reshape(len(stored), -1) if before.ndim == 2 else stored
    with open_atomic(out) as stream:
        np.save(stream, stored)


def _write_llff(reconstruction: Reconstruction, before: Array) -> Array:
    """Return the rows (N, 17) of LLFF, in the order of the images' names as text."""
    names, count = reconstruction.names, len(reconstruction)
    order = np.argsort(np.array(names), kind="stable") if all(names) else np.arange(count)
    K, sizes = reconstruction.K[order], reconstruction.sizes[order]
    poses = write_numbers(reconstruction.T_world_camera[order], reconstruction.pose_format).reshape(-1, 3, 4)
    focal = np.sqrt(K[:, 0, 0] * K[:, 1, 1])
    camera = np.column_stack([sizes[:, 1], sizes[:, 0], focal])
    known = before[:, :15].reshape(-1, 3, 5)
    centers = np.linalg.norm(poses[:, None, :, 3] - known[None, :, :, 3], axis=2)
    nearest = centers.argmin(1) if len(before) != count or centers.min(1).max() < _SAME_CENTER else np.arange(count)
    camera = np.where(np.isfinite(focal)[:, None], camera, known[nearest, :, 4])
    return np.hstack([np.concatenate([poses, camera[:, :, None]], 2).reshape(-1, 15), before[nearest, 15:]])


_SAME_CENTER = (
    1e-9  # distance of two positions up to which a pose is the original's, maybe in another place of the list
)


# -- npz


def is_idr_npz(path: Path) -> bool:
    """Return whether a file is the cameras.npz of IDR, NeuS or MonoSDF, with a projection matrix for each image."""
    return path.is_file() and path.suffix.lower() == ".npz" and formats.IDR.keys[0] in list_npz_arrays(path)


def read_idr_npz(path: Path) -> Reconstruction:
    """Read the cameras.npz of IDR, NeuS or MonoSDF: world_mat_k, which projects points to pixels of image k.

    path: the file.

    Raises DataError for a matrix that is no projection.
    """
    from scipy.linalg import rq  # slow to import

    arrays = read_npz(path)
    numbers = sorted(int(name.rpartition("_")[2]) for name in arrays if _WORLD_MATRIX.fullmatch(name))
    T, K = np.tile(np.eye(4), (len(numbers), 1, 1)), np.empty((len(numbers), 3, 3))
    for row, number in enumerate(numbers):
        where, P = f"{path}, array 'world_mat_{number}'", np.asarray(arrays[f"world_mat_{number}"], np.float64)
        with np.errstate(all="ignore"):
            is_projection = P.shape in ((4, 4), (3, 4)) and np.isfinite(P).all() and abs(np.linalg.det(P[:3, :3])) > 0
        if not is_projection:
            found, fix = f"an array of shape {P.shape}", "save K @ [R | t], (4, 4), of world-to-camera"
            raise DataError(where, found=found, expected="a projection matrix", fix=fix)
        upper, R = rq(P[:3, :3] * np.sign(np.linalg.det(P[:3, :3])))
        signs = np.diag(np.sign(np.diag(upper)))
        T[row, :3, :3], K[row] = signs @ R, upper @ signs / upper[2, 2] * signs[2, 2]
        T[row, :3, 3] = -T[row, :3, :3] @ -np.linalg.solve(P[:3, :3], P[:3, 3])
    T_world_camera = make_poses(T.reshape(-1, 16), formats.IDR, lambda row: f"{path}, camera {numbers[row]}")
    names = [f"{number:06d}" for number in numbers]
    note = "world_mat of each image is split into K and a world-to-camera pose; scale_mat is not used"
    read = make_reconstruction(path, T_world_camera, note, names=names, format="idr", pose_format=formats.IDR)
    K[:, 0, 1] = 0
    return replace(read, K=K)


_WORLD_MATRIX = re.compile(r"world_mat_\d{1,6}")


def find_npz_format(names: Sequence[str]) -> tuple[Format, str] | None:
    """Return the format of an .npz and the name of its poses; None if it has no poses."""
    found = ((format, _first(format.keys, names)) for format in formats.NPZ_FORMATS)
    return next(((format, name) for format, name in found if name), None)


def _first(candidates: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in candidates if name in names), "")


def find_npz(path: Path) -> list[Path]:
    """Return the .npz files with poses: a file, the usual files of an output folder, or one file per image."""
    if path.is_file():
        files = [path] if path.suffix.lower() == ".npz" else []
    else:
        usual = ("predictions.npz", "results.npz", "exports/npz/results.npz", "exports/mini_npz/results.npz")
        files = [path / name for name in usual if (path / name).is_file()][:1]
        for folder in (path, path / "camera", path / "cameras"):
            files = files or sorted(folder.glob("*.npz"), key=natural_sort_key)[:MAX_POSES]
    return files if files and find_npz_format(list_npz_arrays(files[0], max_bytes=MAX_STACK_BYTES)) else []


def read_network_npz(path: Path) -> Reconstruction:
    """Read cameras, poses and depth that a network saved as .npz.

    Names are the names of the files if each image has one file. K belongs to the images that the network saw: they have
    the size of the depth maps or images in the archive.

    path: the file, or a folder with it.

    Raises DataError for arrays without poses or with wrong shapes.
    """
    files = find_npz(path)
    found = find_npz_format(list_npz_arrays(files[0], max_bytes=MAX_STACK_BYTES))
    assert found is not None
    format, pose_name = found
    parts = [_read_arrays(file, format, pose_name) for file in files]
    T, K = np.concatenate([T for T, _, _ in parts]), np.concatenate([K for _, K, _ in parts])
    sizes = np.concatenate([sizes for _, _, sizes in parts])
    is_named = len(files) > 1 and len(T) == len(files)
    names = [file.stem for file in files] if is_named else None
    lost = int((~np.isfinite(T).all(axis=(1, 2))).sum())
    note = f"'{pose_name}' is read as {format.direction}"
    note += f"; {lost} of {len(T)} poses have inf or NaN, and are left out" if lost else ""
    return replace(
        make_reconstruction(path, T, note, names=names, format="npz", pose_format=format),
        K=K,
        sizes=sizes,
        depth=_find_npz_depth(files[0], len(T)) if len(files) == 1 else None,
    )


def _read_arrays(path: Path, format: Format, pose_name: str) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return T_world_camera (N, 4, 4), K (N, 3, 3), and the sizes (N, 2)."""
    names = list_npz_arrays(path, max_bytes=MAX_STACK_BYTES)
    wanted = {
        pose_name,
        *(_first(keys, names) for keys in (formats.NPZ_INTRINSICS, formats.NPZ_FOCALS, formats.NPZ_CENTERS)),
    }
    arrays = read_npz(path, only=wanted - {""}, max_bytes=MAX_STACK_BYTES)
    if pose_name not in arrays:
        raise DataError(
            path,
            found=f"arrays {list(names)[:20]}",
            expected=EXPECTED_NPZ,
            fix="save the result again with one of these sets of arrays",
        )
    poses = _drop_batch(np.asarray(arrays[pose_name], np.float64), 3)
    if poses.ndim != 3 or poses.shape[1:] not in ((3, 4), (4, 4)) or not 0 < len(poses) <= MAX_POSES:
        raise _make_shape_error(path, pose_name, poses, "(N, 3, 4) or (N, 4, 4)")
    count = len(poses)
    if not np.isfinite(poses).all(axis=(1, 2)).any():
        where = f"{path}, array '{pose_name}'"
        raise DataError(where, found="inf or NaN in each pose", expected="poses", fix="export the images that have one")
    T = make_poses(poses.reshape(count, -1), format, lambda row: f"{path}, array '{pose_name}', pose {row}")
    size = _find_size(path, names, count)
    if name := _first(formats.NPZ_INTRINSICS, names):
        K = _drop_batch(np.asarray(arrays[name], np.float64), 3)
        K = np.tile(K, (count, 1, 1)) if K.shape == (3, 3) else K
        if K.shape != (count, 3, 3) or not np.isfinite(K).all():
            raise _make_shape_error(path, name, K, f"finite ({count}, 3, 3)")
        size = size or _find_centered_size(K)
    elif name := _first(formats.NPZ_FOCALS, names):
        K = _make_K(path, name, arrays, size, count)
    else:
        K = np.full((count, 3, 3), np.nan)
    return T, K, np.tile(np.array(size or (0, 0), np.int64), (count, 1))


def _drop_batch(values: Array, dimensions: int) -> Array:
    """Return an array without axes of length 1 in front of, or after, the images' axis."""
    while values.ndim > dimensions and 1 in values.shape[:2]:
        values = values.squeeze(values.shape.index(1))
    return values[None] if dimensions == 3 and values.ndim == 2 and values.shape[1] == 4 else values


def _make_shape_error(path: Path, name: str, values: Array, expected: str) -> DataError:
    found = f"an array '{name}' of shape {values.shape}"
    return DataError(path, found=found, expected=expected, fix="save one pose, K and depth map for each image")


def _make_K(path: Path, name: str, arrays: Mapping[str, Any], size: tuple[int, int] | None, count: int) -> Array:
    """Return K from focal lengths, and principal points or the middle of the images, as DUSt3R has it."""
    focals = np.asarray(arrays[name], np.float64).reshape(-1)
    focals = np.tile(focals, count) if len(focals) == 1 else focals
    if len(focals) not in (count, 2 * count) or not (np.isfinite(focals) & (focals > 0)).all():
        raise _make_shape_error(path, name, np.asarray(arrays[name]), f"({count},) or ({count}, 2), in pixels")
    K = np.tile(np.eye(3), (count, 1, 1))
    K[:, [0, 1], [0, 1]] = focals.reshape(count, -1)
    if center_name := _first(formats.NPZ_CENTERS, tuple(arrays)):
        centers = np.asarray(arrays[center_name], np.float64).reshape(-1, 2)
        if len(centers) not in (1, count):
            raise _make_shape_error(path, center_name, centers, f"({count}, 2)")
        K[:, :2, 2] = centers
    elif size is not None:
        K[:, :2, 2] = np.array(size) / 2
    else:
        K[:] = np.nan
    return K


def _find_centered_size(K: Array) -> tuple[int, int] | None:
    """Return (width, height) if all principal points are the middle of images of one size, as VGGT's are."""
    sizes = 2 * K[:, :2, 2]
    whole = np.rint(sizes[0])
    is_centered = np.abs(sizes - whole).max() < 1e-2 and whole.min() > 0
    return (int(whole[0]), int(whole[1])) if is_centered else None


def _find_size(path: Path, names: Sequence[str], count: int) -> tuple[int, int] | None:
    """Return (width, height) of the depth maps, points or images of an .npz."""
    for keys in (formats.NPZ_DEPTH, formats.NPZ_POINTS, formats.NPZ_IMAGES):
        if name := _first(keys, names):
            shape = read_npz_shape(path, name)
            sides = [side for side in shape[1:] if side not in (1, 3)]
            if shape and shape[0] == count and len(sides) == 2:
                return sides[1], sides[0]
            if len(shape) > 2 and 1 in shape[:2]:  # a batch axis
                sides = [side for side in shape if side not in (1, 3, count)]
                return (sides[1], sides[0]) if len(sides) == 2 else None
    return None


def _find_npz_depth(path: Path, count: int) -> ReadDepth | None:
    name = _first(formats.NPZ_DEPTH, list_npz_arrays(path, max_bytes=MAX_STACK_BYTES))
    if not name or len(read_npz_shape(path, name)) < 3:
        return None
    opened = list[StackedArray]()

    def read(row: int) -> NDArray[np.float32]:
        if not opened:
            opened.append(open_npz(path, name))
        stack = opened[0]
        is_batched = stack.shape[0] == 1 and count > 1
        values = stack.read(0)[row] if is_batched else stack.read(row)
        values = values.squeeze() if values.ndim > 2 else values
        if values.ndim != 2 or len(stack) not in (1, count):
            raise _make_shape_error(path, name, np.empty(stack.shape), f"({count}, H, W)")
        return clean_depth(values)

    return read


def write_network_npz(reconstruction: Reconstruction, out: Path) -> None:
    """Write poses, intrinsics and depth as .npz, with the names and the direction of the original's arrays.

    Other arrays are left out. A folder gets the files that the original has.

    reconstruction: cameras and poses.
    out: the new folder if the original is one, else the new file, which is like VGGT's without an original.
    """
    path, files = reconstruction.path, find_npz(reconstruction.path)
    names = list_npz_arrays(files[0], max_bytes=MAX_STACK_BYTES) if files else ("extrinsic", "intrinsic", "depth")
    if not path.is_dir() or not files:
        _save(out, _collect_arrays(reconstruction, names))
        return
    with atomic_folder(out) as folder:
        inner = folder / files[0].relative_to(path)
        inner.parent.mkdir(parents=True, exist_ok=True)
        if len(files) == 1:
            _save(inner, _collect_arrays(reconstruction, names))
        for row, name in enumerate(reconstruction.names if len(files) > 1 else ()):
            arrays = _collect_arrays(reconstruction.rows([row]), names)
            _save(inner.with_name(f"{name}.npz"), {key: values[0] for key, values in arrays.items()})


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with open_atomic(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _collect_arrays(reconstruction: Reconstruction, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a reconstruction, called as in a file with these names."""
    found = find_npz_format(names)
    assert found is not None
    format, pose_name = found
    poses = write_poses(reconstruction.T_world_camera, format.axes, format.direction)
    poses = poses[:, :3] if format.is_inverted else poses
    arrays: dict[str, NDArray[Any]] = {pose_name: poses}
    if np.isfinite(reconstruction.K).all():
        arrays[_first(formats.NPZ_INTRINSICS, names) or "intrinsics"] = reconstruction.K
        if name := _first(formats.NPZ_FOCALS, names):
            arrays[name] = reconstruction.K[:, 0, 0]
    if reconstruction.depth is not None:
        maps = [reconstruction.depth(row) for row in range(len(reconstruction))]
        if len({one.shape for one in maps}) == 1:
            arrays[_first(formats.NPZ_DEPTH, names) or "depth"] = np.nan_to_num(np.stack(maps), nan=0.0)
    return arrays
