"""Read poses in text: rows of numbers with or without names, pose graphs, and files with one matrix each."""

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.conventions import Direction, read_poses
from stadia.geometry.geographic import to_local_metres
from stadia.io.array_files import read_npy
from stadia.io.input_files import natural_sort_key, read_text
from stadia.io.number_rows import parse_numbers
from stadia.io.records import formats
from stadia.io.records.colmap import read_colmap_poses, read_image_lines
from stadia.io.records.formats import Format, TrajectoryFormat
from stadia.io.records.poses import (
    MAX_POSES,
    MIN_STEP_OF_NANOSECONDS,
    ROTATION_TOLERANCE,
    are_units,
    convert_times,
    convert_to_nanoseconds,
    count_numbers,
    find_time_unit,
    is_rotation,
    make_poses,
    read_seven_numbers,
)
from stadia.io.records.reconstruction import Reconstruction, make_reconstruction
from stadia.io.records.trajectory import MAX_FRAMES, TRAJECTORY, TRAJECTORY_TUM

Array = NDArray[np.float64]

MAX_BYTES = 128 << 20
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

_HEADER_STAMP = re.compile(r"(?:.*\.)?header\.stamp(?:\.secs?)?|timestamp_sample")
"""Column of a message's own time. `rostopic echo -p` and PX4 write the time of arrival, or of logging, first."""

_FRAME_NAME = re.compile(r"(?!nan|[+-]?inf)[a-z_/]+", re.IGNORECASE)

KAPTURE_POSES = "sensors/trajectories.txt"

FORMAT_OF_COLUMNS = {
    8: TrajectoryFormat.TUM,
    **dict.fromkeys((11, 17), TrajectoryFormat.EUROC),
    **dict.fromkeys((12, 13, 16), TrajectoryFormat.KITTI),
}
"""Format of a trajectory by the number of columns, for files without a header."""


def read_text_poses(path: Path, format: TrajectoryFormat | None, *, is_reference: bool) -> Reconstruction:
    """Read the poses of a text file in the format that its content shows.

    Takes the same arguments and raises the same exceptions as `read.read_trajectory`.
    """
    lines = _read_lines(path, format)
    if path.suffix.lower() == ".xml":
        fix = "export the cameras of aligned images"
        raise DataError(path, found="XML without poses", expected=formats.ANY_TRAJECTORY, fix=fix)
    refuse_positions(path, lines)
    if _is_colmap(lines):
        return note_format(read_colmap_poses(path, read_image_lines(path, lines)), format, TrajectoryFormat.COLMAP)
    if any(line.startswith(("VERTEX_SE3", "VERTEX_SE2", "EDGE_SE3", "EDGE_SE2")) for line in lines[:50]):
        return _read_g2o(path, lines)
    if lines and lines[0].startswith("# kapture format"):
        return _read_kapture(path, lines)
    joined = _join_matrix_lines(lines)
    table = _parse_rows(path, joined, format)
    if table.values.shape[1] == 18 and (table.values[:, -4:] == LAST_ROW).all():
        return _read_virtual_kitti(table)
    if table.values.shape[1] == count_numbers(formats.REALESTATE) and not table.values[:, 5:7].any():
        return note_format(_leave_gaps(_read_realestate(table), table), format, TrajectoryFormat.KITTI)
    if (columns := _find_named_columns(table)) is None and (columns := _find_columns_by_values(table)) is not None:
        table = replace(table, header=())
    if columns is None and table.values.shape[1] == 7 and (seven := _read_seven_columns(table)) is not None:
        return _leave_gaps(seven, table)
    found = _find_format(table, columns, format, is_reference=is_reference)
    if found is TrajectoryFormat.KITTI:
        read = _read_matrices(table)
        read = read if joined is lines else replace(read, pose_format=formats.REDWOOD)
        return note_format(_leave_gaps(read, table), format, found)
    if columns is None:
        names = (formats.EUROC if found is TrajectoryFormat.EUROC else formats.TUM).columns.split()
        columns = {name: column for column, name in enumerate(names)}
    read = _read_quaternions(table, columns, is_reference=is_reference)
    return note_format(_leave_gaps(read, table), format, found)


def find_trajectories(path: Path, format: TrajectoryFormat | None) -> list[Path]:
    """Return the trajectories of stadia in a folder."""
    names = {None: (TRAJECTORY, TRAJECTORY_TUM), TrajectoryFormat.TUM: (TRAJECTORY_TUM,)}.get(format, (TRAJECTORY,))
    return [path / name for name in names if os.path.isfile(path / name)]  # noqa: PTH113 - also of names too long


def note_format(read: Reconstruction, requested: TrajectoryFormat | None, found: TrajectoryFormat) -> Reconstruction:
    """Return poses with a note in front if a user expected another format than the found one."""
    if requested in (None, found):
        return read
    note = f"{read.path.name} is read as {found} ({formats.DESCRIPTIONS[found]}), not as {requested}"
    return replace(read, notes=(note, *read.notes))


def _read_lines(path: Path, format: TrajectoryFormat | None) -> list[str]:
    inside = find_trajectories(path, format)
    expected = formats.ANY_TRAJECTORY if format is None else formats.DESCRIPTIONS[format]
    fix = f"pass {inside[0]}" if inside else "check the path"
    lines = read_text(path, expected=expected, fix=fix, max_bytes=MAX_BYTES).splitlines()
    if len(lines) > 2 * MAX_POSES:
        raise _make_count_error(path, len(lines))
    return lines


def _make_count_error(path: Path, count: int) -> DataError:
    fix = "leave out poses: use the camera's, not an inertial sensor's, or a part of the drive"
    return DataError(path, found=f"{count} lines", expected=f"at most {MAX_POSES}", fix=fix)


MAX_HEAD_LINES = 40  # longest header of RTKLIB
_WRITE_DEGREES = "write rows `t latitude longitude height 0 0 0 1` (s, degrees, m): they are read, for ATE only"
_POSITIONS_ONLY = {
    r"\A\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<gpx": f"{_WRITE_DEGREES}; for scale, pass --scale-from gps=FILE",
    r"^\$[A-Z]{5},": f"{_WRITE_DEGREES}; for scale, pass --scale-from gps=FILE",
    r"^EPSG:4326\b": f"{_WRITE_DEGREES}; for scale, pass --scale-from gps=FILE",
    r"\A\s*(?:<\?xml[^>]*>\s*)?<kml|\A\s*\{\s*.type.\s*:\s*.(?:Feature|LineString)": _WRITE_DEGREES,
    r"^[^\n]*\b(?:lat|latitude)\b[^\n]*\b(?:lon|lng|longitude)\b(?![^\n]*\bq?w\b)": _WRITE_DEGREES,
    r"\A(?:[-+.\deE]+ +){29}[-+.\deE]+ *$": "these are oxts of KITTI, one file a frame: write the T_w_imu of pykitti as"
    " rows of 12 numbers; stadia reads them as poses of the drive's folder",
}
"""Patterns of the first lines of files without poses, mostly of GPS, and what the user can do."""


_ROSTOPIC_ECHO = re.compile(r"^ *x: \S+\n *y: \S+\n *z: \S+$", re.MULTILINE)
_ANGLE = re.compile(r"rot|roll|pitch|yaw|euler|angle", re.IGNORECASE)


def refuse_positions(path: Path, lines: Sequence[str]) -> None:
    """Raise DataError for positions in degrees without rotations, as GPX, NMEA, tables and KITTI's oxts have them, and
    for messages of ROS as text.

    path: the file, for messages.
    lines: its lines.
    """
    head = "\n".join(lines[:MAX_HEAD_LINES])
    if _ROSTOPIC_ECHO.search(head):
        how = "write a row for each message: rostopic echo -p TOPIC > poses.csv"
        raise DataError(path, found="the text of rostopic echo", expected=formats.ANY_TRAJECTORY, fix=how)
    flags = re.IGNORECASE | re.DOTALL | re.MULTILINE
    fix = next((fix for pattern, fix in _POSITIONS_ONLY.items() if re.search(pattern, head, flags)), None)
    if fix is not None:
        raise DataError(
            path, found="positions in degrees without camera poses", expected=formats.ANY_TRAJECTORY, fix=fix
        )


# -- rows of numbers


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
    values: Array
    lines: tuple[int, ...]
    header: tuple[str, ...]
    words: Mapping[int, Sequence[str]]
    has_commas: bool
    ends_in_comma: bool
    rows: tuple[int, ...]
    lost: int
    has_decimal_commas: bool

    def line(self, row: int) -> str:
        """Return the file and the line of a row as text, for messages."""
        return f"{self.path}, line {self.lines[row]}"


def _leave_gaps(read: Reconstruction, table: Table) -> Reconstruction:
    """Return the poses with notes on rows without a pose; without times, the other rows keep their frames."""
    notes = list(read.notes)
    if table.has_decimal_commas:
        notes.append(f"commas in the numbers of {table.path.name} are read as decimal points")
    if not table.lost:
        return replace(read, notes=tuple(notes))
    lost = f"{table.lost} of {table.lost + len(table.rows)} rows of {table.path.name}"
    notes.append(f"{lost} have inf or NaN and no pose, and are left out")
    is_numbered = read.times_s is not None or read.frames is not None
    frames = read.frames if is_numbered else np.array(table.rows, np.intp)
    return replace(read, frames=frames, notes=tuple(notes))


def _parse_rows(path: Path, lines: Sequence[str], format: TrajectoryFormat | None) -> Table:
    """Return the rows of a file, each with as many numbers as the first. Raise DataError with file and line."""
    expected = formats.ANY_TRAJECTORY if format is None else formats.DESCRIPTIONS[format]
    has_decimal_commas = _has_decimal_commas(lines)
    separators = str.maketrans({",": "." if has_decimal_commas else " ", ";": " "})
    header, skipped, start, texts = _find_header(lines, separators)
    kept, rows, numbers, times = list[list[float]](), list[int](), list[int](), dict[int, list[str]]()
    lost, width = 0, 0
    for number, line in enumerate(lines[start:], start + 1):
        content = _EMPTY_CELL.sub(",nan", line.partition("#")[0])  # programs leave cells empty without a pose
        words = [word for column, word in enumerate(content.translate(separators).split()) if column not in texts]
        if not words:
            continue
        row = _parse_row(f"{path}, line {number}", words, width, expected, is_last=number == len(lines))
        if row is None:
            lost += 1
            continue
        if not kept:
            width = len(row)
            times = {column: [] for column in range(width) if column < MAX_LEADING or _is_time(header, column)}
        rows.append(len(kept) + lost)
        kept.append(row)
        numbers.append(number)
        for column, texts_of_column in times.items():
            texts_of_column.append(words[column])
        if len(kept) > MAX_POSES:
            raise _make_count_error(path, len(lines))
    if not kept:
        found, fix = "no pose", "check that the program which wrote this file tracked the camera"
        if skipped and not lost:
            found, fix = f"{skipped} lines of words and no row of numbers", "write rows t x y z qx qy qz qw"
        raise DataError(path, found=found, expected="at least one row", fix=fix)
    first = lines[numbers[0] - 1].partition("#")[0].strip()
    return Table(
        path=path,
        values=np.array(kept),
        lines=tuple(numbers),
        header=header,
        words=times,
        has_commas=bool(re.search("[;]" if has_decimal_commas else "[,;]", first)),
        ends_in_comma=first.endswith((",", ";")),
        rows=tuple(rows),
        lost=lost,
        has_decimal_commas=has_decimal_commas,
    )


def _find_header(lines: Sequence[str], separators: Mapping[int, str]) -> tuple[tuple[str, ...], int, int, set[int]]:
    """Return names of columns, the number of lines of words, the place of the first row, and columns of texts.

    Columns of texts, such as an identifier or the names of frames (odom, base_link), are not among the names.
    """
    header, skipped = tuple[str, ...](), 0
    for place, line in enumerate(lines):
        content, _, comment = line.partition("#")
        words = content.translate(separators).split()
        if not words:
            header = _split_header(comment) if comment else header
            continue
        count = sum(map(_is_number, words))
        is_row = count >= MIN_COLUMNS or (count > 0 and len(words) == len(header) > MIN_NUMBERS)
        is_header = not any(map(_is_number, words[: 2 if is_row else 1])) or len(words) < MIN_NUMBERS
        if is_header and skipped < MAX_HEADER_LINES:
            header, skipped = _split_header(content), skipped + 1
            continue
        if header:
            texts = {column for column, word in enumerate(words) if not _is_number(word)}
            texts = texts if len(header) == len(words) > len(texts) else set()
        else:
            texts = {column for column, word in enumerate(words) if _FRAME_NAME.fullmatch(word)}
            texts = texts if 0 not in texts and len(words) - len(texts) >= 8 else set()
        return tuple(name for column, name in enumerate(header) if column not in texts), skipped, place, texts
    return header, skipped, len(lines), set()


def _parse_row(where: str, words: Sequence[str], width: int, expected: str, *, is_last: bool) -> list[float] | None:
    """Return the numbers of a row; None for a row without a pose, which has inf or NaN.

    width: count of the numbers in the rows before; 0 for the first row.
    is_last: whether it is in the last line of the file.
    """
    if width and len(words) != width:
        if len(words) < width and "nan" in words:
            return None
        found, wanted = f"{len(words)} numbers", f"{width} numbers, as in the rows before"
        if is_last and len(words) < width:
            found = f"{len(words)} numbers in the last row, which is cut off"
        if {len(words), width} == {12, 13}:
            found = "a row with a frame number after one without" if width == 12 else "a row without a frame number"
            wanted = "12 numbers in each row, or 13 in each"
        raise DataError(where, found=found, expected=wanted)
    try:
        row = [float(word) for word in words]
    except ValueError as error:
        raise DataError(where, found=str(error)[:200], expected=expected) from error
    if not all(map(math.isfinite, row)):
        return None
    if wrong := [value for value in row if abs(value) > MAX_VALUE]:
        raise DataError(where, found=f"the number {wrong[0]:g}", expected=expected, fix="write inf for no pose")
    return row


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


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
    if matrix.shape == (3, 3) and is_rotation(matrix):
        return None
    if width == COVARIANCE_COLUMNS and _is_covariance(values[0, 8:]) and are_units(values[:, 4:8]):
        return dict(zip(("t", *POSITION, *QUATERNION[1:], "qw"), range(8), strict=True))
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


COVARIANCE_COLUMNS = 44  # t x y z qx qy qz qw, and a 6x6 covariance


def _is_covariance(numbers: Array) -> bool:
    """Return whether 36 numbers are the covariance of ROS's PoseWithCovariance: symmetric, with variances."""
    matrix = numbers.reshape(6, 6)
    return bool(np.allclose(matrix, matrix.T) and (np.diag(matrix) >= 0).all())


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
        expected = formats.ANY_TRAJECTORY if requested is None else formats.DESCRIPTIONS[requested]
        fix = f"look at the file, and at {option}" if requested else "look at the file: is it a trajectory?"
        if count in (4, 7, 9, 10):
            fix = "write t x y z qx qy qz qw, or a header that names the columns so"
            if angles := [name for name in table.header if _ANGLE.search(name)][:3]:
                fix = f"convert {', '.join(angles)} to qx qy qz qw, with the order of angles of your program"
        elif count == 6:  # depth_from_video_in_the_wild, and other networks that predict motion
            fix = (
                "if they are a translation and three angles, convert each row to a 3x4 matrix, with the order of angles"
                " of your program; if they are motions from frame to frame, multiply them, T[k] = T[k - 1] @ motion[k]"
            )
        raise DataError(table.line(0), found=f"{count} columns", expected=expected, fix=fix)
    if count == 8 and requested in (TrajectoryFormat.TUM, TrajectoryFormat.EUROC) and not table.ends_in_comma:
        return requested
    if count == 8 and table.has_commas and find_time_unit(table.values[:, 0]) == "nanoseconds":
        return TrajectoryFormat.EUROC  # VINS writes rows of 8 numbers that end in a comma
    return requested if count == 8 and requested is TrajectoryFormat.EUROC else found


def _read_matrices(table: Table) -> Reconstruction:
    """Return poses of rows of 12 or 16 numbers, which a frame number may precede."""
    values, name, frames = table.values, table.path.name, None
    note = tuple[str, ...]()
    format = formats.KITTI if values.shape[1] in (12, 13) else formats.KITTI_4X4
    if values.shape[1] == 16 and not np.array_equal(values[0, -4:], LAST_ROW):
        if (values[:, 3::4] != LAST_ROW).any():
            found, fix = f"a last row {values[0, -4:].tolist()}", "write each pose row by row"
            raise DataError(table.line(0), found=found, expected="0 0 0 1", fix=fix)
        format = formats.KITTI_COLUMNS
        note = (f"the 4x4 poses of {name} are read column by column: their last column is 0 0 0 1",)
    if values.shape[1] in (13, 17):
        frames = _parse_frame_numbers(table, range(len(values)))
        values = values[:, 1:]
    return replace(
        make_reconstruction(table.path, make_poses(values, format, table.line), "", pose_format=format),
        frames=frames,
        notes=note,
    )


def _read_virtual_kitti(table: Table) -> Reconstruction:
    """Return the poses of the first camera of Virtual KITTI's extrinsic.txt: frame, camera, 4x4 world-to-camera."""
    cameras = table.values[:, 1]
    rows = np.flatnonzero(cameras == cameras[0])
    frames = _parse_frame_numbers(table, rows.tolist())
    T = make_poses(table.values[rows], formats.VIRTUAL_KITTI, lambda row: table.line(int(rows[row])))
    note = f"poses of {table.path.name} are inverted: Virtual KITTI writes world-to-camera"
    if len(rows) < len(cameras):
        note += f"; those of camera {cameras[0]:.0f} are used, the first of {len(np.unique(cameras))}"
    return replace(make_reconstruction(table.path, T, note, pose_format=formats.VIRTUAL_KITTI), frames=frames)


def _read_realestate(table: Table) -> Reconstruction:
    """Return the poses and the cameras of RealEstate10K's rows, whose times in microseconds are the images' names."""
    shares = table.values[:, 1:5]

    def find_camera(row: int, size: tuple[int, int]) -> tuple[Array, Array, None]:
        K = np.eye(3)
        K[[0, 1, 0, 1], [0, 1, 2, 2]] = shares[row] * np.tile(size, 2) - (0, 0, 0.5, 0.5)
        return K, np.zeros(4), None

    T = make_poses(table.values, formats.REALESTATE, table.line)
    note = f"{table.path.name} is read as RealEstate10K's: world-to-camera poses, and K as shares of the image"
    read = make_reconstruction(
        table.path, T, note, names=table.words[0], times_s=table.values[:, 0] / 1e6, pose_format=formats.REALESTATE
    )
    return replace(read, camera_of_size=find_camera)


def _parse_frame_numbers(table: Table, rows: Sequence[int]) -> NDArray[np.intp]:
    """Return the frame numbers in the first column of rows. Raise DataError if one is not an integer, or falls."""
    frames = list[int]()
    for row in rows:
        value, before = table.values[row, 0], frames[-1] if frames else -1
        if value != int(value) or not before < value < MAX_FRAMES:
            expected = "a frame number: an integer " + (f"above {before}" if before >= 0 else "from 0")
            raise DataError(
                table.line(row), found=f"{value:g}", expected=expected, fix="write one row a frame, in order"
            )
        frames.append(int(value))
    return np.array(frames, np.intp)


def _read_seven_columns(table: Table) -> Reconstruction | None:
    """Return the poses of rows with seven numbers: a position and a quaternion, or ARKitScenes'; None for others."""
    path, values = table.path, table.values
    if (seven := read_seven_numbers(path, path.name, values)) is not None:
        format, note = seven
        return make_reconstruction(path, make_poses(values, format, table.line), note, pose_format=format)
    if path.suffix.lower() != ".traj":
        return None
    note = (
        f"poses of {path.name} are inverted: ARKitScenes writes time, rotation vector and translation, world-to-camera"
    )
    format = formats.ARKIT_SCENES
    T = make_poses(values, format, table.line)
    return make_reconstruction(path, T, note, times_s=values[:, 0], pose_format=format)


def _read_times(
    table: Table, column: int, nanoseconds: int | None = None
) -> tuple[Array, NDArray[np.int64] | None, str]:
    """Return times (N,) in seconds and in nanoseconds, and their unit in the file.

    The name of the column or the size of the times shows the unit.

    nanoseconds: column of the nanoseconds after whole seconds, if there is one.
    """
    words = table.words[column]
    if nanoseconds is not None:
        whole, parts = table.values[:, column].astype(np.int64), table.values[:, nanoseconds].astype(np.int64)
        times_ns = whole * 10**9 + parts
        return convert_times(list(map(str, times_ns)), "nanoseconds")[0], times_ns, "seconds and nanoseconds"
    named = UNIT_OF_NAME.get(table.header[column].rpartition("_")[2]) if table.header else None
    times_s, unit = convert_times(words, named)
    return times_s, convert_to_nanoseconds(words, unit), unit


MIN_CLOCK_DIFFERENCE_S = 1e-3  # difference of two columns with times; one clock in two units differs by rounding


def _describe_columns(table: Table, columns: Mapping[str, int], times: Array) -> list[str]:
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
        other, _, _ = _read_times(table, column)
        if (np.diff(other) > 0).all() and (apart := float(np.abs(other - times).max())) > MIN_CLOCK_DIFFERENCE_S:
            others = f"{table.header[column]} differs by up to {apart:.3g} s"
            return [f"times of {name} are its column {table.header[time]}; {others}"]
    return []


def _read_quaternions(
    table: Table, columns: dict[str, int], *, is_reference: bool, direction: Direction = Direction.CAMERA_TO_WORLD
) -> Reconstruction:
    """Return poses of rows with a time and a quaternion, the columns by name."""
    name, notes = table.path.name, list[str]()
    times, times_ns, unit = _read_times(table, columns["t"], columns.get("ns"))
    if unit != "seconds":
        notes.append(f"times of {name} are read as {unit}")
    notes += _describe_columns(table, columns, times)
    quaternions, note = _normalize(table, table.values[:, [columns[key] for key in QUATERNION]])
    notes += note
    kept, repeated = list[int](), 0
    is_copy = np.r_[False, (np.diff(table.values, axis=0) == 0).all(axis=1)]
    if is_copy.any():
        notes.append(f"{is_copy.sum()} of {len(is_copy)} rows of {name} repeat the row before, and are left out")
    _check_resolution(table, times if is_copy[1:].all() else times[~is_copy], columns["t"])
    for row, time_s in enumerate(times):
        before = times[kept[-1]] if kept else -math.inf
        if is_copy[row] or not quaternions[row].any():
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
    order = [columns[key] for key in POSITION]
    positions, note = _convert_degrees(name, times[kept], table.values[kept][:, order])
    numbers = np.column_stack([times[kept], positions, quaternions[kept]])
    format = replace(formats.EUROC, direction=direction)
    w_first = columns["qw"] < columns["qx"]
    T = make_poses(numbers, format, lambda row: table.line(kept[row]))
    written = replace(formats.EUROC if w_first else formats.TUM, direction=direction)
    read = make_reconstruction(table.path, T, "", pose_format=written)
    times_ns = None if times_ns is None else times_ns[kept]
    return replace(read, times_s=times[kept], times_ns=times_ns, notes=(*notes, *note), w_first=w_first)


MIN_DEGREES_OVER_EXTENT = 100.0  # distance from 0 over extent, above which positions may be degrees, not metres
MIN_EXTENT_M = 2.0  # least extent of positions that are read as degrees


MAX_SPEED_M_S = 100.0  # speed if degrees are read as metres; a hovering camera has thousands if read as degrees


def _convert_degrees(name: str, times: Array, positions: Array) -> tuple[Array, list[str]]:
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


def _normalize(table: Table, quaternions: Array) -> tuple[Array, list[str]]:
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


def _check_resolution(table: Table, times: Array, column: int) -> None:
    """Raise DataError if most rows repeat the time before: the file has too few digits."""
    distinct = len(np.unique(times))
    if len(times) < 4 or (np.diff(times) == 0).mean() < 0.5:
        return
    found = f"{distinct} distinct times in {len(times)} rows, such as {table.words[column][0]}"
    fix = "write times with all digits: numpy.savetxt(FILE, rows, fmt='%.9f'), or integers for nanoseconds"
    raise DataError(table.path, found=found, expected="a time for each pose", fix=fix)


# -- other texts


def _read_kapture(path: Path, lines: Sequence[str]) -> Reconstruction:
    """Return the poses of the first device of kapture's trajectories.txt. Raise DataError for another of its files."""
    rows = [[word.strip() for word in line.split(",")] for line in lines if line.strip() and not line.startswith("#")]
    if not rows or {len(row) for row in rows} != {9}:
        expected = "rows timestamp, device_id, qw, qx, qy, qz, tx, ty, tz"
        raise DataError(path, found="a file of kapture without poses", expected=expected, fix=f"pass {KAPTURE_POSES}")
    names = formats.KAPTURE.columns.split()
    devices = list(dict.fromkeys(row[1] for row in rows))
    own = [
        " ".join(row[names.index(name)] for name in formats.EUROC.columns.split())
        for row in rows
        if row[1] == devices[0]
    ]
    columns = {name: column for column, name in enumerate(formats.EUROC.columns.split())}
    read = _read_quaternions(
        _parse_rows(path, own, None), columns, is_reference=False, direction=formats.KAPTURE.direction
    )
    note = f"poses of {path.name} are inverted: kapture writes world-to-device"
    if len(devices) > 1:
        note += f"; those of {devices[0]} are used, the first of {len(devices)} devices"
    return replace(read, notes=(note, *read.notes))


def _read_g2o(path: Path, lines: Sequence[str]) -> Reconstruction:
    """Return the poses of a g2o pose graph in the order of their numbers. Raise DataError for a wrong vertex."""
    rows = [line.split()[1:9] for line in lines if line.startswith(formats.G2O.keys)]
    if not rows:
        found, expected = "no VERTEX_SE3:QUAT", "poses in three dimensions"
        raise DataError(path, found=found, expected=expected, fix="save the graph of SE3 vertices")
    numbers = parse_numbers([word for row in rows for word in row])
    if {len(row) for row in rows} != {8} or not len(numbers) or len(rows) > MAX_POSES:
        found, expected = "no numbers in VERTEX_SE3:QUAT", "numbers of shape (N, 8)"
        raise DataError(path, found=found, expected=expected, fix="check the file")
    values = numbers.reshape(-1, 8)
    values = values[np.argsort(values[:, 0], kind="stable")]
    note = f"{len(values)} vertices of {path.name} are read in the order of their numbers"
    T = make_poses(values, formats.G2O, lambda row: str(path))
    return make_reconstruction(path, T, note, pose_format=formats.G2O)


def _is_colmap(lines: Sequence[str]) -> bool:
    """Return whether lines have the form of COLMAP's images.txt: ID, quaternion, translation, camera, name."""
    first = next((line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")), [])
    if len(first) < 10 or not all(map(_is_number, first[:9])) or _is_number(first[9]):
        return False
    return first[0].isdecimal() and first[8].isdecimal()


# -- folders

MAX_POSE_FILES = 100_000
_POSE_SUFFIXES = (".txt", ".pose", ".npy", ".mat")


def list_pose_files(folder: Path, skip: Collection[str] = ()) -> list[Path]:
    """Return the files of a folder that may contain one pose each, in natural order.

    folder: the folder.
    skip: names of files that contain no pose.
    """
    files = [file for file in folder.iterdir() if file.suffix.lower() in _POSE_SUFFIXES and file.is_file()]
    files = [file for file in files if file.name not in skip]
    return sorted(files, key=natural_sort_key)[: MAX_POSE_FILES + 1]


def read_pose_folder(folder: Path, expected: str, skip: Collection[str] = ()) -> Reconstruction | None:
    """Read the poses of a folder with one 4x4 or 3x4 matrix per file; None if the first file contains no matrix.

    folder: the folder.
    expected: description of a valid folder, for messages.
    skip: names of files that contain no pose.

    Raises DataError if a later file contains no matrix.
    """
    files = list_pose_files(folder, skip)
    if not files or len(files) > MAX_POSE_FILES or _read_matrix(files[0]) is None:
        return None
    T, format = np.full((len(files), 4, 4), np.nan), formats.MATRIX_FILE
    for index, file in enumerate(files):
        found = _read_matrix(file)
        if found is None:
            raise DataError(file, found="no 4x4 matrix", expected=expected, fix="move other files to another folder")
        T[index], format = found
    note = f"{len(files)} poses are read from the files of {folder.name}, camera-to-world"
    if format.is_inverted:
        note = f"{len(files)} poses of {folder.name} are inverted: MVSNet writes world-to-camera"
    lost = int((~np.isfinite(T)).any(axis=(1, 2)).sum())
    note += f"; {lost} files hold inf or NaN, and no pose" if lost else ""
    T = read_poses(T, format.axes, format.direction)
    return make_reconstruction(folder, T, note, names=[file.name for file in files], format="poses", pose_format=format)


def _read_matrix(file: Path) -> tuple[Array, Format] | None:
    """Return the matrix of a file, and its format; None for another content."""
    if file.suffix.lower() == ".npy":
        stored = np.asarray(read_npy(file), np.float64)
        return (_complete(stored), formats.MATRIX_FILE) if stored.shape in ((4, 4), (3, 4)) else None
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
    return _complete(np.array(rows)), formats.MVSNET if is_inverted else formats.MATRIX_FILE


def _complete(matrix: Array) -> Array:
    """Return (4, 4), NaN if a number is not finite."""
    if not np.isfinite(matrix).all():
        return np.full((4, 4), np.nan)
    return matrix if len(matrix) == 4 else np.vstack([matrix, [0, 0, 0, 1]])
