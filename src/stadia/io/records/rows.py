"""Read trajectories of other programs. The content of a file determines its format."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.input_files import check_no_archive, natural_sort_key, read_json, read_json_objects, read_text
from stadia.io.number_rows import parse_numbers
from stadia.io.records.colmap import read_colmap, read_image_lines
from stadia.io.records.json_scenes import POSES, find_phone_files, read_json_folder, read_json_poses, read_phone_files
from stadia.io.records.poses import (
    ROTATION_TOLERANCE,
    PoseList,
    are_units,
    find_nearest_rotation,
    invert_poses,
    is_g2o,
    read_g2o,
    read_npy_poses,
    read_pose_folder,
    read_seven_columns,
)
from stadia.io.records.times import MIN_STEP_OF_NANOSECONDS, convert_times, find_time_unit
from stadia.io.records.trajectory import MAX_FRAMES, TRAJECTORY, TRAJECTORY_TUM, Trajectory

MAX_BYTES = 128 << 20
MAX_POSES = 400_000  # reading and scoring a million takes 81 s
MAX_VALUE = 1e20  # Times in nanoseconds are below it, too.
MIN_QUATERNION_LENGTH = 1e-6  # programs write zeros when tracking is lost
MIN_NUMBERS = 3  # numbers of a row; programs of motion capture write rates above it
MIN_COLUMNS = 7  # numbers of a row, which may have a name in front, and no line above rows
MAX_HEADER_LINES = 11  # lines of words before the first row

UNIT_OF_NAME = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds"}
"""Unit of times by the ending of the column's name, such as tracking_timestamp_us."""

LAST_ROW = (0.0, 0.0, 0.0, 1.0)  # last row of a 4x4 pose

_EMPTY_CELL = re.compile(r",(?=,)")
_INDEXED = re.compile(r"\b(q|position)\[([0-3])\]")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")

POSITION, QUATERNION = ("x", "y", "z"), ("qw", "qx", "qy", "qz")
_QUATERNION_NAME = re.compile(r"(?:.*\.)?(?:q|quat\w*|rot\w*|ori\w*)[_.]?(?:\w*[_.])?([wxyz])|q([wxyz])_\w+")
_POSITION_NAME = re.compile(
    r"(?:.*\.)?(?:(?:p|t|pos|position|tran|trans|translation|loc|location)(?:[_.]\w*)?[_.]?)?([xyz])"
)
_NAME_OF_FRAMES = re.compile(r"[tp]([xyz])_\w+")  # tx_world_device
_EULER = {"roll", "pitch"}
_TIME_NAME = re.compile(r".*(?:time|stamp).*|t|s|sec|secs|seconds|ns")
_SPLIT_NAME = re.compile(r"(?:.*[._])?(?:(s|sec|secs|seconds)|(ns|nsec|nsecs|nanosec|nanosecs|nanoseconds))")
"""Columns of whole seconds and of the nanoseconds after them, as ROS and Newer College write times."""

_TIME_IN_NAME = re.compile(r"[0-9]{9,10}\.[0-9]+|[0-9]{16,19}")
_IMAGE_SUFFIX = re.compile(r"\.(?:png|jpe?g|tiff?|exr|bmp|webp)$", re.IGNORECASE)

CONVERSIONS = {
    ".bin": "write text: colmap model_converter --input_path MODEL --output_path OUT --output_type TXT",
    ".bag": "write TUM rows: evo_traj bag FILE TOPIC --save_as_tum",
    ".db3": "write TUM rows: evo_traj bag2 FOLDER TOPIC --save_as_tum",
}
"""Advice how to convert trajectory files that cannot be read, by suffix."""


_CHECK = "check the file"

COLMAP_IMAGES = ("images.txt", "images.bin")
"""The files of a COLMAP model's folder that hold its poses, the readable one first."""

KAPTURE_POSES = "sensors/trajectories.txt"

_HEADER_STAMP = re.compile(r"(?:.*\.)?header\.stamp(?:\.secs?)?|timestamp_sample")
"""Column of a message's own time. `rostopic echo -p` and PX4 write the time of arrival, or of logging, first."""


_FRAME_NAME = re.compile(r"(?!nan|[+-]?inf)[a-z_/]+", re.IGNORECASE)


class TrajectoryFormat(StrEnum):
    """Formats of trajectories.

    kitti: 12 numbers per row, the upper 3x4 block of T_world_camera; 13 with a frame number first; 16 or 17 with the
        last row of the matrix.
    tum: t x y z qx qy qz qw.
    euroc: t x y z qw qx qy qz and more columns, as EuRoC, OKVIS and VINS write them.
    transforms: nerfstudio's transforms.json, with the camera axes of OpenGL.
    colmap: images.txt of COLMAP, with world-to-camera poses.
    """

    KITTI = "kitti"
    TUM = "tum"
    EUROC = "euroc"
    TRANSFORMS = "transforms"
    COLMAP = "colmap"


DESCRIPTIONS = {
    TrajectoryFormat.KITTI: "12 numbers, the upper 3x4 of a camera-to-world pose, or a frame number and these 12",
    TrajectoryFormat.TUM: "8 numbers, t x y z qx qy qz qw",
    TrajectoryFormat.EUROC: "t x y z qw qx qy qz",
    TrajectoryFormat.TRANSFORMS: POSES,
    TrajectoryFormat.COLMAP: "an images.txt of COLMAP",
}
ANY = (
    "rows of KITTI (12 numbers), TUM (t x y z qx qy qz qw) or EuRoC (t x y z qw qx qy qz), COLMAP, transforms.json,"
    " g2o, .npy, or a folder of 4x4 files"
)

FORMAT_OF_COLUMNS = {
    8: TrajectoryFormat.TUM,
    **dict.fromkeys((11, 17), TrajectoryFormat.EUROC),
    **dict.fromkeys((12, 13, 16), TrajectoryFormat.KITTI),
}
"""Format of a trajectory by the number of columns, for files without a header."""


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a trajectory's text file, and what its text shows about them.

    path: the file.
    values: (N, C) numbers, one row per pose.
    lines: line number of each row in the file.
    header: the words before the first row.
    words: texts of the first columns, and of those with the name of a time, by column. A float cannot hold a time in
        nanoseconds.
    has_commas, ends_in_comma: whether the first row has commas, and whether it ends in one.
    rows: place of each row among all rows of the file, including those left out.
    lost: number of rows that are left out because they have inf or NaN.
    has_decimal_commas: whether numbers use a comma as decimal sign.
    """

    path: Path
    values: NDArray[np.float64]
    lines: tuple[int, ...]
    header: tuple[str, ...]
    words: Mapping[int, Sequence[str]]
    has_commas: bool
    ends_in_comma: bool
    rows: tuple[int, ...] = ()
    lost: int = 0
    has_decimal_commas: bool = False

    def line(self, row: int) -> str:
        """Return the file and the line of a row as text, for messages."""
        return f"{self.path}, line {self.lines[row]}"


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
    models = (path / name for name in (*COLMAP_IMAGES, KAPTURE_POSES))
    path = next((file for file in models if os.path.isfile(file)), path)  # noqa: PTH113 - also of names too long
    if path.suffix.lower() in (".json", ".sfm", ".jsonl"):
        is_lines = path.suffix.lower() == ".jsonl"
        content = read_json_objects(path, expected=POSES, fix=_CHECK) if is_lines else read_json(path, expected=POSES)
        read = _order_poses(path, read_json_poses(path, content))
        return _note_format(read, format, TrajectoryFormat.TRANSFORMS)
    if path.suffix.lower() == ".npy":
        return _order_poses(path, read_npy_poses(path))
    if path.suffix.lower() in (".npz", ".glb"):
        return _read_network_result(path)
    if path.is_dir() and not _find_inside(path, format) and (listed := read_pose_folder(path, ANY)) is not None:
        return _order_poses(path, listed)
    if path.name == COLMAP_IMAGES[1] and path.with_name("cameras.bin").is_file():
        model = read_colmap(path)
        return _note_format(_order_colmap(path, model.names, model.T_camera_world), format, TrajectoryFormat.COLMAP)
    if path.suffix.lower() in CONVERSIONS:
        found, fix = f"a '{path.suffix}' file", CONVERSIONS[path.suffix.lower()]
        raise DataError(path, found=found, expected=ANY, fix=fix)
    if path.is_dir() and not _find_inside(path, format) and (listed := read_json_folder(path)) is not None:
        return _order_poses(path, listed)
    if path.is_dir() and not _find_inside(path, format) and find_phone_files(path):
        phone = read_phone_files(path)
        return Trajectory(invert_poses(phone.T_camera_world), phone.times_s, path.name, phone.notes)
    inside = path / "data" if os.path.isdir(path / "data") else path  # noqa: PTH112 - also of names too long
    if os.path.isfile(inside / f"{0:010d}.txt"):  # noqa: PTH113 - oxts of KITTI raw
        _refuse_positions(path, read_text(inside / f"{0:010d}.txt", expected=ANY).splitlines())
    lines = _read_lines(path, format)
    if path.suffix.lower() == ".xml":
        return _order_poses(path, _read_metashape(path, lines))
    _refuse_positions(path, lines)
    if _is_colmap(lines):
        return _note_format(_read_colmap(path, lines), format, TrajectoryFormat.COLMAP)
    if is_g2o(lines):
        return _order_poses(path, read_g2o(path, lines))
    if lines and lines[0].startswith("# kapture format"):
        return _read_kapture(path, lines)
    table = _parse_rows(path, _join_matrix_lines(lines), format)
    if table.values.shape[1] == 18 and (table.values[:, -4:] == LAST_ROW).all():
        return _read_vkitti(table)
    if (columns := _find_named_columns(table)) is None and (columns := _find_columns_by_values(table)) is not None:
        table = replace(table, header=())
    seven = read_seven_columns(path, table.values) if columns is None and table.values.shape[1] == 7 else None
    if seven is not None:
        return _leave_gaps(_order_poses(path, seven), table)
    found = _find_format(table, columns, format, is_reference=is_reference)
    if found is TrajectoryFormat.KITTI:
        return _note_format(_leave_gaps(_read_matrices(table), table), format, found)
    if columns is None:
        quaternion = QUATERNION if found is TrajectoryFormat.EUROC else (*QUATERNION[1:], "qw")
        columns = dict(zip(("t", *POSITION, *quaternion), range(8), strict=True))
    read = _read_quaternions(table, columns, is_reference=is_reference)
    return _note_format(_leave_gaps(read, table), format, found)


MAX_HEAD_LINES = 40  # longest header of RTKLIB
_WRITE_DEGREES = "write rows `t latitude longitude height 0 0 0 1` (s, degrees, m): they are read, for ATE only"
_POSITIONS_ONLY = {
    r"\A\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<gpx": f"{_WRITE_DEGREES}; for scale, pass --scale-from gps=FILE",
    r"^\$[A-Z]{5},": f"{_WRITE_DEGREES}; for scale, pass --scale-from gps=FILE",
    r"\A\s*(?:<\?xml[^>]*>\s*)?<kml|\A\s*\{\s*.type.\s*:\s*.(?:Feature|LineString)|^EPSG:4326\b": _WRITE_DEGREES,
    r"^[^\n]*\b(?:lat|latitude)\b[^\n]*\b(?:lon|lng|longitude)\b(?![^\n]*\bq?w\b)": _WRITE_DEGREES,
    r"\A(?:[-+.\deE]+ +){29}[-+.\deE]+ *$": "these are oxts of KITTI, one file a frame: write the T_w_imu of pykitti as"
    " rows of 12 numbers; stadia reads them as poses of the drive's folder",
}
"""Patterns of the first lines of files without poses, mostly of GPS, and what the user can do."""


def _refuse_positions(path: Path, lines: Sequence[str]) -> None:
    """Raise DataError for positions in degrees without rotations: GPX, NMEA, tables, and oxts of KITTI."""
    head = "\n".join(lines[:MAX_HEAD_LINES])
    flags = re.IGNORECASE | re.DOTALL | re.MULTILINE
    fix = next((fix for pattern, fix in _POSITIONS_ONLY.items() if re.search(pattern, head, flags)), None)
    if fix is not None:
        raise DataError(path, found="positions in degrees without camera poses", expected=ANY, fix=fix)


def _leave_gaps(trajectory: Trajectory, table: Table) -> Trajectory:
    """Return the trajectory with notes on rows without a pose; without times, the other rows keep their frames."""
    notes = list(trajectory.notes)
    if table.has_decimal_commas:
        notes.append(f"commas in the numbers of {table.path.name} are read as decimal points")
    if not table.lost:
        return replace(trajectory, notes=tuple(notes))
    lost = f"{table.lost} of {table.lost + len(table.rows)} rows of {table.path.name}"
    notes.append(f"{lost} have inf or NaN and no pose, and are left out")
    is_numbered = trajectory.times_s is not None or trajectory.frames is not None
    frames = trajectory.frames if is_numbered else np.array(table.rows, np.intp)
    return replace(trajectory, frames=frames, notes=tuple(notes))


def _order_poses(path: Path, listed: PoseList) -> Trajectory:
    known = np.isfinite(listed.matrices).all(axis=(1, 2))
    if not known.any():
        raise DataError(
            path,
            found="no pose",
            expected="at least one",
            fix="check that the program which wrote this file tracked the camera",
        )
    poses = listed.matrices.copy()
    for index in np.flatnonzero(known):
        poses[index, :3, :3] = find_nearest_rotation(f"{path}, pose {index}", poses[index, :3, :3])
    is_timed = listed.times_s is not None and bool((np.diff(listed.times_s) > 0).all())
    if listed.names is not None and not is_timed:
        named = _order_by_name(path, listed.names, poses, listed.note)
        known = np.isfinite(named.T_world_camera).all(axis=(1, 2))
    else:
        named = Trajectory(poses, listed.times_s if is_timed else None, path.name, (listed.note,))
    if known.all():
        return named
    if named.times_s is None:
        named = replace(named, frames=named.frame_numbers)
    return named.rows(np.flatnonzero(known))


def _find_inside(path: Path, format: TrajectoryFormat | None) -> list[Path]:
    """Return the trajectories of stadia in a folder."""
    names = {None: (TRAJECTORY, TRAJECTORY_TUM), TrajectoryFormat.TUM: (TRAJECTORY_TUM,)}.get(format, (TRAJECTORY,))
    return [path / name for name in names if os.path.isfile(path / name)]  # noqa: PTH113 - also of names too long


def read_kitti_trajectory(path: Path) -> Trajectory:
    """Read a trajectory in KITTI's format: 12 numbers per line, or 13 with the number of the video frame first.

    Raises DataError with file and line.
    """
    return read_trajectory(path, TrajectoryFormat.KITTI)


def _note_format(trajectory: Trajectory, requested: TrajectoryFormat | None, found: TrajectoryFormat) -> Trajectory:
    if requested in (None, found):
        return trajectory
    note = f"{trajectory.name} is read as {found} ({DESCRIPTIONS[found]}), not as {requested}"
    return replace(trajectory, notes=(note, *trajectory.notes))


def _read_lines(path: Path, format: TrajectoryFormat | None) -> list[str]:
    inside = _find_inside(path, format)
    expected = ANY if format is None else DESCRIPTIONS[format]
    fix = f"pass {inside[0]}" if inside else "check the path"
    lines = read_text(path, expected=expected, fix=fix, max_bytes=MAX_BYTES).splitlines()
    if len(lines) > 2 * MAX_POSES:
        raise _make_count_error(path, len(lines))
    return lines


def _make_count_error(path: Path, count: int) -> DataError:
    fix = "leave out poses: use the camera's, not an inertial sensor's, or a part of the drive"
    return DataError(path, found=f"{count} lines", expected=f"at most {MAX_POSES}", fix=fix)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parse_rows(path: Path, lines: Sequence[str], format: TrajectoryFormat | None) -> Table:
    """Return the rows of a file, each with as many numbers as the first. Raise DataError with file and line."""
    expected = ANY if format is None else DESCRIPTIONS[format]
    values, numbers, times = list[list[float]](), list[int](), dict[int, list[str]]()
    header, skipped, first = tuple[str, ...](), 0, ""
    texts = set[int]()  # columns of words, such as an identifier, which are left out
    rows, lost = list[int](), 0
    has_decimal_commas = _has_decimal_commas(lines)
    for number, line in enumerate(lines, 1):
        content, _, comment = line.partition("#")
        if values:  # programs of motion capture leave cells empty without a pose
            content = _EMPTY_CELL.sub(",nan", content)
        words = content.replace(",", "." if has_decimal_commas else " ").replace(";", " ").split()
        if not words:
            header = _split_header(comment) if comment and not values else header
            continue
        count = sum(map(_is_number, words)) if not values else 0
        is_row = count >= MIN_COLUMNS or (count > 0 and len(words) == len(header) > MIN_NUMBERS)
        is_header = not any(map(_is_number, words[: 2 if is_row else 1])) or len(words) < MIN_NUMBERS
        if not values and is_header and skipped < MAX_HEADER_LINES:
            header, skipped = _split_header(content), skipped + 1
            continue
        where = f"{path}, line {number}"
        if header and not values:
            texts = {column for column, word in enumerate(words) if not _is_number(word)}
            texts = texts if len(header) == len(words) > len(texts) else set()
            header = tuple(name for column, name in enumerate(header) if column not in texts)
        elif not values:  # names of frames, such as odom and base_link
            texts = {column for column, word in enumerate(words) if _FRAME_NAME.fullmatch(word)}
            texts = texts if 0 not in texts and len(words) - len(texts) >= 8 else set()
        words = [word for column, word in enumerate(words) if column not in texts] if texts else words
        if values and len(words) < len(values[0]) and "nan" in words:
            lost += 1
            continue
        if values and len(words) != len(values[0]):
            raise _make_width_error(where, len(words), len(values[0]), expected)
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise DataError(where, found=str(error)[:200], expected=expected) from error
        if not all(map(math.isfinite, row)):
            lost += 1
            continue
        if wrong := [value for value in row if not abs(value) <= MAX_VALUE]:
            raise DataError(where, found=f"the number {wrong[0]:g}", expected=expected, fix="write inf for no pose")
        if not values:
            first = content.strip()
            times = {column: [] for column in range(len(words)) if column < MAX_LEADING or _is_time(header, column)}
        rows.append(len(values) + lost)
        values.append(row)
        numbers.append(number)
        for column, texts_of_column in times.items():
            texts_of_column.append(words[column])
        if len(values) > MAX_POSES:
            raise _make_count_error(path, len(lines))
    if not values:
        found, fix = "no pose", "check that the program which wrote this file tracked the camera"
        if skipped and not lost:
            found, fix = f"{skipped} lines of words and no row of numbers", "write rows t x y z qx qy qz qw"
        raise DataError(path, found=found, expected="at least one row", fix=fix)
    has_commas = bool(re.search("[;]" if has_decimal_commas else "[,;]", first))
    ends_in_comma = first.endswith((",", ";"))
    return Table(path, np.array(values), tuple(numbers), header, times, has_commas, ends_in_comma, tuple(rows), lost,
                 has_decimal_commas)  # fmt: skip


def _join_matrix_lines(lines: Sequence[str]) -> Sequence[str]:
    """Return a line of 16 numbers for each matrix of four lines, as Redwood's .log has them below a line of three
    numbers; other lines are returned unchanged.
    """
    if not any(len(line.partition("#")[0].replace(",", " ").split()) == 4 for line in lines[:MAX_HEADER_LINES]):
        return lines
    words = [row for line in lines if (row := line.partition("#")[0].replace(",", " ").split())]
    rows = [row for row in words if len(row) == 4]
    is_square = len(rows) % 4 == 0 and len(words) <= len(rows) + len(rows) // 4
    if not rows or not is_square or any(parse_numbers(row).tolist() != list(LAST_ROW) for row in rows[3::4]):
        return lines
    return [" ".join(map(" ".join, rows[first : first + 4])) for first in range(0, len(rows), 4)]


def _has_decimal_commas(lines: Sequence[str]) -> bool:
    """Return whether commas in the first row of numbers are decimal points: 0,15 1,27 between spaces or semicolons."""
    for line in lines[: MAX_HEADER_LINES + 20]:
        words = line.partition("#")[0].replace(";", " ").split()
        if len(words) >= 7 and not any(map(str.isalpha, words)):
            return "." not in line and sum(bool(_DECIMAL_COMMA.fullmatch(word)) for word in words) >= len(words) / 2
    return False


def _split_header(line: str) -> tuple[str, ...]:
    """Return the names of a line of words, without units; "/a/x" of PlotJuggler is a.x, position[0] of PX4 is x."""
    line = _INDEXED.sub(lambda match: match[1] + "." + {"q": "wxyz"}.get(match[1], "xyz ")[int(match[2])], line)
    line = re.sub(r"\[[^\]]*\]|\([^)]*\)", "", line)
    words = re.split("[,;]", line) if re.search("[,;]", line) else line.split()
    return tuple(word.strip().strip("/").replace("/", ".").lower() for word in words)


def _make_width_error(where: str, count: int, first: int, expected: str) -> DataError:
    if {count, first} == {12, 13}:
        found = "a row with a frame number after one without" if count == 13 else "a row without a frame number"
        return DataError(where, found=found, expected="12 numbers in each row, or 13 in each")
    return DataError(where, found=f"{count} columns after rows of {first}", expected=expected)


def _is_time(header: Sequence[str], column: int) -> bool:
    name = header[column] if column < len(header) else ""
    return bool(_TIME_NAME.fullmatch(name) or _SPLIT_NAME.fullmatch(name))


def _find_named_columns(table: Table) -> dict[str, int] | None:
    """Return the columns t, x, y, z, qw, qx, qy, qz by the names of a header; None if one is missing.

    A column ns has the nanoseconds after the whole seconds of the column t.
    """
    names, columns = [name for name in table.header if name], dict[str, int]()
    for column, name in enumerate(names):
        if match := _QUATERNION_NAME.fullmatch(name):
            columns.setdefault("q" + (match[1] or match[2]), column)
        elif match := _POSITION_NAME.fullmatch(name) or _NAME_OF_FRAMES.fullmatch(name):
            columns.setdefault(match[1], column)
        elif _HEADER_STAMP.fullmatch(name):
            columns["t"] = column
        elif _TIME_NAME.fullmatch(name):
            columns.setdefault("t", column)
    width = table.values.shape[1]
    if columns.keys().isdisjoint(QUATERNION) and {name.rpartition(".")[2] for name in names} >= _EULER:
        fix = "write t x y z qx qy qz qw, with q = scipy.spatial.transform.Rotation.from_euler(ORDER, angles).as_quat()"
        found = "roll and pitch, whose order of rotation the file does not state"
        raise DataError(table.path, found=found, expected="a quaternion", fix=fix)
    if columns.keys() != {"t", *POSITION, *QUATERNION} or width > len(names) or max(columns.values()) >= width:
        return None
    if (after := columns["t"] + 1) < len(names) and _are_split_times(table, columns["t"]):
        first, second = (_SPLIT_NAME.fullmatch(names[column]) for column in (columns["t"], after))
        if first is not None and second is not None and first[1] and second[2]:
            columns["ns"] = after
    return columns


def _are_split_times(table: Table, column: int) -> bool:
    """Return whether a column has whole seconds since 1970, or a smaller number of them, and the next nanoseconds."""
    seconds, nanoseconds = table.values[:, column], table.values[:, column + 1]
    is_whole = (table.values[:, column : column + 2] % 1 == 0).all()
    return bool(is_whole and (np.abs(seconds) < 1e10).all() and ((nanoseconds >= 0) & (nanoseconds < 1e9)).all())


MAX_LEADING = 5  # columns in front of a position
MIN_NANOSECONDS = 1e6  # a counter does not reach it next to seconds since 1970


def _find_columns_by_values(table: Table) -> dict[str, int] | None:
    """Return the columns of rows with counters or clocks in front of a position and a quaternion, in either order.

    Four columns of length 1 are the quaternion, and a column that rises is the time. The result is None for rows of
    TUM and EuRoC, for matrices, and for rows without a time.
    """
    values, width = table.values, table.values.shape[1]
    matrix = values[0, width % 2 : width % 2 + 12].reshape(-1, 4)[:, :3] if width in (12, 13, 16, 17) else np.empty(0)
    if matrix.shape == (3, 3) and np.abs(matrix @ matrix.T - np.eye(3)).max() < ROTATION_TOLERANCE:
        return None
    places = [(start, start - 3) for start in range(4 if width in (9, 10) else 5, min(width - 3, MAX_LEADING + 4))]
    if not are_units(values[:, 4:8]):  # else the rows are those of TUM or EuRoC, in which a quaternion is last
        places += [(start, start + 4) for start in range(1, min(width - 6, MAX_LEADING))]
    start, x = next((place for place in places if are_units(values[:, place[0] : place[0] + 4])), (0, 0))
    leading = min(start, x)
    if not leading or (start > 4 and are_units(values[:, 4:8])):
        return None
    seconds_since_1970 = [column for column in range(leading - 1) if (values[:, column] > 1e8).all()]
    split = [c for c in seconds_since_1970 if _are_split_times(table, c) and values[:, c + 1].max() >= MIN_NANOSECONDS]
    rising = [column for column in range(leading) if (np.diff(values[:, column]) > 0).all()]
    clocks = [column for column in rising if (np.diff(values[:, column]) % 1 != 0).any()]
    clocks += [column for column in rising if np.median(np.diff(values[:, column])) >= MIN_STEP_OF_NANOSECONDS]
    if not (split or rising):
        return None
    time = min(split or clocks or rising)
    w_first = values[0, start] > UNTURNED > np.abs(values[0, start + 3])
    quaternion = QUATERNION if w_first else (*QUATERNION[1:], "qw")
    columns = dict(zip((*POSITION, *quaternion), (x, x + 1, x + 2, *range(start, start + 4)), strict=True))
    return {"t": time, **columns, **({"ns": time + 1} if split else {})}


UNTURNED = 0.9  # w of the first pose, which most programs write without rotation


def _find_format(
    table: Table, columns: dict[str, int] | None, requested: TrajectoryFormat | None, *, is_reference: bool
) -> TrajectoryFormat:
    """Return the format of rows. Raise DataError for an unknown number of columns."""
    if columns is not None:
        return TrajectoryFormat.EUROC if columns["qw"] < columns["qx"] else TrajectoryFormat.TUM
    count = table.values.shape[1]
    if count in (16, 17) and np.array_equal(table.values[0, -4:], LAST_ROW):
        return TrajectoryFormat.KITTI
    found = FORMAT_OF_COLUMNS.get(count) or (TrajectoryFormat.EUROC if count > 17 else None)
    if found is None:
        option = "--reference-format" if is_reference else "--format"
        expected = ANY if requested is None else DESCRIPTIONS[requested]
        fix = f"check {option} and the file" if requested else "check that the file is a trajectory"
        if count in (4, 7, 9, 10):
            fix = "write t x y z qx qy qz qw, or a header that names the columns so"
        raise DataError(table.line(0), found=f"{count} columns", expected=expected, fix=fix)
    if count == 8 and requested in (TrajectoryFormat.TUM, TrajectoryFormat.EUROC) and not table.ends_in_comma:
        return requested
    if count == 8 and table.has_commas and find_time_unit(table.values[:, 0]) == "nanoseconds":
        return TrajectoryFormat.EUROC  # VINS writes rows of 8 numbers that end in a comma
    return requested if count == 8 and requested is TrajectoryFormat.EUROC else found


def _read_matrices(table: Table) -> Trajectory:
    """Return poses of rows of 12 or 16 numbers, which a frame number may precede."""
    count = table.values.shape[1]
    frames, poses, notes = list[int](), np.tile(np.eye(4), (len(table.values), 1, 1)), tuple[str, ...]()
    if count == 16 and not np.array_equal(table.values[0, -4:], LAST_ROW):
        if (table.values[:, 3::4] != LAST_ROW).any():
            found, fix = f"a last row {table.values[0, -4:].tolist()}", "write each pose row by row"
            raise DataError(table.line(0), found=found, expected="0 0 0 1", fix=fix)
        table = replace(table, values=np.swapaxes(table.values.reshape(-1, 4, 4), 1, 2).reshape(-1, 16))
        notes = (f"the 4x4 poses of {table.path.name} are read column by column: their last column is 0 0 0 1",)
    for row, values in enumerate(table.values):
        if count in (13, 17):
            frames.append(_parse_frame_number(table.line(row), values[0], frames[-1] if frames else -1))
        T = values[count % 2 :].reshape(-1, 4)[:3] if count != 13 else values[1:].reshape(3, 4)
        poses[row, :3] = T
        poses[row, :3, :3] = find_nearest_rotation(table.line(row), T[:, :3])
    return Trajectory(poses, None, table.path.name, notes, frames=np.array(frames, np.intp) if frames else None)


def _read_vkitti(table: Table) -> Trajectory:
    """Return the poses of the first camera of Virtual KITTI's extrinsic.txt: frame, camera, 4x4 world-to-camera."""
    cameras, rows = table.values[:, 1], np.flatnonzero(table.values[:, 1] == table.values[0, 1])
    poses, frames = table.values[rows, 2:].reshape(-1, 4, 4), list[int]()
    for T, row in zip(poses, rows.tolist(), strict=True):
        frames.append(_parse_frame_number(table.line(row), table.values[row, 0], frames[-1] if frames else -1))
        T[:3, :3] = find_nearest_rotation(table.line(row), T[:3, :3])
    note = f"poses of {table.path.name} are inverted: Virtual KITTI writes world-to-camera"
    if len(rows) < len(cameras):
        note += f"; those of camera {cameras[0]:.0f} are used, the first of {len(np.unique(cameras))}"
    return Trajectory(invert_poses(poses), None, table.path.name, (note,), frames=np.array(frames, np.intp))


def _read_kapture(path: Path, lines: Sequence[str]) -> Trajectory:
    """Return the poses of the first device of kapture's trajectories.txt: time, device, world-to-device qw qx qy qz, t.

    Raises DataError for another file of kapture.
    """
    rows = [[word.strip() for word in line.split(",")] for line in lines if line.strip() and not line.startswith("#")]
    if not rows or {len(row) for row in rows} != {9}:
        expected = "rows timestamp, device_id, qw, qx, qy, qz, tx, ty, tz"
        raise DataError(path, found="a file of kapture without poses", expected=expected, fix=f"pass {KAPTURE_POSES}")
    devices = list(dict.fromkeys(row[1] for row in rows))
    own = [" ".join((row[0], *row[6:], *row[2:6])) for row in rows if row[1] == devices[0]]
    columns = dict(zip(("t", *POSITION, *QUATERNION), range(8), strict=True))
    read = _read_quaternions(_parse_rows(path, own, None), columns, is_reference=False)
    note = f"poses of {path.name} are inverted: kapture writes world-to-device"
    if len(devices) > 1:
        note += f"; those of {devices[0]} are used, the first of {len(devices)} devices"
    return replace(read, T_world_camera=invert_poses(read.T_world_camera), notes=(note, *read.notes))


def _parse_frame_number(where: str, value: float, before: int) -> int:
    """Return the frame number of a row. Raise DataError if it is not an integer, or does not rise."""
    if value != int(value) or not before < value < MAX_FRAMES:
        expected = f"a frame number: an integer above {before}" if before >= 0 else "a frame number: an integer from 0"
        raise DataError(where, found=f"{value:g}", expected=expected, fix="write one row a frame, in order")
    return int(value)


def _read_times(table: Table, column: int, nanoseconds: int | None = None) -> tuple[NDArray[np.float64], str]:
    """Return times (N,) in seconds and their unit in the file, by the name of the column or the size of the times.

    nanoseconds: column of the nanoseconds after whole seconds, if there is one.
    """
    words = table.words[column]
    if nanoseconds is not None:
        whole, parts = table.values[:, column].astype(np.int64), table.values[:, nanoseconds].astype(np.int64)
        times, _ = convert_times([str(stamp) for stamp in whole * 10**9 + parts], "nanoseconds")
        return times, "seconds and nanoseconds"
    named = UNIT_OF_NAME.get(table.header[column].rpartition("_")[2]) if table.header else None
    return convert_times(words, named)


MIN_CLOCK_DIFFERENCE_S = 1e-3  # difference of two columns with times; one clock in two units differs by rounding


def _describe_columns(table: Table, columns: Mapping[str, int], times: NDArray[np.float64]) -> list[str]:
    """Return notes on which column gives the times, if there are several clocks or no names."""
    name, time = table.path.name, columns["t"]
    if not table.header:
        x, w_first = columns[POSITION[0]], columns["qw"] < columns["qx"]
        order, q = "qw qx qy qz" if w_first else "qx qy qz qw", columns["qw" if w_first else "qx"]
        text = f"t is column {time + 1}, x y z are {x + 1} to {x + 3}, {order} are {q + 1} to {q + 4}"
        return [f"columns of {name} are found by their values: {text}"] if x > 1 else []
    for column in table.words:
        if column in (time, columns.get("ns")) or not _is_time(table.header, column):
            continue
        other, _ = _read_times(table, column)
        if (np.diff(other) > 0).all() and (apart := float(np.abs(other - times).max())) > MIN_CLOCK_DIFFERENCE_S:
            others = f"{table.header[column]} differs by up to {apart:.3g} s"
            return [f"times of {name} are its column {table.header[time]}; {others}"]
    return []


def _read_quaternions(table: Table, columns: dict[str, int], *, is_reference: bool) -> Trajectory:
    """Return poses of rows with a time and a quaternion, the columns by name."""
    name, notes = table.path.name, list[str]()
    times, unit = _read_times(table, columns["t"], columns.get("ns"))
    if unit != "seconds":
        notes.append(f"times of {name} are read as {unit}")
    notes += _describe_columns(table, columns, times)
    quaternions, note = _normalize(table, table.values[:, [columns[key] for key in QUATERNION]])
    notes += note
    kept, repeated = list[int](), 0
    _check_resolution(table, times, columns["t"])
    for row, time_s in enumerate(times):
        before = times[kept[-1]] if kept else -math.inf
        if not quaternions[row].any():
            continue
        if is_reference and time_s == before:
            repeated += 1
        elif time_s <= before:
            fault = "a duplicated timestamp" if time_s == before else "a timestamp that goes back"
            fix = "keep one pose an instant, sorted by time"
            raise DataError(table.line(row), found=f"{fault} ({time_s:.6f})", expected="rising time", fix=fix)
        else:
            kept.append(row)
    if repeated:
        notes.append(f"duplicated timestamps in {name}: {repeated}; the first pose of each is kept")
    from scipy.spatial.transform import Rotation  # slow to import

    T = np.tile(np.eye(4), (len(kept), 1, 1))
    T[:, :3, :3] = Rotation.from_quat(quaternions[kept], scalar_first=True).as_matrix()
    T[:, :3, 3], note = _convert_degrees(name, times[kept], table.values[kept][:, [columns[key] for key in POSITION]])
    notes += note
    return Trajectory(T, times[kept], name, tuple(notes), w_first=columns["qw"] < columns["qx"])


EARTH_RADIUS_M, ECCENTRICITY_2 = 6_378_137.0, 6.694_379_990_14e-3
"""Squared eccentricity of the ellipsoid WGS84 (EARTH_RADIUS_M: its semi-major axis)."""

MIN_DEGREES_OVER_EXTENT = 100.0  # distance from 0 over extent, above which positions may be degrees, not metres
MIN_EXTENT_M = 2.0  # least extent of positions that are read as degrees


MAX_SPEED_M_S = 100.0  # speed if degrees are read as metres; a hovering camera has thousands if read as degrees


def _convert_degrees(
    name: str, times: NDArray[np.float64], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return positions (N, 3) in metres east, north and up, with a note, if they are latitude, longitude and height.

    Degrees are recognized by both being far from 0 compared with their extent, and by the speed that they give. Other
    positions are returned unchanged.
    """
    first, extent = positions[0], np.ptp(positions, axis=0)
    is_far = (np.abs(first[:2]) > MIN_DEGREES_OVER_EXTENT * extent[:2]).all()
    if not is_far or np.abs(first).min() == 0 or (np.abs(positions[:, :2]) > (90, 180)).any():
        return positions, []
    metres = to_local_metres(positions)
    path_m = float(np.linalg.norm(np.diff(metres[:, :2], axis=0), axis=1).sum())
    is_still = np.ptp(metres[:, :2], axis=0).max() < MIN_EXTENT_M
    if is_still or path_m > MAX_SPEED_M_S * (times[-1] - times[0]):
        return positions, []
    note = f"positions of {name} are degrees of latitude ({first[0]:.4f}) and longitude ({first[1]:.4f}), and are"
    return metres, [note + " converted to metres east, north and up of the first (WGS 84); orientations are unchanged"]


def to_local_metres(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert geographic to local coordinates: metres to the east, to the north and up, from the first position.

    rows: (N, 3) latitude and longitude in degrees, altitude in metres.

    Examples:
        >>> to_local_metres(np.array([[0.0, 0, 0], [0.0, 0.001, 5.0]])).round(2).tolist()
        [[0.0, 0.0, 0.0], [111.32, 0.0, 5.0]]
    """
    latitude, longitude = np.radians(rows[:, :2]).T
    across = EARTH_RADIUS_M / np.sqrt(1 - ECCENTRICITY_2 * np.sin(latitude) ** 2)
    out = across + rows[:, 2]
    z = (across * (1 - ECCENTRICITY_2) + rows[:, 2]) * np.sin(latitude)
    fixed = np.stack([out * np.cos(latitude) * np.cos(longitude), out * np.cos(latitude) * np.sin(longitude), z], -1)
    (sin_a, cos_a), (sin_o, cos_o) = ((math.sin(angle), math.cos(angle)) for angle in (latitude[0], longitude[0]))
    axes = np.array(
        [[-sin_o, cos_o, 0.0], [-sin_a * cos_o, -sin_a * sin_o, cos_a], [cos_a * cos_o, cos_a * sin_o, sin_a]]
    )
    return np.asarray((fixed - fixed[0]) @ axes.T, np.float64)


def _normalize(table: Table, quaternions: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    lengths, name = np.linalg.norm(quaternions, axis=1), table.path.name
    lost = lengths < MIN_QUATERNION_LENGTH
    if lost.all():
        fix = "write its rotations: qx qy qz qw is 0 0 0 1 without rotation. Programs write zeros when tracking is lost"
        found = f"a quaternion of length 0 in each of {len(lost)} rows"
        raise DataError(table.line(0), found=found, expected="length 1", fix=fix)
    length, notes = float(np.median(lengths[~lost])), list[str]()
    off = ~lost & (np.abs(lengths / length - 1) > ROTATION_TOLERANCE)
    if abs(length - 1) > ROTATION_TOLERANCE and not off.any() and (~lost).sum() > 1:
        notes.append(f"quaternions of {name} have the length {length:.4g} and are normalized")
    else:
        off = ~lost & (np.abs(lengths - 1) > ROTATION_TOLERANCE)
    if off.any():
        row = int(np.argmax(off))
        found = f"a quaternion of length {lengths[row]:.4g}"
        raise DataError(table.line(row), found=found, expected="length 1", fix="check the order of the columns")
    if lost.any():
        lost_rows = f"{int(lost.sum())} of {len(lost)} rows of {name} have a quaternion of zeros"
        notes.append(f"{lost_rows}, since tracking was lost, and are left out")
    return np.where(lost[:, None], 0, quaternions / np.where(lost, 1, lengths)[:, None]), notes


def _check_resolution(table: Table, times: NDArray[np.float64], column: int) -> None:
    """Raise DataError if most rows repeat the time before: the file has too few digits."""
    distinct = len(np.unique(times))
    if len(times) < 4 or (np.diff(times) == 0).mean() < 0.5:
        return
    found = f"{distinct} distinct times in {len(times)} rows, such as {table.words[column][0]}"
    fix = "write times with all digits: numpy.savetxt(FILE, rows, fmt='%.9f'), or integers for nanoseconds"
    raise DataError(table.path, found=found, expected="a time for each pose", fix=fix)


def _is_colmap(lines: Sequence[str]) -> bool:
    """Return whether lines have the form of COLMAP's images.txt: ID, quaternion, translation, camera, name."""
    first = next((line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")), [])
    if len(first) < 10 or not all(map(_is_number, first[:9])) or _is_number(first[9]):
        return False
    return first[0].isdecimal() and first[8].isdecimal()


def _read_colmap(path: Path, lines: Sequence[str]) -> Trajectory:
    """Return the poses of COLMAP's images.txt, sorted by image name."""
    images = read_image_lines(path, lines)
    return _order_colmap(path, images.names, images.T_camera_world)


def _order_colmap(path: Path, names: Sequence[str], T_camera_world: NDArray[np.float64]) -> Trajectory:
    """Return camera-to-world poses sorted by image name; of the cameras of a rig, the poses of the first folder."""
    note = f"poses of {path.name} are inverted: COLMAP writes world-to-camera, in its own scale"
    rows_of = dict[str, list[int]]()
    for row, name in enumerate(names):
        rows_of.setdefault(str(PurePosixPath(name).parent), []).append(row)
    images = {tuple(sorted(PurePosixPath(names[row]).name for row in rows)) for rows in rows_of.values()}
    rows = list(range(len(names)))
    if len(rows_of) > 1 and len(images) == 1:  # images of one name are of one instant
        first = min(rows_of)
        rows, note = rows_of[first], f"{note}; poses of {first} are used, the first of {len(rows_of)} cameras"
    return _order_by_name(path, [names[row] for row in rows], invert_poses(T_camera_world[rows]), note)


def _read_network_result(path: Path) -> Trajectory:
    """Return the poses of an .npz or .glb of a network, such as VGGT or Depth Anything 3."""
    from stadia.io.records.network_arrays import EXPECTED_NPZ, find_npz, read_glb, read_network_npz

    if path.suffix.lower() == ".npz" and not find_npz(path):
        fix = "save the poses as numpy.save(FILE, T) with T of shape (N, 4, 4)"
        raise DataError(path, found="no array of poses", expected=EXPECTED_NPZ, fix=fix)
    read = read_glb(path) if path.suffix.lower() == ".glb" else read_network_npz(path)
    return Trajectory(invert_poses(read.T_camera_world), None, path.name, read.notes)


_METASHAPE_CAMERA = re.compile(r'<camera\b[^>]*\blabel="([^"]*)"[^>]*>\s*<transform>([^<]+)</transform>')


def _read_metashape(path: Path, lines: Sequence[str]) -> PoseList:
    """Return the poses of the aligned cameras of Metashape's XML: camera-to-world, in the scale of the chunk."""
    found = _METASHAPE_CAMERA.findall("\n".join(lines))
    matrices = [parse_numbers(text.split()) for _, text in found]
    if not found or any(len(numbers) != 16 for numbers in matrices):
        raise DataError(path, found="XML without poses", expected=ANY, fix="export the cameras of aligned images")
    note = f"poses of {len(found)} cameras of {path.name} are read as Metashape's, in the scale of its chunk"
    return PoseList(np.stack(matrices).reshape(-1, 4, 4), [name for name, _ in found], note)


def _order_by_name(path: Path, names: Sequence[str], poses: NDArray[np.float64], note: str) -> Trajectory:
    """Return poses sorted by image name, with the times or frame numbers in the names, if these have gaps."""
    order = sorted(range(len(names)), key=lambda index: natural_sort_key(Path(names[index])))
    stems = [_IMAGE_SUFFIX.sub("", PurePosixPath(names[index]).name) for index in order]
    trajectory = Trajectory(poses[order], None, path.name, (note,))
    if all(_TIME_IN_NAME.fullmatch(stem) for stem in stems):
        times, _ = convert_times(stems)
        return replace(trajectory, times_s=times) if (np.diff(times) > 0).all() else trajectory
    digits = [re.search(r"([0-9]{1,12})[^0-9]*$", stem) for stem in stems]
    numbers = np.array([int(match[1]) for match in digits if match is not None], np.intp)
    if len(numbers) < len(stems) or not (np.diff(numbers) > 0).all() or (np.diff(numbers) == 1).all():
        return trajectory
    base = int(numbers[0] == 1)
    text = "the frame of a pose is the number in its image's name" + (", less 1" if base else "")
    return replace(trajectory, frames=numbers - base, notes=(note, text))
