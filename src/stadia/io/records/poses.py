"""Make camera-to-world poses of the numbers that a program writes; `stadia.io.records.formats` says what they mean."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.errors import DataError
from stadia.geometry.conventions import read_poses
from stadia.io.records.formats import Format

Array = NDArray[np.float64]

MAX_POSES = 400_000  # reading and scoring a million takes 81 s
UNIT_TOLERANCE = 1e-2  # of the length of a quaternion
ROTATION_TOLERANCE = 1e-2  # of the entries of R R^T; files have at least 6 digits
ROUNDING = 1e-12  # of the entries of R R^T, up to which a matrix is a rotation and stays as it is
MIN_ROWS = 3  # number of rows from which lengths of 1 are no coincidence

_WIDTHS = {"matrix": 12, "R": 9}
"""Numbers of a column of `Format.columns` that has more than one."""


def count_numbers(format: Format) -> int:
    """Return how many numbers the pose of an image has."""
    return sum(_WIDTHS.get(column, 1) for column in format.columns.split())


def make_poses(numbers: Array, format: Format, where: Callable[[int], str]) -> Array:
    """Return T_world_camera (N, 4, 4) with OpenCV's camera axes; NaN for rows with a number that is not finite.

    numbers: (N, C) the numbers of each pose, in the order of `format.columns`.
    format: what they mean.
    where: function from a row to its place in the file, for messages.

    Raises DataError for a matrix that is not a rotation, and for a quaternion without the length 1.

    Examples:
        >>> from stadia.io.records.formats import TUM
        >>> make_poses(np.array([[0.5, 1, 2, 3, 0, 0, 0, 1]]), TUM, str)[0, :3].tolist()
        [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0]]
    """
    start_of, start = dict[str, int](), 0
    for column in format.columns.split():
        start_of[column] = start
        start += _WIDTHS.get(column, 1)
    known = np.flatnonzero(np.isfinite(numbers).all(axis=1))
    rows = numbers[known]
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    if "matrix" in start_of:
        T[:, :3] = rows[:, start_of["matrix"] :][:, :12].reshape(-1, 3, 4)
    else:
        T[:, :3, 3] = rows[:, [start_of[axis] for axis in "xyz"]]
    if "R" in start_of:
        T[:, :3, :3] = rows[:, start_of["R"] :][:, :9].reshape(-1, 3, 3)
    elif "rx" in start_of:
        T[:, :3, :3] = Rotation.from_rotvec(rows[:, [start_of[axis] for axis in ("rx", "ry", "rz")]]).as_matrix()
    elif "qw" in start_of:
        quaternions = rows[:, [start_of[axis] for axis in ("qx", "qy", "qz", "qw")]]
        off = np.abs(np.linalg.norm(quaternions, axis=1) - 1)
        if (off > UNIT_TOLERANCE).any():
            row = int(np.argmax(off))
            found = f"a quaternion of length {np.linalg.norm(quaternions[row]):.4g} in pose {known[row]}"
            raise DataError(
                where(int(known[row])), found=found, expected="length 1", fix="check the order of the numbers"
            )
        T[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
    T[:, :3, :3] = find_nearest_rotations(T[:, :3, :3], lambda row: where(int(known[row])))
    poses = np.full((len(numbers), 4, 4), np.nan)
    poses[known] = read_poses(T, format.axes, format.direction)
    return poses


def find_nearest_rotations(R: Array, where: Callable[[int], str]) -> Array:
    """Return the rotations nearest to matrices R (N, 3, 3) that are nearly rotations.

    R: the matrices.
    where: function from a row to its place in the file, for messages.

    Raises DataError for left-handed axes, and for the first matrix that differs from a rotation by more than
    ROTATION_TOLERANCE.
    """
    with np.errstate(all="ignore"):
        off = np.abs(R @ R.mT - np.eye(3)).max(axis=(1, 2), initial=0)
        determinants = np.linalg.det(R)
    if (left_handed := (off <= ROTATION_TOLERANCE) & (determinants < 0)).any():
        found = f"determinant -1 of {left_handed.sum()} of {len(R)} rotations: two axes are swapped, or one is mirrored"
        fix = (
            "swap the two axes back or negate one: columns of R of camera-to-world poses, rows of world-to-camera ones;"
        )
        fix += " if the world is left-handed as in Unity, write M T M with M = diag(1, -1, 1, 1)"
        where_first = where(int(np.argmax(left_handed)))
        raise DataError(where_first, found=found, expected="right-handed axes, determinant 1", fix=fix)
    wrong = ~(off <= ROTATION_TOLERANCE)
    if wrong.any():
        row = int(np.argmax(wrong))
        found = f"a 3x3 block with determinant {determinants[row]:.3f}, {off[row]:.2g} off orthonormal"
        fix = "check the order of the columns: R and t row by row"
        raise DataError(where(row), found=found, expected="a rotation", fix=fix)
    rough = np.flatnonzero(off > ROUNDING)
    U, _, Vt = np.linalg.svd(R[rough])
    nearest = R.copy()
    nearest[rough] = U @ Vt
    return nearest


def is_rotation(R: Array) -> bool:
    """Return whether a matrix (3, 3) is a rotation or a mirrored one, within ROTATION_TOLERANCE."""
    return bool(np.abs(R @ R.T - np.eye(3)).max() < ROTATION_TOLERANCE)


def are_units(quaternions: Array) -> bool:
    """Return whether at least MIN_ROWS rows (N, 4) all have length 1."""
    lengths = np.linalg.norm(quaternions, axis=1)
    return len(quaternions) >= MIN_ROWS and bool((np.abs(lengths - 1) < UNIT_TOLERANCE).all())


def read_seven_numbers(what: object, name: str, rows: Array) -> tuple[Format, str] | None:
    """Return the format of poses (N, 7), and a note: the quaternion is where four numbers have length 1 in each row.

    what: the file, for messages.
    name: its name, for the note.
    rows: the numbers; rows with inf or NaN have no pose.

    Returns None if there is no such quaternion. Raises DataError for a time in the place of a coordinate.
    """
    from stadia.io.records.formats import POSITION_FIRST, ROTATION_FIRST

    known = rows[np.isfinite(rows).all(axis=1)]
    format = POSITION_FIRST if are_units(known[:, 3:]) else ROTATION_FIRST if are_units(known[:, :4]) else None
    if format is None:
        return None
    steps = np.diff(known[:, 0])
    if format is POSITION_FIRST and (steps > 0).all() and steps.std() < 1e-3 * steps.mean():
        fix = "write all coordinates of the position: t x y z qx qy qz qw"
        raise DataError(what, found="7 columns that begin with a time", expected="8 columns", fix=fix)
    return format, f"rows of {name} are read as {format.columns}: their quaternions have length 1"
