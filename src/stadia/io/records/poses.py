"""Read poses of pose graphs, arrays, and folders with one matrix per file."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.array_files import read_npy
from stadia.io.input_files import natural_sort_key, read_text
from stadia.io.records.times import convert_times

Array = NDArray[np.float64]

OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # T_opengl_camera: y up and z backward; its own inverse
LLFF_AXES = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])  # T_llff_camera: down, right, back
MAX_POSES = 400_000
MAX_POSE_FILES = 100_000
UNIT_TOLERANCE = 1e-2
ROTATION_TOLERANCE = 1e-2  # files have at least 6 digits
MIN_ROWS = 3  # number of rows from which lengths of 1 are no coincidence
_POSE_SUFFIXES = (".txt", ".pose", ".npy", ".mat")
_CHECK = "check the file"


@dataclass(frozen=True)
class PoseList:
    """Camera poses that were read from a file.

    matrices: (N, 4, 4) T_world_camera with OpenCV's camera axes; NaN for an image without a pose.
    names: names of the images; None if pose k belongs to video frame k.
    note: sentence for the user about what was converted.
    times_s: (N,) times in seconds; None without times.
    """

    matrices: Array
    names: list[str] | None
    note: str
    times_s: Array | None = None


def make_matrices(R: Array, t: Array) -> Array:
    """Return rigid motions (N, 4, 4) with rotations R (N, 3, 3) and translations t (N, 3)."""
    T = np.tile(np.eye(4), (len(t), 1, 1))
    T[:, :3, :3], T[:, :3, 3] = R, t
    return T


def find_nearest_rotation(what: str, R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation nearest to a matrix R (3, 3) that is nearly one.

    what: the owner of R that an error message names.
    R: the matrix.

    Raises DataError if R differs from a rotation by more than ROTATION_TOLERANCE.
    """
    off = float(np.abs(R @ R.T - np.eye(3)).max())
    if off > ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        fix = "check the order of the columns: R and t row by row"
        found = f"a 3x3 block with determinant {np.linalg.det(R):.3f}, {off:.2g} off orthonormal"
        raise DataError(what, found=found, expected="a rotation", fix=fix)
    U, _, Vt = np.linalg.svd(R)
    return U @ Vt


def invert_poses(T: Array) -> Array:
    """Return the inverses of poses (N, 4, 4)."""
    return np.asarray(np.linalg.inv(T), np.float64)


def _numbers(path: Path, what: str, values: Any, shape: tuple[int, ...]) -> Array:
    """Return finite numbers in this shape, whose first side may be -1. Raises DataError."""
    try:
        numbers = np.array(values, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError):
        numbers = np.full((1,), np.nan)
    if not numbers.size or len(numbers) > MAX_POSES or not np.isfinite(numbers).all():
        expected = f"numbers of shape {shape}".replace("-1", "N")
        raise DataError(path, found=f"no numbers in {what}", expected=expected, fix=_CHECK)
    return numbers


def check_unit_quaternions(path: object, quaternions: Array) -> None:
    """Raise DataError if a quaternion of rows (N, 4) does not have length 1.

    path: the file, for messages.
    quaternions: the rows.
    """
    lengths = np.linalg.norm(quaternions, axis=1)
    if (np.abs(lengths - 1) > UNIT_TOLERANCE).any():
        row = int(np.argmax(np.abs(lengths - 1)))
        found = f"a quaternion of length {lengths[row]:.4g} in pose {row}"
        raise DataError(path, found=found, expected="length 1", fix="check the order of the numbers")


# -- g2o


def is_g2o(lines: Sequence[str]) -> bool:
    """Return whether the lines of a text file are a pose graph in the format g2o."""
    return any(line.startswith(("VERTEX_SE3", "VERTEX_SE2", "EDGE_SE3", "EDGE_SE2")) for line in lines[:50])


def read_g2o(path: Path, lines: Sequence[str]) -> PoseList:
    """Return the poses of a g2o pose graph in the order of their numbers: lines VERTEX_SE3:QUAT id x y z qx qy qz qw.

    path: the file, for messages.
    lines: its lines.

    Raises DataError if such a line is missing or a number is wrong.
    """
    from scipy.spatial.transform import Rotation  # slow to import: `stadia check` does not need it

    rows = [line.split() for line in lines if line.startswith("VERTEX_SE3:QUAT")]
    if not rows:
        found, expected = "no VERTEX_SE3:QUAT", "poses in three dimensions"
        raise DataError(path, found=found, expected=expected, fix="save the graph of SE3 vertices")
    values = _numbers(path, "VERTEX_SE3:QUAT", [row[1:9] for row in rows], (-1, 8))
    values = values[np.argsort(values[:, 0], kind="stable")]
    check_unit_quaternions(path, values[:, 4:])
    T = make_matrices(Rotation.from_quat(values[:, 4:]).as_matrix(), values[:, 1:4])
    return PoseList(T, None, f"{len(T)} vertices of {path.name} are read in the order of their numbers")


# -- arrays


def read_npy_poses(path: Path) -> PoseList:
    """Read the poses of an .npy file.

    Each pose is a matrix (3, 4) or (4, 4), its 12 or 16 numbers, x y z qx qy qz qw, a time and these, or 17 numbers of
    LLFF's poses_bounds.npy.

    Raises DataError for an array of a different shape.
    """
    stored = np.asarray(read_npy(path), np.float64)
    shape = stored.shape
    known = {(3, 4): 12, (4, 4): 16}
    rows = stored.reshape(len(stored), -1) if stored.ndim == 3 and shape[1:] in known else stored
    if rows.ndim != 2 or rows.shape[1] not in (7, 8, 12, 16, 17) or not 0 < len(rows) <= MAX_POSES:
        expected = "(N, 4, 4), (N, 3, 4), (N, 12), (N, 7) with x y z qx qy qz qw, (N, 8) with t first, (N, 17) of LLFF"
        fix = "save the poses as numpy.save(FILE, T) with T of shape (N, 4, 4)"
        raise DataError(path, found=f"an array of shape {shape}", expected=expected, fix=fix)
    if rows.shape[1] == 7:
        return PoseList(*_from_seven(path, rows))
    if rows.shape[1] == 8:
        times, _ = convert_times([repr(time) for time in rows[:, 0].tolist()])
        return PoseList(*_from_seven(path, rows[:, 1:]), times)
    if rows.shape[1] == 17:
        T = np.tile(np.eye(4), (len(rows), 1, 1))
        T[:, :3] = rows[:, :15].reshape(-1, 3, 5)[:, :, :4]
        return PoseList(T @ LLFF_AXES, None, f"poses of {path.name} are converted from LLFF's axes (down, right, back)")
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    T[:, :3] = rows[:, :12].reshape(-1, 3, 4)
    return PoseList(T, None, f"{len(T)} camera-to-world matrices are read from {path.name}")


def _from_seven(path: Path, rows: Array) -> tuple[Array, None, str]:
    """Return poses of rows of seven numbers; the quaternion is where four numbers have length 1 in each row."""
    from scipy.spatial.transform import Rotation  # slow to import

    lost = np.isnan(rows.sum(axis=1)) | np.isinf(rows.sum(axis=1))
    starts = [start for start in (3, 0) if are_units(rows[~lost][:, start : start + 4])]
    if not starts or lost.all():
        raise DataError(path, found="no quaternion of length 1 in 7 numbers", expected="x y z qx qy qz qw", fix=_CHECK)
    start = starts[0]
    steps = np.diff(rows[~lost][:, 0])
    if start == 3 and (steps > 0).all() and steps.std() < 1e-3 * steps.mean():
        fix = "write all coordinates of the position: t x y z qx qy qz qw"
        raise DataError(path, found="7 columns that begin with a time", expected="8 columns", fix=fix)
    rows = np.where(lost[:, None], 0.5, rows)
    T = make_matrices(Rotation.from_quat(rows[:, start : start + 4]).as_matrix(), rows[:, 3 - start : 6 - start]
                      if start == 3 else rows[:, 4:])  # fmt: skip
    T[lost] = np.nan
    order = "x y z qx qy qz qw" if start == 3 else "qx qy qz qw x y z"
    return T, None, f"rows of {path.name} are read as {order}: their quaternions have length 1"


def are_units(quaternions: Array) -> bool:
    """Return whether at least MIN_ROWS rows (N, 4) all have length 1."""
    return len(quaternions) >= MIN_ROWS and bool(
        (np.abs(np.linalg.norm(quaternions, axis=1) - 1) < UNIT_TOLERANCE).all()
    )


def read_seven_columns(path: Path, values: Array) -> PoseList | None:
    """Return the poses of text rows with seven numbers; None if they are not poses.

    A row contains a quaternion and a position, or a world-to-camera pose of ARKitScenes.

    path: the file, for messages.
    values: (N, 7) numbers.
    """
    from scipy.spatial.transform import Rotation  # slow to import

    if are_units(values[:, 3:]) or are_units(values[:, :4]):
        return PoseList(*_from_seven(path, values))
    if path.suffix.lower() != ".traj":
        return None
    T = make_matrices(Rotation.from_rotvec(values[:, 1:4]).as_matrix(), values[:, 4:])
    note = (
        f"poses of {path.name} are inverted: ARKitScenes writes time, rotation vector and translation, world-to-camera"
    )
    return PoseList(invert_poses(T), None, note, values[:, 0])


# -- folders


def list_pose_files(folder: Path, skip: Collection[str] = ()) -> list[Path]:
    """Return the files of a folder that may contain one pose each, in natural order.

    folder: the folder.
    skip: names of files that contain no pose.
    """
    files = [file for file in folder.iterdir() if file.suffix.lower() in _POSE_SUFFIXES and file.is_file()]
    files = [file for file in files if file.name not in skip]
    return sorted(files, key=natural_sort_key)[: MAX_POSE_FILES + 1]


def read_pose_folder(folder: Path, expected: str, skip: Collection[str] = ()) -> PoseList | None:
    """Read the poses of a folder with one 4x4 or 3x4 matrix per file; None if the first file contains no matrix.

    folder: the folder.
    expected: description of a valid folder, for messages.
    skip: names of files that contain no pose.

    Raises DataError if a later file contains no matrix.
    """
    files = list_pose_files(folder, skip)
    if not files or len(files) > MAX_POSE_FILES or _read_matrix(files[0]) is None:
        return None
    T, is_inverted = np.full((len(files), 4, 4), np.nan), False
    for index, file in enumerate(files):
        found = _read_matrix(file)
        if found is None:
            raise DataError(file, found="no 4x4 matrix", expected=expected, fix="move other files to another folder")
        T[index], is_inverted = found
    note = f"{len(files)} poses are read from the files of {folder.name}, camera-to-world"
    if is_inverted:
        T, note = invert_poses(T), f"{len(files)} poses of {folder.name} are inverted: MVSNet writes world-to-camera"
    lost = int((~np.isfinite(T)).any(axis=(1, 2)).sum())
    note += f"; {lost} files hold inf or NaN, and no pose" if lost else ""
    return PoseList(T, [file.name for file in files], note)


def _read_matrix(file: Path) -> tuple[Array, bool] | None:
    """Return the matrix of a file, and whether it is the extrinsic of MVSNet's cam.txt; None for another content."""
    if file.suffix.lower() == ".npy":
        stored = np.asarray(read_npy(file), np.float64)
        return (_complete(stored), False) if stored.shape in ((4, 4), (3, 4)) else None
    text = read_text(file, expected="a 4x4 matrix", max_bytes=1 << 20)
    lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    is_inverted = bool(lines) and lines[0][0].lower() == "extrinsic"
    try:
        rows = [[float(word) for word in words] for words in lines[is_inverted : 4 + is_inverted]]
    except ValueError:
        return None
    if not is_inverted and len(lines) > 4:
        return None
    if len(rows) == 1 and len(rows[0]) in (12, 16):
        rows = np.reshape(rows[0], (-1, 4)).tolist()
    if [len(row) for row in rows] not in ([4] * 4, [4] * 3):
        return None
    return _complete(np.array(rows)), is_inverted


def _complete(matrix: Array) -> Array:
    """Return (4, 4), NaN if a number is not finite."""
    if not np.isfinite(matrix).all():
        return np.full((4, 4), np.nan)
    return matrix if len(matrix) == 4 else np.vstack([matrix, [0, 0, 0, 1]])
