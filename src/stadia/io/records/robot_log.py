"""Read the log of a robot: the pose of its hand at each image, with numbers whose meaning may be in doubt.

Rows of UR (x y z rx ry rz), Franka (O_T_EE), MoveIt and ROS (position and orientation), lerobot (ee.x ... ee.wz),
OpenCV (R_gripper2base, t_gripper2base), KUKA (A B C), Kortex (theta_x), and any csv with a header are read. The numbers
of a rotation are kept as they are, so that another reading of them can be tried.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.poses import from_rotation_translation, invert_pose
from stadia.io.array_files import read_npy, read_npz
from stadia.io.atomic_files import write_lines
from stadia.io.input_files import check_no_archive, parse_csv, parse_json, parse_json_lines, read_json, read_text
from stadia.io.records.poses import MAX_POSES, UNIT_TOLERANCE, convert_times, find_nearest_rotations, is_rotation
from stadia.io.yaml_files import parse_yaml

Array = NDArray[np.float64]

MAX_BYTES = 64 << 20

EXPECTED = (
    "poses of a robot: a csv with x, y, z and a rotation in its header, rows of UR (x y z rx ry rz), of 7, 8, 12 or 16"
    " numbers, or JSON, YAML or .npz of Franka, MoveIt, lerobot or OpenCV"
)

MAX_BACKWARDS = 0.2
"""Largest share of rows whose time is before that of the row before, as messages arrive."""

EULER_ORDERS = ("xyz", "xzy", "yxz", "yzx", "zxy", "zyx", "XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
"""Orders of Euler angles, with SciPy's names: lower case about fixed axes, upper case about moving ones."""


@dataclass(frozen=True, slots=True)
class RotationReading:
    """What the numbers of a rotation mean.

    kind: "quaternion", "rotation vector", "Euler angles" or "matrix".
    order: "xyzw" or "wxyz" of a quaternion, one of EULER_ORDERS, "rows" or "columns" of a matrix; "" otherwise.
    is_degrees: whether angles are in degrees.
    """

    kind: str
    order: str = ""
    is_degrees: bool = False

    def describe(self) -> str:
        """Return the meaning in words.

        Examples:
            >>> RotationReading("Euler angles", "ZYX", True).describe()
            'Euler angles ZYX about moving axes, degrees'
        """
        unit = ", degrees" if self.is_degrees else ", radians"
        if self.kind == "quaternion":
            return f"quaternions in the order {' '.join(self.order)}"
        if self.kind == "matrix":
            return f"matrices written {'row by row' if self.order == 'rows' else 'column by column'}"
        if self.kind == "Euler angles":
            axes = "moving" if self.order.isupper() else "fixed"
            return f"Euler angles {self.order} about {axes} axes{unit}"
        return f"rotation vectors{unit}"

    def make_rotations(self, numbers: Array) -> Array:
        """Return rotations (N, 3, 3) of the numbers (N, 4), (N, 3) or (N, 9)."""
        from scipy.spatial.transform import Rotation  # slow to import

        if self.kind == "quaternion":
            return Rotation.from_quat(numbers if self.order == "xyzw" else numbers[:, [1, 2, 3, 0]]).as_matrix()
        if self.kind == "matrix":
            R = numbers.reshape(-1, 3, 3)
            return R if self.order == "rows" else R.mT
        if self.kind == "Euler angles":
            return Rotation.from_euler(self.order, numbers, degrees=self.is_degrees).as_matrix()
        return Rotation.from_rotvec(numbers, degrees=self.is_degrees).as_matrix()


@dataclass(frozen=True, eq=False)
class RobotLog:
    """The poses of the hand of a robot in its base, as a file has them.

    path: the file.
    positions: (N, 3) in the unit of the file.
    rotations: (N, 3), (N, 4) or (N, 9) numbers of the rotations.
    reading: what they mean.
    times_s: (N,) rising times in seconds; None without times.
    names: N names of images; empty without names.
    notes: sentences for the user.
    """

    path: Path
    positions: Array
    rotations: Array
    reading: RotationReading
    times_s: Array | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.positions)

    def rows(self, chosen: NDArray[np.intp]) -> RobotLog:
        """Return the log with the poses at these indices (M,), in this order."""
        return replace(
            self,
            positions=self.positions[chosen],
            rotations=self.rotations[chosen],
            times_s=None if self.times_s is None else self.times_s[chosen],
            names=tuple(self.names[row] for row in chosen) if self.names else (),
        )

    def make_poses(self, reading: RotationReading | None = None) -> Array:
        """Return T_base_hand (N, 4, 4), with another reading of the rotations if one is given."""
        return from_rotation_translation((reading or self.reading).make_rotations(self.rotations), self.positions)


def write_robot_log(path: Path, T_base_hand: Array, names: Sequence[str], times_s: Array | None) -> None:
    """Write poses as a csv with the columns image, t, x, y, z, qx, qy, qz, qw, which `read_robot_log` reads.

    path: the file.
    T_base_hand: (N, 4, 4), metres.
    names: N names of images; empty without names.
    times_s: (N,) times; None without times.
    """
    from scipy.spatial.transform import Rotation  # slow to import

    quaternions = Rotation.from_matrix(T_base_hand[:, :3, :3]).as_quat()
    header = ["image"] * bool(names) + ["t"] * (times_s is not None) + ["x", "y", "z", "qx", "qy", "qz", "qw"]
    lines = ["# poses of a hand, corrected by stadia", ",".join(header)]
    for row, (T, q) in enumerate(zip(T_base_hand, quaternions, strict=True)):
        words = ['"' + names[row].replace('"', '""') + '"'] if names else []
        words += [] if times_s is None else [f"{times_s[row]:.6f}"]
        lines.append(",".join([*words, *(f"{number:.9f}" for number in (*T[:3, 3], *q))]))
    write_lines(path, lines)


# -- read


def read_robot_log(path: Path) -> RobotLog:
    """Read the poses of a robot's hand in the format that the file shows.

    Raises DataError for a file without poses, for numbers that are not finite, and for times that do not rise.
    """
    check_no_archive(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        fix = "write a csv: python -c 'import pandas; pandas.read_parquet(FILE).to_csv(OUT)'"
        raise DataError(path, found="a Parquet file", expected=EXPECTED, fix=fix)
    if suffix in (".npz", ".npy"):
        return read_arrays(path, OF_HAND) if suffix == ".npz" else _read_matrices(path, read_npy(path))
    text = read_text(path, expected=EXPECTED, max_bytes=MAX_BYTES)
    if suffix in (".json", ".jsonl", ".yaml", ".yml"):
        return _read_records(path, text, OF_HAND)
    return _read_rows(path, text)


def read_calibration(path: Path) -> Array:
    """Return the first pose (4, 4) of a file: T_hand_camera of `stadia rig hand-eye --out`, a matrix, or another pose.

    Raises DataError as `read_robot_log` does.
    """
    if path.suffix.lower() == ".json":
        content = read_json(path, expected=EXPECTED)
        if isinstance(content, dict) and content.get("calibration") is not None:
            return _read_matrices(path, _make_array(path, content["calibration"])).make_poses()[0]
    return read_robot_log(path).make_poses()[0]


def read_rotation(path: Path) -> Array:
    """Return the rotation (3, 3) of a file: three rows of three numbers, `stadia rig imu --json`, or that of a pose.

    Raises DataError for a matrix that is no rotation, and as `read_calibration` does.
    """
    suffix = path.suffix.lower()
    values: Array = np.zeros(0)
    if suffix == ".npy":
        values = np.asarray(read_npy(path), np.float64)
    elif suffix == ".json":
        content = read_json(path, expected=EXPECTED)
        found = content.get("R_camera_gyroscope") if isinstance(content, dict) else content
        values = _make_array(path, found if isinstance(found, list) else [])
    elif suffix in ("", ".txt", ".csv"):
        words = re.sub(r"[,;\[\]]", " ", read_text(path, expected=EXPECTED, max_bytes=MAX_BYTES)).split()
        with contextlib.suppress(ValueError):
            values = np.array([float(word) for word in words]) if len(words) == 9 else values
    if values.size != 9:
        return read_calibration(path)[:3, :3]
    R = np.asarray(values, np.float64).reshape(3, 3)
    if not is_rotation(R) or np.linalg.det(R) < 0:
        raise DataError(path, found="a 3x3 matrix that is no rotation", expected="a rotation", fix="check the file")
    return R


OF_HAND = ("gripper2base", "hand2base", "effector_wrt_world", "robot", "hand", "T_base_hand", "gripper", "ee")
"""Parts of the keys of the robot's poses in a file that also has poses of a target, the best first."""

OF_TARGET = ("target2cam", "object_wrt_sensor", "optical", "tracking", "T_camera_target", "target", "marker")
"""Parts of the keys of the target's poses in the camera."""


def read_target_poses(path: Path) -> Array | None:
    """Return T_target_camera (N, 4, 4) of a file that has both the robot's and the target's poses; None of others.

    OpenCV's R_target2cam and t_target2cam, MoveIt's object_wrt_sensor and easy_handeye's samples are read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            log = read_arrays(path, OF_TARGET, only=True)
        elif suffix in (".json", ".yaml", ".yml"):
            text = read_text(path, expected=EXPECTED, max_bytes=MAX_BYTES)
            log = _read_records(path, text, OF_TARGET, only=True)
        else:
            return None
    except _NoSuchPosesError:
        return None
    return np.asarray(invert_pose(log.make_poses()), np.float64)


class _NoSuchPosesError(DataError):
    """A file without poses under the wanted keys."""


def read_arrays(path: Path, keys: Sequence[str], *, only: bool = False) -> RobotLog:
    """Return the poses of an .npz under keys that contain one of `keys`: R_key with t_key, or matrices.

    only: whether another key, if it is the only one, does not count.
    """
    arrays = {name: np.asarray(values, np.float64) for name, values in read_npz(path).items()}
    return _choose_arrays(path, arrays, keys, only=only)


def _choose_arrays(path: Path, arrays: Mapping[str, Array], keys: Sequence[str], *, only: bool) -> RobotLog:
    for key in keys:
        named = {name: values for name, values in arrays.items() if key.lower() in name.lower()}
        rotation = next((values for name, values in named.items() if name.lower().startswith(("r_", "rot"))), None)
        position = next((values for name, values in named.items() if name.lower().startswith(("t_", "trans"))), None)
        if rotation is not None and position is not None and rotation.size == 9 and position.size == 3:
            rotation, position = rotation.reshape(1, 9), position.reshape(1, 3)
        has_rows = rotation is not None and position is not None and rotation.ndim > 0 < position.ndim
        if rotation is not None and position is not None and has_rows and len(rotation) == len(position) > 0:
            count = len(rotation)
            if position.size != 3 * count or rotation.size not in (3 * count, 9 * count):
                found = (
                    f"{rotation.size} numbers of rotations and {position.size} of positions of {len(rotation)} poses"
                )
                raise DataError(path, found=found, expected=EXPECTED, fix="write 9 or 3 and 3 numbers a pose")
            matrices = rotation.size == 9 * len(rotation)
            R = rotation.reshape(len(rotation), -1)
            reading = RotationReading("matrix", "rows") if matrices else RotationReading("rotation vector")
            return _make_log(path, position.reshape(len(position), -1), R, reading)
        if len(named) == 1 and (matrix := next(iter(named.values()))).size:
            return _read_matrices(path, matrix)
    if len(arrays) == 1 and not only:
        return _read_matrices(path, next(iter(arrays.values())))
    error = _NoSuchPosesError if only else DataError
    raise error(path, found=f"arrays {', '.join(list(arrays)[:8])}", expected=EXPECTED, fix="name them as OpenCV does")


def _read_matrices(path: Path, values: Any) -> RobotLog:
    numbers = np.asarray(values, np.float64)
    is_one = numbers.ndim < 2 or numbers.shape in ((4, 4), (3, 4))
    rows = numbers.reshape(1, -1) if is_one else numbers.reshape(len(numbers), -1)
    return _make_unnamed(path, rows)


def _make_unnamed(path: Path, rows: Array) -> RobotLog:
    """Return the log of rows without names of columns: 6, 7, 8, 12 or 16 numbers."""
    width, times = rows.shape[1], None
    if width in (7, 8) and not _are_units(rows[:, -4:]) and not _are_units(rows[:, -7:-3]):
        width = 0 if width == 8 else 7
    if width == 8 or (width == 7 and not _are_units(rows[:, -4:]) and not _are_units(rows[:, :4])):
        times, rows = rows[:, 0], rows[:, 1:]
    if rows.shape[1] == 6:
        return _make_log(path, rows[:, :3], rows[:, 3:], guess_angles(rows[:, 3:], "rotation vector"), times)
    if width in (7, 8):
        first = _are_units(rows[:, :4]) and not _are_units(rows[:, 3:])
        numbers, position = (rows[:, :4], rows[:, 4:]) if first else (rows[:, 3:], rows[:, :3])
        return _make_log(path, position, numbers, RotationReading("quaternion", "xyzw"), times)
    if width in (12, 16):
        matrix = np.tile(np.eye(4), (len(rows), 1, 1))
        matrix[:, : width // 4] = rows.reshape(-1, width // 4, 4)
        note: tuple[str, ...] = ()
        if width == 16 and np.abs(matrix[:, :3, 3]).max() == 0 < np.abs(matrix[:, 3, :3]).max():
            matrix, note = matrix.mT.copy(), ("matrices are read column by column, as Franka writes O_T_EE",)
        log = _make_log(path, matrix[:, :3, 3], matrix[:, :3, :3].reshape(-1, 9), RotationReading("matrix", "rows"))
        return replace(log, notes=note)
    raise DataError(path, found=f"rows of {rows.shape[1]} numbers", expected=EXPECTED, fix="write a header")


def _are_units(quaternions: Array) -> bool:
    return bool((np.abs(np.linalg.norm(quaternions, axis=1) - 1) < UNIT_TOLERANCE).all())


def guess_angles(numbers: Array, kind: str, order: str = "") -> RotationReading:
    """Return the reading of angles (N, 3), in degrees if one of them is beyond two turns of radians."""
    return RotationReading(kind, order, bool(np.abs(numbers).max(initial=0) > 4 * np.pi))


def _make_log(
    path: Path,
    positions: Array,
    rotations: Array,
    reading: RotationReading,
    times: Array | None = None,
    names: Sequence[str] = (),
) -> RobotLog:
    if not len(positions):
        raise DataError(path, found="no pose", expected=EXPECTED, fix="check the file")
    if len(positions) > MAX_POSES:
        raise DataError(path, found=f"{len(positions)} poses", expected=f"at most {MAX_POSES}", fix="leave out poses")
    if not (np.isfinite(positions).all() and np.isfinite(rotations).all()):
        raise DataError(path, found="inf or NaN", expected="finite numbers", fix="leave out rows without a pose")
    if reading.kind == "quaternion":
        lengths = np.linalg.norm(rotations, axis=1)
        if (np.abs(lengths - 1) > UNIT_TOLERANCE).any():
            found = f"a quaternion of length {lengths[np.argmax(np.abs(lengths - 1))]:.4g}"
            raise DataError(path, found=found, expected="length 1", fix="check the order of the columns")
    if reading.kind == "matrix":
        R = find_nearest_rotations(rotations.reshape(-1, 3, 3), lambda row: f"{path}, pose {row}")
        rotations = R.reshape(-1, 9)
    times_s = None
    if times is not None and len(times) > 1:
        times_s, _ = convert_times([repr(float(time)) for time in times])
        backwards = int((np.diff(times_s) < 0).sum())
        if backwards > MAX_BACKWARDS * len(times_s):
            found, fix = f"times that go back in {backwards} rows", "write one recording a file"
            raise DataError(path, found=found, expected="rising times", fix=fix)
        _, kept = np.unique(times_s, return_index=True)  # controllers repeat a state
        note = (f"{backwards} rows of {path.name} are sorted by their times",) * (backwards > 0)
        return RobotLog(path, positions, rotations, reading, times_s, tuple(names), note).rows(kept)
    return RobotLog(path, positions, rotations, reading, None, tuple(names))


# -- rows of text

_NUMBER_ROW = re.compile(r"[\s\d.,;+\-eE\[\]()p]+")


def _read_rows(path: Path, text: str) -> RobotLog:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "//", "%"))]
    if not lines:
        raise DataError(path, found="no rows", expected=EXPECTED, fix="check the file")
    if _NUMBER_ROW.fullmatch(lines[0]) is None:
        separator = next((mark for mark in (",", ";", "\t") if mark in lines[0]), None)
        if separator is None:
            lines = [",".join(line.split()) for line in lines]
        elif separator != ",":
            lines = [line.replace(separator, ",") for line in lines]
        return _read_columns(path, parse_csv(path, "\n".join(lines), EXPECTED))
    rows = list[list[float]]()
    for number, line in enumerate(lines, 1):
        words = re.sub(r"[,;\[\]()p]", " ", line).split()
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise DataError(f"{path}, row {number}", found=str(error)[:100], expected=EXPECTED) from error
    if len(rows[0]) == 1 and len(rows) > 1 and int(rows[0][0]) * 4 == len(rows) - 1:
        rows = rows[1:]  # a count in front of matrices
    if {len(row) for row in rows} == {4} and len(rows) % 4 == 0:
        rows = np.reshape(rows, (-1, 16)).tolist()
    if len({len(row) for row in rows}) != 1:
        counts = sorted({len(row) for row in rows})
        raise DataError(path, found=f"rows of {counts[0]} and of {counts[-1]} numbers", expected=EXPECTED)
    return _make_unnamed(path, np.array(rows))


def _read_columns(path: Path, table: Sequence[Mapping[str, str]]) -> RobotLog:
    columns = dict[str, Array]()
    names: Sequence[str] = ()
    for name in table[0] if table else ():
        texts = [row[name] for row in table]
        try:
            columns[name] = np.array([float(text) for text in texts])
        except ValueError:
            if re.search(r"image|file|name|frame", name, re.IGNORECASE):
                names = texts
    return _choose_columns(path, columns, names)


_CLEAN = re.compile(r"[^a-z0-9]+")
_TIME = re.compile(r"(?:.*_)?(?:t|time|timestamp|stamp|sec|secs|seconds|time_s|timestamp_s)")
_POSITION = re.compile(r"(?:.*_)?(?:p|t|pos|tcp|trans)?([xyz])(?:_(?:m|mm|cm))?")
_QUATERNION = re.compile(r"(?:.*_)?(?:q|quat|rot|ori|orientation|rotation|quaternion)_?([wxyz])")
_VECTOR = re.compile(
    r"(?:.*_)?(?:r|rv|w|rot|rotvec|rvec|axis_angle|rotation)_?([xyz])(?:_(?:rad|deg|radians|degrees))?"
)
_EULER = re.compile(r"(?:.*_)?(roll|pitch|yaw)(?:_(?:rad|deg|radians|degrees))?")
_KORTEX = re.compile(r"(?:.*_)?theta_([xyz])")
"""Columns of Kinova's Kortex: angles in degrees about fixed axes."""

_LIST = re.compile(r"(.*?)[._\[ ]?(\d{1,2})\]?")
_IN_DEGREES = re.compile(r"deg|°")


def _choose_columns(path: Path, columns: Mapping[str, Array], names: Sequence[str]) -> RobotLog:
    """Return the log of named columns."""
    clean = {name: _CLEAN.sub("_", name.lower().replace("°", " deg ")).strip("_") for name in columns}
    times = next((columns[name] for name in columns if _TIME.fullmatch(clean[name])), None)
    quaternion = _find(columns, clean, _QUATERNION, "wxyz")
    if quaternion is not None:
        used = set(quaternion)
        position = _find(columns, clean, _POSITION, "xyz", used)
        if position is not None:
            order = [quaternion["wxyz".index(axis)] for axis in "xyzw"]
            reading = RotationReading("quaternion", "xyzw")
            return _make_log(path, _stack(columns, position), _stack(columns, order), reading, times, names)
    for pattern, axes, kind, order_of in (
        (_EULER, ("roll", "pitch", "yaw"), "Euler angles", "xyz"),
        (_KORTEX, "xyz", "Euler angles", "xyz"),
        (_VECTOR, "xyz", "rotation vector", ""),
    ):
        angles = _find(columns, clean, pattern, axes)
        position = None if angles is None else _find(columns, clean, _POSITION, "xyz", set(angles))
        if angles is not None and position is not None:
            numbers = _stack(columns, angles)
            reading = guess_angles(numbers, kind, order_of)
            if any(_IN_DEGREES.search(name.lower()) for name in angles):
                reading = replace(reading, is_degrees=True)
            return _make_log(path, _stack(columns, position), numbers, reading, times, names)
    if set("abcxyz") <= set(clean.values()):  # KUKA turns about moving axes z, y, x
        place = {short: name for name, short in clean.items()}
        numbers = _stack(columns, [place[letter] for letter in "abc"])
        position = [place[letter] for letter in "xyz"]
        reading = RotationReading("Euler angles", "ZYX", is_degrees=True)
        return _make_log(path, _stack(columns, position), numbers, reading, times, names)
    lists = dict[str, dict[int, str]]()
    for name in columns:
        if matched := _LIST.fullmatch(name):
            lists.setdefault(matched[1], {})[int(matched[2])] = name
    widths = {stem: len(found) for stem, found in lists.items() if len(found) in (6, 7, 12, 16)}
    best = sorted(widths, key=lambda stem: not re.search(r"tcp|ee|O_T|pose|hand|gripper", stem, re.IGNORECASE))
    if best:
        rows = _stack(columns, [lists[best[0]][place] for place in sorted(lists[best[0]])])
        log = _make_unnamed(path, rows)
        return replace(_make_log(path, log.positions, log.rotations, log.reading, times, names), notes=log.notes)
    found = f"columns {', '.join(list(columns)[:12])}" if columns else "no column of numbers"
    raise DataError(path, found=found, expected=EXPECTED, fix="name the columns x, y, z, qx, qy, qz, qw")


def _find(
    columns: Mapping[str, Array], clean: Mapping[str, str], pattern: re.Pattern[str], axes: Any, used: Any = ()
) -> list[str] | None:
    found = dict[str, str]()
    for name in sorted(columns, key=lambda name: len(clean[name])):
        if name not in used and (matched := pattern.fullmatch(clean[name])):
            found.setdefault(matched[1], name)
    return [found[axis] for axis in axes] if all(axis in found for axis in axes) else None


def _stack(columns: Mapping[str, Array], names: Sequence[str]) -> Array:
    return np.column_stack([columns[name] for name in names])


# -- JSON and YAML


def _read_records(path: Path, text: str, keys: Sequence[str], *, only: bool = False) -> RobotLog:
    if path.suffix.lower() == ".jsonl":
        content: Any = list(parse_json_lines(path, text, EXPECTED))
        for value in content:
            if isinstance(value, DataError):
                raise value
    elif path.suffix.lower() == ".json":
        content = parse_json(path, text, EXPECTED)
    else:
        text = re.sub(r"!!opencv-matrix", "", re.sub(r"^%YAML[: ]1\.\d\s*(---)?", "", text))
        content = parse_yaml(path, text, EXPECTED)
    if isinstance(content, dict):
        arrays = dict(_list_arrays(content))
        if any(key.lower() in name.lower() for key in keys for name in arrays) or (len(arrays) == 1 and not only):
            return _choose_arrays(path, arrays, keys, only=only)
        lists = [value for value in content.values() if isinstance(value, list) and value]
        content = max(lists, key=len, default=[content])
    if not isinstance(content, list) or not content:
        raise DataError(path, found=f"a {type(content).__name__}", expected=EXPECTED, fix="write a list of poses")
    if all(isinstance(entry, dict) for entry in content):
        table = [dict(_flatten(entry)) for entry in content]
        shared = [name for name in table[0] if all(name in row for row in table)]
        own = next(([name for name in shared if key.lower() in name.lower()] for key in keys
                    if any(key.lower() in name.lower() for name in shared)), [])  # fmt: skip
        if only and not own:
            raise _NoSuchPosesError(path, found="other poses", expected=EXPECTED)
        other = [name for name in shared if any(key.lower() in name.lower() for key in OF_TARGET)] if not only else []
        chosen = own if own and (only or other) else [name for name in shared if name not in other]
        numbers = {
            name: np.array([row[name] for row in table], float)
            for name in chosen
            if all(isinstance(row[name], int | float) for row in table)
        }
        words = [name for name in shared if isinstance(table[0][name], str) and re.search("image|file|name", name)]
        names = [str(row[words[0]]) for row in table] if words else []
        times = [name for name in shared if _TIME.fullmatch(_CLEAN.sub("_", name.lower()))]
        if times and times[0] not in numbers:
            try:
                numbers[times[0]] = np.array([row[times[0]] for row in table], float)
            except (ValueError, TypeError) as error:
                found = f"the time {table[0][times[0]]!r}"[:100]
                raise DataError(path, found=found, expected="seconds", fix="write the times in seconds") from error
        return _choose_columns(path, numbers, names)
    if only:
        raise _NoSuchPosesError(path, found="a list of numbers", expected=EXPECTED)
    return _read_matrices(path, _make_array(path, content))


def _make_array(path: Path, values: Any) -> Array:
    try:
        return np.array(values, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(path, found="lists of several lengths", expected=EXPECTED, fix="check the file") from error


def _list_arrays(content: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Yield the lists of poses of a mapping by name: nested lists of numbers, and OpenCV's matrices."""
    for name, value in content.items():
        if isinstance(value, dict) and {"rows", "cols", "data"} <= value.keys():
            try:
                yield str(name), np.array(value["data"], np.float64).reshape(int(value["rows"]), -1)
            except (ValueError, TypeError):
                continue
        elif isinstance(value, list) and value and isinstance(value[0], list):
            try:
                yield str(name), np.array(value, np.float64)
            except (ValueError, TypeError):
                continue


MAX_DEPTH = 6
"""Deepest nesting of a record that is read."""


def _flatten(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of nested mappings and lists: {"a": {"b": [1]}} becomes a.b.0: 1."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list):
        flat = np.asarray(value, np.float64).ravel().tolist() if _is_matrix(value) else value
        for place, inner in enumerate(flat):
            yield from _flatten(inner, f"{name}.{place}", depth + 1)
    elif isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield name, value


def _is_matrix(value: list[Any]) -> bool:
    rows = [row for row in value if isinstance(row, list)]
    return (
        len(rows) == len(value) in (3, 4)
        and {len(row) for row in rows} == {4}
        and all(isinstance(number, int | float) for row in rows for number in row)
    )
