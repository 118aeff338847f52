"""Read and write reconstructions of other programs. The content of a file determines its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.errors import DataError, StadiaError
from stadia.io.atomic_files import atomic_folder, write_lines
from stadia.io.input_files import check_writable, is_existing_path, read_lines
from stadia.io.number_rows import parse_numbers
from stadia.io.records import colmap, json_scenes, network_arrays
from stadia.io.records.poses import invert_poses, list_pose_files, read_pose_folder
from stadia.io.records.reconstruction import Reconstruction, add_depth_folder, find_image_number
from stadia.io.records.rows import read_trajectory
from stadia.io.records.trajectory import Trajectory, write_kitti_trajectory

Array = NDArray[np.float64]

EXPECTED = (
    "a COLMAP model, transforms.json, an .npz or .glb of VGGT, Depth Anything 3, MapAnything or DUSt3R, a trajectory"
    " (TUM, KITTI, EuRoC), a folder of 4x4 poses, or an export of Polycam or Record3D"
)

# -- trajectories

TRAJECTORY_NAMES = ("poses.txt", "pose.txt", "trajectory.txt", "pred_traj.txt", "groundtruth.txt", "traj.txt",
                    "poses.npy", "lidar_odometry.txt")  # fmt: skip
"""Names of the file with all poses in a folder of a recording."""

K_NAMES = ("K.txt", "intrinsics.txt", "intrinsic.txt", "pred_intrinsics.txt", "camera-intrinsics.txt",
           "intrinsic/intrinsic_color.txt", "intrinsic_color.txt", "intrinsic/intrinsic.txt")  # fmt: skip
"""Names of the file with K next to the poses: HoloLens, CUT3R and MonST3R (a row of 9 per image), 7-Scenes, ScanNet."""


def _find_trajectory(path: Path) -> Path | None:
    if path.is_file():
        return path
    if named := next((path / name for name in TRAJECTORY_NAMES if (path / name).is_file()), None):
        return named
    texts = sorted(file for suffix in (".txt", ".csv", ".log", ".jsonl") for file in path.glob(f"*{suffix}"))
    readable = [file for file in texts if len(texts) <= MAX_TEXTS and _has_poses(file)]
    return readable[0] if len(readable) == 1 else None


MAX_TEXTS = 12  # texts of a folder among which the one with poses is looked for


def _has_poses(file: Path) -> bool:
    with suppress(DataError):
        return len(read_trajectory(file, is_reference=True)) > 1
    return False


def _find_K_file(folder: Path) -> Path | None:
    named = (folder / name for name in K_NAMES if (folder / name).is_file())
    other = (file for file in sorted(folder.glob("*intrinsic*.txt")) if "depth" not in file.name)
    return next(named, next(other, None))


def _read_trajectory(path: Path) -> Reconstruction:
    """Read poses in one file; in a folder, K.txt and depth/ next to it too."""
    file = _find_trajectory(path)
    assert file is not None
    found = read_trajectory(file, is_reference=True)
    names = (
        tuple(f"{number:06d}" for number in found.frames.tolist()) if found.frames is not None else ("",) * len(found)
    )
    reconstruction = _make_reconstruction(path, names, found.T_world_camera, "trajectory", found.notes)
    return _add_neighbors(replace(reconstruction, times_s=found.times_s), *([path] if path.is_dir() else []))


def _make_reconstruction(
    path: Path, names: tuple[str, ...], T_world_camera: Array, format: str, notes: tuple[str, ...]
) -> Reconstruction:
    count = len(names)
    return Reconstruction(
        names=names,
        T_camera_world=invert_poses(T_world_camera),
        K=np.full((count, 3, 3), np.nan),
        distortion=np.zeros((count, 4)),
        sizes=np.zeros((count, 2), np.int64),
        format=format,
        path=path,
        notes=notes,
    )


def _add_neighbors(reconstruction: Reconstruction, *folders: Path) -> Reconstruction:
    """Return the reconstruction with K and depth of the first folder that has them."""
    if (file := next(filter(None, map(_find_K_file, folders)), None)) is not None:
        note, K = f"K is read from {file.name}", reconstruction.K
        try:
            K = _read_K(file, len(reconstruction))
        except DataError as error:
            if any(file == folder / name for folder in folders for name in K_NAMES):
                raise
            note = f"K of {file.name} is left out: {error}"
        reconstruction = replace(reconstruction, K=K, notes=(*reconstruction.notes, note))
    place = next((one for one in folders if (one / "depth").is_dir() or any(one.glob("*.depth.png"))), None)
    if place is None:
        return reconstruction
    try:
        return add_depth_folder(reconstruction, place)
    except DataError as error:
        return replace(reconstruction, notes=(*reconstruction.notes, f"depth maps are left out: {error}"))


def _read_K(file: Path, count: int) -> Array:
    """Return K (N, 3, 3) from a 3x3 or 4x4 matrix, or rows of fx fy cx cy or 9 numbers: one, or one for each image."""
    lines = read_lines(file, expected="a matrix K")
    rows = [parse_numbers(line.partition("#")[0].replace(",", " ").split()) for line in lines]
    rows = [row for row, line in zip(rows, lines, strict=True) if line.partition("#")[0].strip()]
    lengths = {len(row) for row in rows}
    K = np.full((1, 3, 3), np.nan)
    if (len(rows), lengths) in ((3, {3}), (4, {4}), (3, {4})):
        K = np.stack(rows[:3])[None, :, :3]
    elif lengths == {9} and len(rows) in (1, count):
        K = np.stack(rows).reshape(-1, 3, 3)
    elif lengths == {4} and len(rows) in (1, count):
        K = np.tile(np.eye(3), (len(rows), 1, 1))
        K[:, [0, 1, 0, 1], [0, 1, 2, 2]] = np.stack(rows)
    if not np.isfinite(K).all() or K[:, [0, 1], [0, 1]].min() <= 0:
        expected = "3 rows of 3 numbers, 4 rows of 4, or 9 numbers for each image"
        raise DataError(file, found=f"{len(rows)} rows of {sorted(lengths)} numbers", expected=expected, fix="check it")
    return np.tile(K, (count, 1, 1)) if len(K) == 1 else K


def _write_trajectory(reconstruction: Reconstruction, out: Path) -> None:
    """Write poses as rows of TUM, EuRoC or KITTI like the original's; a folder gets K.txt too."""
    source = _find_trajectory(reconstruction.path)
    if source is None or not reconstruction.path.is_dir():
        _write_rows(reconstruction, source, out)
        return
    with atomic_folder(out) as folder:
        _write_rows(reconstruction, source, folder / Path(source.name).with_suffix(".txt"))
        _write_K(reconstruction, folder / "K.txt")


def _write_rows(reconstruction: Reconstruction, source: Path | None, out: Path) -> None:
    T = invert_poses(reconstruction.T_camera_world)
    if reconstruction.times_s is not None:
        is_w_first = source is not None and read_trajectory(source, is_reference=True).w_first
        quaternions = Rotation.from_matrix(T[:, :3, :3]).as_quat()
        rows = np.hstack([T[:, :3, 3], quaternions[:, [3, 0, 1, 2]] if is_w_first else quaternions]).tolist()
        times = reconstruction.times_s.tolist()
        if is_w_first:
            head = "#timestamp [ns],p_x [m],p_y [m],p_z [m],q_w [],q_x [],q_y [],q_z []"
            lines = [f"{round(t * 1e9)},{','.join(map(repr, row))}" for t, row in zip(times, rows, strict=True)]
            write_lines(out, [head, *lines])
        else:
            write_lines(out, (f"{t:.9f} {' '.join(map(repr, row))}" for t, row in zip(times, rows, strict=True)))
        return
    numbers = [find_image_number(name) for name in reconstruction.names]
    if None not in numbers and all(first < second for first, second in pairwise(numbers)):  # type: ignore[operator]
        rows = T[:, :3].reshape(-1, 12).tolist()
        write_lines(out, (f"{n} {' '.join(map(repr, row))}" for n, row in zip(numbers, rows, strict=True)))
    else:
        write_kitti_trajectory(out, Trajectory(T))


def _write_K(reconstruction: Reconstruction, path: Path) -> None:
    K = reconstruction.K
    if np.isfinite(K).all():
        is_one = np.array_equal(K, np.broadcast_to(K[0], K.shape))
        rows = K[0] if is_one else K.reshape(-1, 9)
        write_lines(path, (" ".join(map(repr, row)) for row in rows.tolist()))


# -- folders with one pose per file


def _find_pose_folder(path: Path) -> Path | None:
    """Return the folder of 4x4 matrices: this one, or its subfolder pose, poses or cams."""
    folders = [path, *(path / name for name in ("pose", "poses", "cams", "cam", "extrinsics"))] if path.is_dir() else []
    for folder in folders:
        if folder.is_dir() and len(files := list_pose_files(folder, K_NAMES)) > 1:
            first = read_lines(files[0], expected="a pose") if files[0].suffix.lower() in (".txt", ".pose") else []
            if len(first) in (1, 3, 4) or files[0].suffix.lower() == ".npy" or first[:1] == ["extrinsic"]:
                return folder
    return None


def _read_poses(path: Path) -> Reconstruction:
    """Read one 4x4 matrix per image, as ScanNet and 7-Scenes store them; images without a pose are left out."""
    folder = _find_pose_folder(path)
    assert folder is not None
    listed = read_pose_folder(folder, "one 4x4 matrix per file", K_NAMES)
    if listed is None or listed.names is None:
        raise DataError(folder, found="no 4x4 matrix in the first file", expected=EXPECTED, fix="check the folder")
    known = np.flatnonzero(np.isfinite(listed.matrices).all(axis=(1, 2)))
    if not len(known):
        raise DataError(folder, found="no pose", expected="at least one", fix="check the files")
    names = tuple(listed.names[row] for row in known)
    found = _make_reconstruction(path, names, listed.matrices[known], "poses", (listed.note,))
    return _add_neighbors(found, path, path.parent)


def _write_poses(reconstruction: Reconstruction, out: Path) -> None:
    T = invert_poses(reconstruction.T_camera_world)
    is_nested = _find_pose_folder(reconstruction.path) != reconstruction.path
    with atomic_folder(out) as folder:
        inner = folder / "pose" if is_nested else folder
        inner.mkdir(exist_ok=True)
        for row, name in enumerate(reconstruction.names):
            lines = (" ".join(map(repr, values)) for values in T[row].tolist())
            write_lines(inner / Path(name or f"{row:06d}").with_suffix(".txt").name, lines)
        _write_K(reconstruction, folder / "K.txt")


# -- the table


@dataclass(frozen=True)
class ReconstructionFormat:
    """How a format is recognized, read and written.

    recognizes: whether a path has this format.
    reads: function from the path to the reconstruction.
    writes: function that writes a reconstruction to a new path; None if the format cannot be written, then
        transforms.json is.
    suffix: suffix of the written file; "" for a folder.
    is_like_original: whether a folder is written if the original is a folder, and a file with the original's suffix if
        it is a file.
    """

    recognizes: Callable[[Path], bool]
    reads: Callable[[Path], Reconstruction]
    writes: Callable[[Reconstruction, Path], None] | None
    suffix: str
    is_like_original: bool = False


FORMATS: Mapping[str, ReconstructionFormat] = {
    "colmap": ReconstructionFormat(
        lambda path: colmap.find_model(path) is not None, colmap.read_colmap, colmap.write_colmap, ""
    ),
    "transforms": ReconstructionFormat(
        json_scenes.is_transforms, json_scenes.read_transforms, json_scenes.write_transforms, ".json"
    ),
    "record3d": ReconstructionFormat(
        lambda path: json_scenes.find_record3d(path) is not None,
        json_scenes.read_record3d,
        json_scenes.write_record3d,
        ".json",
        True,
    ),
    "arkit": ReconstructionFormat(
        lambda path: bool(json_scenes.find_phone_files(path)),
        json_scenes.read_phone_files,
        json_scenes.write_phone_files,
        "",
    ),
    network_arrays.NPZ: ReconstructionFormat(
        lambda path: bool(network_arrays.find_npz(path)),
        network_arrays.read_network_npz,
        network_arrays.write_network_npz,
        ".npz",
        True,
    ),
    network_arrays.GLB: ReconstructionFormat(
        lambda path: path.is_file() and path.suffix.lower() == ".glb", network_arrays.read_glb, None, ".json"
    ),
    "trajectory": ReconstructionFormat(
        lambda path: _find_trajectory(path) is not None, _read_trajectory, _write_trajectory, ".txt", True
    ),
    "poses": ReconstructionFormat(lambda path: _find_pose_folder(path) is not None, _read_poses, _write_poses, ""),
}
"""Formats by name. The first one that recognizes a path is used."""


def read_reconstruction(path: Path) -> Reconstruction:
    """Read cameras and poses of another program.

    Intrinsics are NaN if the format has none; `Reconstruction.with_camera` adds them.

    path: the file or folder.

    Raises DataError for an unknown format or a damaged file.
    """
    path = Path(path)
    if not is_existing_path(path):
        raise DataError(path, found="no such file or folder", expected=EXPECTED, fix="check the path")
    for format in FORMATS.values():
        if format.recognizes(path):
            return format.reads(path)
    raise DataError(path, found="something else", expected=EXPECTED, fix="convert it, or check the path")


def write_reconstruction(reconstruction: Reconstruction, out: Path) -> Path:
    """Write a reconstruction in its own format, or as transforms.json if that format cannot be written.

    reconstruction: cameras and poses.
    out: the new file or folder; a file without a suffix gets the suffix of the format.

    Returns the path that was written. Raises StadiaError if it exists.
    """
    format, path = FORMATS[reconstruction.format], reconstruction.path
    suffix = format.suffix
    if format.is_like_original and format.recognizes(path):
        suffix = path.suffix if path.is_file() else ""
    out = out if out.suffix == suffix or not suffix else out.with_name(out.name + suffix)
    if is_existing_path(out):
        raise StadiaError(out, found="a file or folder", expected="a new name", fix="choose another --out")
    check_writable(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    (format.writes or json_scenes.write_transforms)(reconstruction, out)
    return out
