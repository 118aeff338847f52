"""Read and write reconstructions of other programs. The content of a file determines its format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.io.atomic_files import atomic_folder, write_lines
from stadia.io.input_files import (
    check_no_archive,
    check_writable,
    is_existing_path,
    read_json,
    read_json_objects,
    read_lines,
    read_text,
)
from stadia.io.number_rows import parse_numbers
from stadia.io.records import arrays, colmap, glb, json_scenes, kapture, photogrammetry
from stadia.io.records.formats import (
    ANY_TRAJECTORY,
    JSON_PROGRAMS,
    KITTI,
    KITTI_4X4,
    KITTI_COLUMNS,
    POSITION_FIRST,
    ROTATION_FIRST,
    WRITE_COLMAP_TEXT,
    TrajectoryFormat,
)
from stadia.io.records.poses import write_numbers
from stadia.io.records.reconstruction import (
    Reconstruction,
    add_depth_folder,
    check_numbers,
    find_image_number,
    make_reconstruction,
)
from stadia.io.records.rows import (
    KAPTURE_POSES,
    find_trajectories,
    list_pose_files,
    note_format,
    read_pose_folder,
    read_text_poses,
    refuse_positions,
)
from stadia.io.records.trajectory import Trajectory

Array = NDArray[np.float64]

EXPECTED = (
    "a COLMAP model, transforms.json, a result of OpenSfM, 3D Gaussian Splatting, OpenMVG, OpenMVS, Meshroom, Bundler,"
    " Metashape or RealityCapture, an .npz or .glb of VGGT, Depth Anything 3, MapAnything or DUSt3R, poses_bounds.npy"
    " of LLFF, a trajectory (TUM, KITTI, EuRoC), a folder of 4x4 poses, or an export of Polycam, Record3D or Stray"
    " Scanner"
)

# -- trajectories

COLMAP_IMAGES = ("images.txt", "images.bin")
"""The files of a COLMAP model's folder that hold its poses, the readable one first."""

CONVERSIONS = {
    ".bin": WRITE_COLMAP_TEXT,
    ".bag": "write TUM rows: evo_traj bag FILE TOPIC --save_as_tum",
    ".db3": "write TUM rows: evo_traj bag2 FOLDER TOPIC --save_as_tum",
}
"""Advice how to convert trajectory files that cannot be read, by suffix."""


TEXTS_OF_PROGRAMS = (".xml", ".out", ".csv", ".nvm", ".txt")
"""Suffixes of texts that a photogrammetry program may have written."""


def read_trajectory(path: Path, format: TrajectoryFormat | None = None, *, is_reference: bool = False) -> Trajectory:
    """Read a camera trajectory in the format that the content of the file shows.

    The size of the times determines their unit. Example: `read_trajectory(Path("groundtruth.txt")).times_s`.

    path: file or folder.
    format: expected format. It decides for eight columns: TUM (w last) or EuRoC (w first). A note reports if the file
        has another format.
    is_reference: whether the trajectory is ground truth. A duplicated timestamp is an error in a predicted trajectory,
        because its pose is ambiguous. In ground truth the first pose is used.

    Raises DataError with file and line.
    """
    path, format = Path(path), None if format is None else TrajectoryFormat(format)
    check_no_archive(path)
    read = _read_any_poses(path, format, is_reference=is_reference).trajectory()
    steps = describe_float_steps(read.T_world_camera[:, :3, 3], read.name)
    return replace(read, notes=(*read.notes, *steps))


MIN_STEP = 1e-2
"""Step of float32 numbers, in the unit of positions, that is worth a note."""


def describe_float_steps(positions: Array, name: str) -> list[str]:
    """Return a note if positions far from 0, such as UTM's, were stored as float32, and move in steps.

    positions: (N, 3).
    name: name of the file.

    Examples:
        >>> describe_float_steps(np.array([[1.25, 0.0, 0.0], [500.7, 2.0, 3.0]]), "a.txt")
        []
    """
    step = float(np.spacing(np.float32(np.abs(positions).max(initial=0))))
    far = positions[:, np.abs(positions).max(axis=0, initial=0) > MIN_STEP / np.finfo(np.float32).eps / 2]
    if step < MIN_STEP or not far.size:
        return []
    rest, rest_of_whole = (np.abs(far - rounded).max() for rounded in (far.astype(np.float32), np.rint(far)))
    if rest > MIN_STEP / 1000 or rest_of_whole <= MIN_STEP / 1000:
        return []
    fix = "subtract the first position before they become float32"
    return [f"positions of {name} are float32 numbers far from 0, in steps of {step:.2g}: {fix}"]


def read_kitti_trajectory(path: Path) -> Trajectory:
    """Read a trajectory in KITTI's format: 12 numbers per line, or 13 with the number of the video frame first.

    Raises DataError with file and line.
    """
    return read_trajectory(path, TrajectoryFormat.KITTI)


def _read_any_poses(path: Path, format: TrajectoryFormat | None, *, is_reference: bool) -> Reconstruction:
    """Return the poses of a file or folder, without cameras in most formats."""
    models = (path / name for name in (*COLMAP_IMAGES, KAPTURE_POSES))
    path = next((file for file in models if os.path.isfile(file)), path)  # noqa: PTH113 - also of names too long
    suffix = path.suffix.lower()
    if suffix in TEXTS_OF_PROGRAMS and photogrammetry.find_photogrammetry(path) is not None:
        return photogrammetry.read_photogrammetry(path, has_cameras=False)
    if suffix in (".json", ".sfm", ".jsonl"):
        if suffix == ".jsonl":
            content = read_json_objects(path, expected=JSON_PROGRAMS, fix="check the file")
        else:
            content = read_json(path, expected=JSON_PROGRAMS)
        if photogrammetry.find_program(suffix, content) is not None:
            return photogrammetry.read_photogrammetry(path, has_cameras=False)
        return note_format(json_scenes.read_json_poses(path, content), format, TrajectoryFormat.TRANSFORMS)
    if suffix == ".npy":
        return arrays.read_npy_poses(path)
    if suffix in (".npz", ".glb"):
        return _forget_names(_read_network_result(path))
    is_folder = path.is_dir() and not find_trajectories(path, format)
    if is_folder and (listed := read_pose_folder(path, ANY_TRAJECTORY)) is not None:
        return listed
    if path.name == COLMAP_IMAGES[1] and path.with_name("cameras.bin").is_file():
        images = colmap.read_colmap_images(path.parent)
        return note_format(colmap.read_colmap_poses(path, images), format, TrajectoryFormat.COLMAP)
    if suffix in CONVERSIONS:
        found, fix = f"a '{path.suffix}' file", CONVERSIONS[suffix]
        raise DataError(path, found=found, expected=ANY_TRAJECTORY, fix=fix)
    if is_folder and (listed := json_scenes.read_json_folder(path)) is not None:
        return listed
    if is_folder and json_scenes.find_phone_files(path):
        return _forget_names(json_scenes.read_phone_files(path))
    inside = path / "data" if os.path.isdir(path / "data") else path  # noqa: PTH112 - also of names too long
    if os.path.isfile(inside / f"{0:010d}.txt"):  # noqa: PTH113 - oxts of KITTI raw
        refuse_positions(path, read_text(inside / f"{0:010d}.txt", expected=ANY_TRAJECTORY).splitlines())
    return read_text_poses(path, format, is_reference=is_reference)


def _read_network_result(path: Path) -> Reconstruction:
    """Return the poses of an .npz or .glb of a network, such as VGGT or Depth Anything 3."""
    if path.suffix.lower() == ".glb":
        return glb.read_glb(path)
    if not arrays.find_npz(path):
        fix = "save the poses as numpy.save(FILE, T) with T of shape (N, 4, 4)"
        raise DataError(path, found="no array of poses", expected=arrays.EXPECTED_NPZ, fix=fix)
    return arrays.read_network_npz(path)


def _forget_names(read: Reconstruction) -> Reconstruction:
    """Return poses whose order is that of the video, whatever the names are."""
    return replace(read, names=("",) * len(read))


TRAJECTORY_NAMES = ("poses.txt", "pose.txt", "trajectory.txt", "pred_traj.txt", "groundtruth.txt", "traj.txt",
                    "poses.npy", "lidar_odometry.txt", "odometry.csv", "camera_poses.txt")  # fmt: skip
"""Names of the file with all poses in a folder of a recording."""

K_NAMES = ("K.txt", "intrinsics.txt", "intrinsic.txt", "pred_intrinsics.txt", "camera-intrinsics.txt",
           "intrinsic/intrinsic_color.txt", "intrinsic_color.txt", "intrinsic/intrinsic.txt",
           "camera_matrix.csv", "intrinsics.K.txt")  # fmt: skip
"""Names of the file with K next to the poses: HoloLens, CUT3R and MonST3R (a row of 9 per image), 7-Scenes, ScanNet,
Stray Scanner.
"""


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
    """Read poses in one file; in a folder, K.txt and depth/ next to it too, or the camera of a map of stadia."""
    file = _find_trajectory(path)
    assert file is not None
    check_no_archive(file)
    listed = _read_any_poses(file, None, is_reference=True)
    if listed.camera_of_size is not None:
        return replace(listed, path=path)
    found = listed.trajectory()
    names = (
        tuple(f"{number:06d}" for number in found.frames.tolist()) if found.frames is not None else ("",) * len(found)
    )
    read = make_reconstruction(
        path, found.T_world_camera, "", names=names, times_s=found.times_s, pose_format=listed.pose_format
    )
    read = replace(read, notes=found.notes, times_ns=found.times_ns)
    if file.suffix.lower() == ".json" and len(listed) == len(read) and np.isfinite(listed.K).all():
        read = replace(read, K=listed.K, sizes=listed.sizes)
    if path.is_dir() and colmap.find_model(model := path / "colmap") is not None:
        cameras = colmap.read_colmap(model)
        if (cameras.K[0] != cameras.K).any():  # of photos
            return cameras
        note = f"poses are read from {file.name}, and the camera from {model.name}"
        width, height = cameras.sizes[0].tolist()
        lens = None if cameras.lenses is None else cameras.lenses[0]
        read = read.with_camera(cameras.K[0], cameras.distortion[0].tolist(), (width, height), lens)
        return replace(read, notes=(*read.notes, note))
    return _add_neighbors(read, *([path] if path.is_dir() else []))


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
    elif [len(row) for row in rows] == NSVF_ROWS:
        focal, x, y, _ = rows[0]
        K = np.array([[[focal, 0, x], [0, focal, y], [0, 0, 1]]])
    elif lengths == {9} and len(rows) in (1, count):
        K = np.stack(rows).reshape(-1, 3, 3)
    elif lengths == {4} and len(rows) in (1, count):
        K = np.tile(np.eye(3), (len(rows), 1, 1))
        K[:, [0, 1, 0, 1], [0, 1, 2, 2]] = np.stack(rows)
    if not np.isfinite(K).all() or K[:, [0, 1], [0, 1]].min() <= 0:
        expected = "3 rows of 3 numbers, 4 rows of 4, or 9 numbers for each image"
        raise DataError(file, found=f"{len(rows)} rows of {sorted(lengths)} numbers", expected=expected, fix="check it")
    return np.tile(K, (count, 1, 1)) if len(K) == 1 else K


NSVF_ROWS = [4, 3, 1, 1, 2]
"""Numbers in the rows of NSVF's intrinsics.txt: f cx cy 0, three zeros, the nearest depth, the scale, and the size."""


KEPT_ROWS = (KITTI_4X4, KITTI_COLUMNS, POSITION_FIRST, ROTATION_FIRST)
"""Rows without times that are written as they were read; others are written as KITTI's."""


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
    T = reconstruction.T_world_camera
    if reconstruction.times_s is not None:
        is_w_first = source is not None and read_trajectory(source, is_reference=True).w_first
        from scipy.spatial.transform import Rotation  # slow to import

        quaternions = Rotation.from_matrix(T[:, :3, :3]).as_quat()
        numbers = np.hstack([T[:, :3, 3], quaternions[:, [3, 0, 1, 2]] if is_w_first else quaternions]).tolist()
        if reconstruction.times_ns is not None:
            times_ns = reconstruction.times_ns.tolist()
        else:
            times_ns = [round(time_s * 1e9) for time_s in reconstruction.times_s.tolist()]
        if is_w_first:
            head = "#timestamp [ns],p_x [m],p_y [m],p_z [m],q_w [],q_x [],q_y [],q_z []"
            lines = [f"{t},{','.join(map(repr, row))}" for t, row in zip(times_ns, numbers, strict=True)]
            write_lines(out, [head, *lines])
        else:
            times_s = [Decimal(t).scaleb(-9) for t in times_ns]
            write_lines(out, (f"{t:.9f} {' '.join(map(repr, row))}" for t, row in zip(times_s, numbers, strict=True)))
        return
    format = reconstruction.pose_format if reconstruction.pose_format in KEPT_ROWS else KITTI
    lines = [" ".join(map(repr, row)) for row in write_numbers(T, format).tolist()]
    frames = [find_image_number(name) for name in reconstruction.names]
    if None not in frames and all(first < second for first, second in pairwise(frames)):  # type: ignore[operator]
        lines = [f"{number} {line}" for number, line in zip(frames, lines, strict=True)]
    write_lines(out, lines)


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
    if listed is None:
        raise DataError(folder, found="no 4x4 matrix in the first file", expected=EXPECTED, fix="check the folder")
    listed = replace(listed, K=_read_K_of_poses(folder, listed.names, listed.K))
    known = np.flatnonzero(np.isfinite(listed.T_camera_world).all(axis=(1, 2)))
    if not len(known):
        raise DataError(folder, found="no pose", expected="at least one", fix="check the files")
    return _add_neighbors(replace(listed.rows(known), path=path), path, path.parent)


def _read_K_of_poses(folder: Path, names: Sequence[str], K: Array) -> Array:
    """Return K (N, 3, 3) below the word intrinsic in the files of poses, as MVSNet writes it; `K` without that word."""
    found = K.copy()
    for row, name in enumerate(names):
        if not name.lower().endswith(".txt"):
            continue
        lines = [line.split() for line in read_lines(folder / name, expected="a pose", max_bytes=1 << 20)]
        start = next((place for place, words in enumerate(lines) if words[:1] == ["intrinsic"]), None)
        if start is None:
            return K
        numbers = parse_numbers([word for words in lines[start + 1 : start + 4] for word in words])
        if len(numbers) != 9:
            expected = "3 rows of 3 numbers below intrinsic"
            raise DataError(folder / name, found=f"{len(numbers)} numbers", expected=expected, fix="check the file")
        found[row] = numbers.reshape(3, 3)
    return found


def _write_poses(reconstruction: Reconstruction, out: Path) -> None:
    T = reconstruction.T_world_camera
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

    finds: function from a path to its files in this format, if it has this format; else to a value that is false.
    reads: function from the path to the reconstruction.
    writes: function that writes a reconstruction to a new path; None if the format cannot be written, then
        transforms.json is.
    suffix: suffix of the written file; "" for a folder.
    is_like_original: whether a folder is written if the original is a folder, and a file with the original's suffix if
        it is a file.
    """

    finds: Callable[[Path], object]
    reads: Callable[[Path], Reconstruction]
    writes: Callable[[Reconstruction, Path], None] | None
    suffix: str
    is_like_original: bool = False


FORMATS: Mapping[str, ReconstructionFormat] = {
    "colmap": ReconstructionFormat(colmap.find_model, colmap.read_colmap, colmap.write_colmap, ""),
    "transforms": ReconstructionFormat(
        json_scenes.find_transforms, json_scenes.read_transforms, json_scenes.write_transforms, ".json"
    ),
    "record3d": ReconstructionFormat(
        json_scenes.find_record3d, json_scenes.read_record3d, json_scenes.write_record3d, ".json", True
    ),
    "arkit": ReconstructionFormat(
        json_scenes.find_phone_files, json_scenes.read_phone_files, json_scenes.write_phone_files, ""
    ),
    "photogrammetry": ReconstructionFormat(
        photogrammetry.find_photogrammetry, photogrammetry.read_photogrammetry, None, ".json"
    ),
    "kapture": ReconstructionFormat(kapture.find_kapture, kapture.read_kapture, None, ".json"),
    "idr": ReconstructionFormat(arrays.is_idr_npz, arrays.read_idr_npz, None, ".json"),
    "npz": ReconstructionFormat(arrays.find_npz, arrays.read_network_npz, arrays.write_network_npz, ".npz", True),
    "npy": ReconstructionFormat(arrays.find_npy, arrays.read_npy_poses, arrays.write_npy_poses, ".npy"),
    "glb": ReconstructionFormat(glb.is_glb, glb.read_glb, None, ".json"),
    "trajectory": ReconstructionFormat(_find_trajectory, _read_trajectory, _write_trajectory, ".txt", True),
    "poses": ReconstructionFormat(_find_pose_folder, _read_poses, _write_poses, ""),
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
    name = find_format(path)
    if name is None:
        raise DataError(path, found="something else", expected=EXPECTED, fix="convert it, or check the path")
    reconstruction = FORMATS[name].reads(path)
    check_numbers(reconstruction)
    return reconstruction


def find_format(path: Path) -> str | None:
    """Return the name of the first format of FORMATS that recognizes a file or folder; None for an unknown one."""
    return next((name for name, format in FORMATS.items() if format.finds(path)), None)


def write_reconstruction(reconstruction: Reconstruction, out: Path) -> Path:
    """Write a reconstruction in its own format, or as transforms.json if that format cannot be written.

    reconstruction: cameras and poses.
    out: the new file or folder; a file without a suffix gets the suffix of the format.

    Returns the path that was written. Raises StadiaError if it exists.
    """
    out = choose_output(reconstruction, out)
    check_writable(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    (FORMATS[reconstruction.format].writes or json_scenes.write_transforms)(reconstruction, out)
    return out


def choose_output(reconstruction: Reconstruction, out: Path) -> Path:
    """Return the path at which `write_reconstruction` writes. Raises StadiaError if it exists.

    reconstruction: cameras and poses.
    out: the new file or folder; a file without a suffix gets the suffix of the format.
    """
    format, path = FORMATS[reconstruction.format], reconstruction.path
    suffix = format.suffix
    if format.is_like_original and format.finds(path):
        suffix = path.suffix if path.is_file() else ""
    out = out if out.suffix == suffix or not suffix else out.with_name(out.name + suffix)
    check_new_path(out)
    return out


def check_new_path(out: Path) -> None:
    """Raise StadiaError if a path exists."""
    if os.path.lexists(out):  # also a link to nowhere, through which a file would be written elsewhere
        raise StadiaError(out, found="a file, a folder or a link", expected="a new name", fix="choose another name")
