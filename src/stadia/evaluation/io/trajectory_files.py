"""Read, write and associate trajectories in the KITTI and TUM formats."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.evaluation.io.predictions_record import TRAJECTORY, TRAJECTORY_TUM
from stadia.files.atomic_files import write_lines
from stadia.files.input_files import read_text
from stadia.files.json_files import read_json
from stadia.geometry.se3 import matrix_from_quaternion_wxyz, quaternion_wxyz_from_matrix

MAX_BYTES = 128 << 20
MAX_POSES = 400_000  # of a file: reading and scoring a million took 81 s and 2.1 GB
MAX_FRAMES = 1 << 40
MAX_VALUE = 1e20  # also of a time in nanoseconds; squares of larger numbers leave float64 within a long path
_FRAME_NAME = re.compile(r"[0-9]{1,12}")
MIN_GAP = 10
"""Times the median interval: longer intervals are gaps. Lost frames of a video leave up to 4.3 (785 poses of fr1_xyz).
Holes of fr2_desk's ground truth are 10 to 427. Keyframes, which are spaced unevenly, are no gaps.
"""
ROTATION_TOLERANCE = 1e-2  # files keep at least 6 digits, so larger errors are no rounding


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Poses T_world_camera (N, 4, 4) of one camera, at rising times (N,), or None where rows are frames.

    notes: what its reader left out.
    frames: (N,) rising frame numbers from 0; None where row k is frame k, or there are times.
    """

    T_world_camera: NDArray[np.float64]
    times_s: NDArray[np.float64] | None = None
    name: str = "trajectory"
    notes: tuple[str, ...] = ()
    frames: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.T_world_camera)

    def rows(self, indices: NDArray[np.intp]) -> Trajectory:
        """Return the poses at these indices."""
        times = None if self.times_s is None else self.times_s[indices]
        frames = None if self.frames is None else self.frames[indices]
        return replace(self, T_world_camera=self.T_world_camera[indices], times_s=times, frames=frames)

    @property
    def frame_numbers(self) -> NDArray[np.intp]:
        """Return (N,) the frame of each row."""
        return np.arange(len(self)) if self.frames is None else self.frames


def add_instants(trajectory: Trajectory, times_s: Sequence[float | None], frames: Sequence[int]) -> Trajectory:
    """Return the trajectory with the time of each pose, or with its frame where a time is unknown or does not rise.

    Examples:
        >>> add_instants(Trajectory(np.tile(np.eye(4), (2, 1, 1))), [0.1, None], [4, 9]).frame_numbers.tolist()
        [4, 9]
    """
    known = [time_s for time_s in times_s if time_s is not None]
    if len(known) == len(trajectory) and (np.diff(known) > 0).all():
        return replace(trajectory, times_s=np.array(known, np.float64))
    return replace(trajectory, frames=np.array(frames, np.intp))


def find_gaps(trajectory: Trajectory) -> NDArray[np.intp]:
    """Return (G,) the rows after which an interval is above MIN_GAP times the median; by times, else by frame numbers.

    Examples:
        >>> times_s = np.array([0.0, 0.1, 0.2, 5.2, 5.3])
        >>> find_gaps(Trajectory(np.tile(np.eye(4), (5, 1, 1)), times_s)).tolist()
        [2]
    """
    intervals = np.diff(trajectory.frame_numbers if trajectory.times_s is None else trajectory.times_s)
    return np.flatnonzero(intervals > MIN_GAP * np.median(intervals)) if len(intervals) else np.empty(0, np.intp)


FORMAT_OF_COLUMNS = {8: "tum", 12: "kitti", 13: "kitti"}
"""Format of a trajectory by the number of its columns."""


def _read_rows(
    path: Path, columns: Collection[int], row_is: str, *, is_reference: bool
) -> Iterator[tuple[int, list[float]]]:
    """Yield (line number, values) of every row. Raise DataError with file and line."""
    option = "--reference-format" if is_reference else "--format"
    inside = path / (TRAJECTORY_TUM if 8 in columns else TRAJECTORY)
    fix = f"pass {inside}" if os.path.isfile(inside) else "check the path"  # noqa: PTH113 - also of names too long
    text = read_text(path, expected=row_is, fix=fix, max_bytes=MAX_BYTES)
    lines = text.splitlines()
    if len(lines) > MAX_POSES:
        fix = "leave out poses: a camera's, not those of an inertial sensor, or a part of the drive"
        raise DataError(path, found=f"{len(lines)} lines", expected=f"at most {MAX_POSES}", fix=fix)
    for number, line in enumerate(lines, 1):
        where, words = f"{path}, line {number}", line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) not in columns:
            known = FORMAT_OF_COLUMNS.get(len(words))
            fix = f"check {option} and the file" if known is None else f"pass {option} {known}"
            found = f"{len(words)} columns" + (f", as in the format {known}" if known else "")
            raise DataError(where, found=found, expected=row_is, fix=fix)
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise DataError(where, found=str(error)[:200], expected=row_is, fix="correct the line") from error
        if wrong := [value for value in values if not abs(value) <= MAX_VALUE]:
            found = f"the number {wrong[0]:g}" if math.isfinite(wrong[0]) else "a value that is not finite"
            raise DataError(where, found=found, expected=row_is, fix="remove the row or correct it")
        yield number, values


def _nearest_rotation(what: str, R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation nearest to R, which a file has rounded. Raise DataError where R is not a rotation."""
    off = np.abs(R @ R.T - np.eye(3)).max()
    if off > ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        fix = "check the order of the columns: R and t row by row"
        found = f"a 3x3 block with determinant {np.linalg.det(R):.3f}, {off:.2g} off orthonormal"
        raise DataError(what, found=found, expected="a rotation", fix=fix)
    U, _, Vt = np.linalg.svd(R)
    return U @ Vt


def read_kitti_trajectory(path: Path, *, is_reference: bool = False) -> Trajectory:
    """Read rows of 12 numbers, or of 13 with the frame number in front, as kitti-odom-eval writes them.

    Row k of 12 numbers is frame k. Rows with a frame number may leave out frames. Raises DataError with file and line.
    An error of a reference names `--reference-format`.
    """
    path, poses, frames = Path(path), list[NDArray[np.float64]](), list[int]()
    expected = "12 numbers, the upper 3x4 of a camera-to-world pose, or a frame number and these 12"
    for number, values in _read_rows(path, (12, 13), expected, is_reference=is_reference):
        where, numbered = f"{path}, line {number}", len(values) == 13
        if poses and numbered != bool(frames):
            found = "a row with a frame number after one without" if numbered else "a row without a frame number"
            raise DataError(
                where, found=found, expected="12 numbers in each row, or 13 in each", fix="correct the file"
            )
        if numbered:
            frames.append(_parse_frame_number(where, values[0], frames[-1] if frames else -1))
        T = np.eye(4)
        T[:3] = np.reshape(values[-12:], (3, 4))
        T[:3, :3] = _nearest_rotation(where, T[:3, :3])
        poses.append(T)
    numbers = np.array(frames, np.intp) if frames else None
    return Trajectory(np.stack(_check_rows(path, poses)), None, path.name, frames=numbers)


def _parse_frame_number(where: str, value: float, before: int) -> int:
    """Return the frame number of a row. Raise DataError where it is no integer, or not above the one before."""
    if value != int(value) or not before < value < MAX_FRAMES:
        expected = f"a frame number: an integer above {before}" if before >= 0 else "a frame number: an integer from 0"
        raise DataError(where, found=f"{value:g}", expected=expected, fix="write one row a frame, in order")
    return int(value)


def read_tum_trajectory(path: Path, *, is_reference: bool = False) -> Trajectory:
    """Read rows of `t x y z qx qy qz qw` with rising time.

    A duplicated timestamp is refused in an estimate, since the pose is ambiguous. In a reference the first pose is kept
    with a note: official ground truth has rounded, repeated times (fr2_desk, 1311868229.5760 s). Raises DataError with
    file and line.
    """
    path, rows, before, repeated = Path(path), [], -np.inf, 0
    expected = "8 numbers, t x y z qx qy qz qw"
    for number, values in _read_rows(path, (8,), expected, is_reference=is_reference):
        what, length = f"{path}, line {number}", float(np.linalg.norm(values[4:]))
        if abs(length - 1) > ROTATION_TOLERANCE:
            fix = "check the order of the columns"
            raise DataError(what, found=f"a quaternion of length {length:.4g}", expected="length 1", fix=fix)
        if is_reference and values[0] == before:
            repeated += 1
            continue
        if values[0] <= before:
            fault = "a duplicated timestamp" if values[0] == before else "a timestamp that goes back"
            fix = "keep one pose an instant, sorted by time"
            raise DataError(what, found=f"{fault} ({values[0]:.6f})", expected="rising time", fix=fix)
        before = values[0]
        rows.append(values)
    table = np.array(_check_rows(path, rows))
    T = np.tile(np.eye(4), (len(table), 1, 1))
    T[:, :3, :3] = matrix_from_quaternion_wxyz(torch.from_numpy(table[:, [7, 4, 5, 6]])).numpy()
    T[:, :3, 3] = table[:, 1:4]
    notes = (f"duplicated timestamps in {path.name}: {repeated}; the first pose of each is kept",) if repeated else ()
    return Trajectory(T, table[:, 0], path.name, notes)


def _check_rows(path: Path, rows: list) -> list:
    if not rows:
        raise DataError(path, found="no pose", expected="at least one row", fix="check the file")
    return rows


def write_kitti_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write rows of 12 numbers with 9 decimals."""
    rows = trajectory.T_world_camera[:, :3].reshape(len(trajectory), 12)
    write_lines(path, (" ".join(f"{value:.9e}" for value in row) for row in rows))


def write_tum_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write rows of `t x y z qx qy qz qw`. Rows without time get their number as time."""
    q = quaternion_wxyz_from_matrix(torch.from_numpy(trajectory.T_world_camera[:, :3, :3])).numpy()[:, [1, 2, 3, 0]]
    times = np.arange(len(trajectory), dtype=np.float64) if trajectory.times_s is None else trajectory.times_s
    rows = zip(times, np.hstack([trajectory.T_world_camera[:, :3, 3], q]), strict=True)
    write_lines(path, (f"{time:.6f} " + " ".join(f"{value:.9f}" for value in row) for time, row in rows))


class TrajectoryFormat(StrEnum):
    """File formats of trajectories."""

    KITTI = "kitti"
    TUM = "tum"


def read_trajectory(path: Path, format: TrajectoryFormat, *, is_reference: bool = False) -> Trajectory:
    """Read a file of this format, also by its name: "kitti" or "tum"; `is_reference` as in `read_tum_trajectory`."""
    if TrajectoryFormat(format) is TrajectoryFormat.KITTI:
        return read_kitti_trajectory(path, is_reference=is_reference)
    return read_tum_trajectory(path, is_reference=is_reference)


FRAME_LISTS = {"predictions.json": "path", "odometry.json": "frames"}
"""Record beside a path of `stadia predict` or `stadia odometry` -> its key with the names of the path's frames."""


def add_recorded_frames(path: Path, estimated: Trajectory, reference: Trajectory) -> Trajectory:
    """Return a path of stadia that leaves out frames with their numbers, from the record beside its file.

    Where the reference has a pose for each image that was read, an image's place among these is its frame. Else frames
    of a video have their number. Names of image files are no numbers: ffmpeg counts from 1, other programs in steps.
    A row is a frame where both have equal length, and where the record is missing or has neither. Rows of a
    reference with times are no frames of a video: such paths are associated by time alone.
    """
    is_timed = estimated.times_s is not None or reference.times_s is not None
    if is_timed or estimated.frames is not None or len(estimated) == len(reference):
        return estimated
    for record, key in FRAME_LISTS.items():
        file = path.with_name(record)
        facts = read_json(file, expected="a record of stadia") if file.is_file() else None
        facts = facts if isinstance(facts, dict) else {}
        names = facts.get(key)
        if not isinstance(names, list) or len(names) != len(estimated):
            continue
        numbers = _find_frames(names, facts.get("entries"), len(reference))
        if numbers is None and facts.get("has_frame_numbers") is True:
            numbers = _parse_frame_names(names)
        if numbers is not None and (np.diff(numbers) > 0).all():
            note = f"{record} names the frames of the path: {len(names)}, from {numbers[0]} to {numbers[-1]}"
            return replace(estimated, frames=numbers, notes=(*estimated.notes, note))
    return estimated


def _find_frames(names: Sequence[object], entries: object, count: int) -> NDArray[np.intp] | None:
    """Return (N,) the place of each name among `count` entries; None where it is not known."""
    if not isinstance(entries, list) or len(entries) != count:
        return None
    place = {name: number for number, name in enumerate(entries) if isinstance(name, str)}
    found = [place.get(name, -1) if isinstance(name, str) else -1 for name in names]
    return None if -1 in found else np.array(found, np.intp)


def _parse_frame_names(names: Sequence[object]) -> NDArray[np.intp] | None:
    """Return (N,) frame numbers from names of frames of a video; None where one is no number."""
    if not all(isinstance(name, str) and _FRAME_NAME.fullmatch(name) and int(name) < MAX_FRAMES for name in names):
        return None
    return np.array([int(str(name)) for name in names], np.intp)


def associate_trajectories(
    estimated: Trajectory, reference: Trajectory, max_difference_s: float = 0.01
) -> tuple[Trajectory, Trajectory]:
    """Return the associated poses of both trajectories, row by row.

    Where one has frame numbers, poses of the same frame belong together; row k of the other is frame k. Without times
    row k is frame k, and both must have equal length. With times, each pose of the shorter trajectory takes the nearest
    pose of the longer one within `max_difference_s`. A pose is taken once, by its nearest. Raises DataError where no
    poses can be associated.
    """
    if estimated.frames is not None or reference.frames is not None:
        return _associate_frames(estimated, reference)
    if estimated.times_s is None or reference.times_s is None:
        if len(estimated) != len(reference):
            fix = (
                "write a pose for every frame, write the number of its frame in front of each row, or give both with"
                " timestamps (--format tum --reference-format tum)"
            )
            expected = f"{len(reference)}, as in {reference.name}: a row is a frame"
            raise DataError(estimated.name, found=f"{len(estimated)} poses", expected=expected, fix=fix)
        return estimated, reference
    swapped = len(estimated) > len(reference)
    short, long = (reference, estimated) if swapped else (estimated, reference)
    assert short.times_s is not None
    assert long.times_s is not None
    after = np.searchsorted(long.times_s, short.times_s).clip(1, max(len(long) - 1, 1))
    candidates = np.stack([after - 1, np.minimum(after, len(long) - 1)])
    difference = np.abs(long.times_s[candidates] - short.times_s)
    nearest = np.take_along_axis(candidates, difference.argmin(0)[None], 0)[0]
    gap = difference.min(0)
    by_gap = np.lexsort((gap, nearest))  # among those that take the same pose, the nearest comes first
    first = np.concatenate([[True], np.diff(nearest[by_gap]) > 0])
    kept = np.sort(by_gap[first])
    kept = kept[gap[kept] <= max_difference_s]
    if not len(kept):
        fix = "check that both are of one recording and one clock, in seconds"
        expected = (
            f"some within {max_difference_s} s of {reference.name} ({reference.times_s[0]:.3f} to"
            f" {reference.times_s[-1]:.3f} s)"
        )
        found = f"times {estimated.times_s[0]:.3f} to {estimated.times_s[-1]:.3f} s"
        raise DataError(estimated.name, found=found, expected=expected, fix=fix)
    pair = short.rows(kept), long.rows(nearest[kept])
    return (pair[1], pair[0]) if swapped else pair


def _associate_frames(estimated: Trajectory, reference: Trajectory) -> tuple[Trajectory, Trajectory]:
    """Return the poses of the frames that both have. Raise DataError where an estimated frame has no reference."""
    frames, rows, partners = np.intersect1d(estimated.frame_numbers, reference.frame_numbers, return_indices=True)
    if len(frames) < min(len(estimated), len(reference)):
        missing = np.setdiff1d(estimated.frame_numbers, reference.frame_numbers)
        found = f"frame {missing[0]}, and {len(missing)} frames in all without a reference"
        expected = f"frames of {reference.name} ({reference.frame_numbers[0]} to {reference.frame_numbers[-1]})"
        raise DataError(estimated.name, found=found, expected=expected, fix="check that both are of one sequence")
    return estimated.rows(rows), reference.rows(partners)
