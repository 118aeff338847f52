"""Make camera-to-world poses and times of the numbers of a program; `stadia.io.records.formats` says what they mean."""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.conventions import read_poses, write_poses
from stadia.io.records.formats import Format

Array = NDArray[np.float64]

MAX_POSES = 400_000  # reading and scoring a million takes 81 s
UNIT_TOLERANCE = 1e-2  # of the length of a quaternion
ROTATION_TOLERANCE = 1e-2  # of the entries of R R^T; files have at least 6 digits
ROUNDING = 1e-12  # of the entries of R R^T, up to which a matrix is a rotation and stays as it is
MIN_ROWS = 3  # number of rows from which lengths of 1 are no coincidence

_WIDTHS = {"matrix": 12, "last_row": 4, "matrix.T": 16, "R": 9, "R.T": 9}
"""Numbers of a column of `Format.columns` that has more than one."""


_ANGLES, _OPK = ("heading", "pitch", "roll"), ("omega", "phi", "kappa")


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
    from scipy.spatial.transform import Rotation  # slow to import

    start_of, start = dict[str, int](), 0
    for column in format.columns.split():
        start_of[column] = start
        start += _WIDTHS.get(column, 1)
    known = np.flatnonzero(np.isfinite(numbers).all(axis=1))
    rows = numbers[known]
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    if "matrix" in start_of:
        T[:, :3] = rows[:, start_of["matrix"] :][:, :12].reshape(-1, 3, 4)
    elif "matrix.T" in start_of:
        T[:, :3] = rows[:, start_of["matrix.T"] :][:, :16].reshape(-1, 4, 4).mT[:, :3]
    else:
        T[:, :3, 3] = rows[:, [start_of[axis] for axis in "xyz"]]
    if "R" in start_of:
        T[:, :3, :3] = rows[:, start_of["R"] :][:, :9].reshape(-1, 3, 3)
    elif "R.T" in start_of:
        T[:, :3, :3] = rows[:, start_of["R.T"] :][:, :9].reshape(-1, 3, 3).mT
    elif "heading" in start_of:
        heading, pitch, roll = (rows[:, start_of[angle]] for angle in _ANGLES)
        angles = np.stack([-heading, pitch, roll], 1)
        T[:, :3, :3] = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()
    elif "omega" in start_of:
        angles = rows[:, [start_of[angle] for angle in _OPK]]
        T[:, :3, :3] = Rotation.from_euler("XYZ", angles, degrees=True).as_matrix()
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


def write_numbers(T_world_camera: Array, format: Format) -> Array:
    """Return the numbers (N, C) of poses in the order of `format.columns`, which must be those of a pose alone.

    This inverts `make_poses`.

    T_world_camera: (N, 4, 4) camera-to-world poses with OpenCV's camera axes.
    format: what the numbers mean.

    Examples:
        >>> from stadia.io.records.formats import POSITION_FIRST
        >>> write_numbers(np.eye(4)[None], POSITION_FIRST).tolist()
        [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    from scipy.spatial.transform import Rotation  # slow to import

    T = write_poses(T_world_camera, format.axes, format.direction)
    rotations = Rotation.from_matrix(T[:, :3, :3])
    parts = {
        **dict(zip("xyz", T[:, :3, 3:].transpose(1, 0, 2), strict=True)),
        **dict(zip(("qx", "qy", "qz", "qw"), rotations.as_quat().T[..., None], strict=True)),
        **dict(zip(("rx", "ry", "rz"), rotations.as_rotvec().T[..., None], strict=True)),
        **dict(zip(_ANGLES, (rotations.as_euler("ZXY", degrees=True) * (-1, 1, 1)).T[..., None], strict=True)),
        **dict(zip(_OPK, rotations.as_euler("XYZ", degrees=True).T[..., None], strict=True)),
        "R": T[:, :3, :3].reshape(-1, 9),
        "R.T": T[:, :3, :3].mT.reshape(-1, 9),
        "matrix": T[:, :3].reshape(-1, 12),
        "last_row": T[:, 3],
        "matrix.T": T.mT.reshape(-1, 16),
    }
    return np.hstack([parts[column] for column in format.columns.split()])


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
        scales = np.cbrt(determinants)
        with np.errstate(all="ignore"):
            divided = R / scales[:, None, None]
            off_divided = np.abs(divided @ divided.mT - np.eye(3)).max(axis=(1, 2))
        if (off_divided <= ROTATION_TOLERANCE).all():  # similarities, as LSD-SLAM writes its keyframes
            found = (
                f"rotations that are multiplied by {scales.min():.3g} to {scales.max():.3g}, as those of sim3 poses are"
            )
            fix = "divide each 3x3 block by the cube root of its determinant, and keep the position"
        else:
            for axis, name in ((1, "columns"), (2, "rows")):  # a look-at without normalized axes, a camera with a scale
                with np.errstate(all="ignore"):
                    lengths = np.linalg.norm(R, axis=axis, keepdims=True)
                    unit = R / lengths
                if (np.abs(unit @ unit.mT - np.eye(3)) <= ROTATION_TOLERANCE).all() and (determinants > 0).all():
                    span = f"{lengths.min():.3g} to {lengths.max():.3g}"
                    found = f"3x3 blocks with {name} at right angles, whose lengths are {span}"
                    fix = f"divide each of these {name} by its length"
                    break
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


# -- times, whose size shows the unit

TIME_UNITS = ((1e18, "nanoseconds"), (1e17, "intervals of 100 ns"), (1e14, "microseconds"), (1e11, "milliseconds"))
"""Smallest first time that means each unit, for clocks that count from 1970 (Windows: from 1601, in 100 ns). Seconds
have 10 digits.
"""


UNITS_IN_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "intervals of 100 ns": 10**7,
                   "nanoseconds": 10**9}  # fmt: skip


MIN_STEP_OF_NANOSECONDS = 5e5  # median interval of whole numbers above which times from 0 are nanoseconds: 2 kHz


MIN_STEP_OF_MICROSECONDS = 2e3  # the same for microseconds: 500 Hz; PX4 counts them from its start


_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.0*)?|-?[0-8][0-9]{18}(?:\.0*)?")


def find_time_unit(times: NDArray[np.float64]) -> str:
    """Return the unit of times (N,), a key of UNITS_IN_SECOND, by their size."""
    for smallest, unit in TIME_UNITS:
        if abs(times[0]) >= smallest:
            return unit
    is_whole = (times == np.rint(times)).all()
    step = float(np.median(np.diff(times))) if is_whole and len(times) > 1 else 0.0
    if step < MIN_STEP_OF_MICROSECONDS:
        return "seconds"
    return "nanoseconds" if step >= MIN_STEP_OF_NANOSECONDS else "microseconds"


def convert_times(words: Sequence[str], unit: str | None = None) -> tuple[NDArray[np.float64], str]:
    """Convert N times as texts to seconds (N,); return them and their unit.

    Whole numbers are converted as integers, since a float cannot represent nanoseconds since 1970. If whole numbers
    rise by less than a float in seconds can represent, the times still rise.

    words: finite numbers as texts.
    unit: unit of the times, a key of UNITS_IN_SECOND; None finds it by their size.

    Examples:
        >>> convert_times(["1403636579763555584", "1403636580763555584"])
        (array([1.40363658e+09, 1.40363658e+09]), 'nanoseconds')
    """
    values = np.array([float(word) for word in words])
    unit = unit or find_time_unit(values)
    per_second = UNITS_IN_SECOND[unit]
    if per_second == 1 or not all(map(_WHOLE_NUMBER.fullmatch, words)):
        return values / per_second, unit
    whole = np.array([int(word.partition(".")[0]) for word in words], np.int64)
    seconds = whole // per_second + whole % per_second / per_second
    rises = np.diff(whole) > 0
    if (rises & (np.diff(seconds) <= 0)).any():
        for row in np.flatnonzero(rises) + 1:
            seconds[row] = max(seconds[row], np.nextafter(seconds[row - 1], np.inf))
    return seconds, unit


MAX_NANOSECONDS = 9e18
"""About the largest number of an int64."""


def convert_to_nanoseconds(words: Sequence[str], unit: str) -> NDArray[np.int64] | None:
    """Convert N times as texts to whole nanoseconds (N,); None if they are too large.

    A float of seconds since 1970 is off by up to 128 ns.

    words: finite numbers as texts.
    unit: unit of the times, a key of UNITS_IN_SECOND.

    Examples:
        >>> convert_to_nanoseconds(["1403636579.763555584"], "seconds")
        array([1403636579763555584])
    """
    factor = 10**9 // UNITS_IN_SECOND[unit]
    if max(abs(float(word)) for word in words) * factor > MAX_NANOSECONDS:
        return None
    return np.array([round(Decimal(word) * factor) for word in words], np.int64)
