"""Write trajectories, associate the poses of two trajectories, and find gaps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.geometry.align import umeyama
from stadia.geometry.poses import quaternion_wxyz_from_matrix
from stadia.io.atomic_files import write_lines
from stadia.io.input_files import read_json

TRAJECTORY = "trajectory.txt"
"""Name of the file with a predicted camera trajectory, one 3x4 camera-to-world matrix of KITTI's format per line."""

TRAJECTORY_TUM = "trajectory_tum.txt"
"""Name of the file with the same trajectory in TUM's format, if every video frame has a time."""

TRAJECTORY_DRAWING = "trajectory.png"

MAX_FRAMES = 1 << 40
_FRAME_NAME = re.compile(r"[0-9]{1,12}")
MIN_GAP = 10  # times the median interval; lost frames of a video leave up to 4.3


MAX_SUGGESTED_DIFFERENCE_S = 0.1  # largest difference between the times of two poses of one recording
MAX_DURATION_GAP = 0.1  # difference of the log10 of two durations of one recording


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A camera trajectory: the poses of one camera over time.

    T_world_camera: (N, 4, 4) camera-to-world poses.
    times_s: (N,) rising times in seconds; None if poses have no times.
    name: name of the file, for messages.
    notes: sentences for the user about what the reader left out or converted.
    frames: (N,) rising numbers of the video frames; None if pose k belongs to frame k.
    w_first: whether quaternions were read with w first; None if the file contains matrices.
    times_ns: (N,) the same times in whole nanoseconds, which a float of seconds since 1970 cannot hold; None if the
        reader has none.
    """

    T_world_camera: NDArray[np.float64]
    times_s: NDArray[np.float64] | None = None
    name: str = "trajectory"
    notes: tuple[str, ...] = ()
    frames: NDArray[np.intp] | None = None
    w_first: bool | None = None
    times_ns: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.T_world_camera)

    def rows(self, indices: NDArray[np.intp]) -> "Trajectory":
        """Return the trajectory with only the poses at these indices (M,)."""
        times = None if self.times_s is None else self.times_s[indices]
        times_ns = None if self.times_ns is None else self.times_ns[indices]
        frames = None if self.frames is None else self.frames[indices]
        T = self.T_world_camera[indices]
        return replace(self, T_world_camera=T, times_s=times, times_ns=times_ns, frames=frames)

    @property
    def frame_numbers(self) -> NDArray[np.intp]:
        """Return the video frame number of each pose, (N,)."""
        return np.arange(len(self)) if self.frames is None else self.frames


def add_instants(trajectory: Trajectory, times_s: Sequence[float | None], frames: Sequence[int]) -> Trajectory:
    """Return a trajectory with the time of each pose, or with frame numbers if a time is unknown or does not rise.

    trajectory: trajectory without times.
    times_s: time of each pose in seconds; None if unknown.
    frames: number of each pose's video frame.

    Examples:
        >>> add_instants(Trajectory(np.tile(np.eye(4), (2, 1, 1))), [0.1, None], [4, 9]).frame_numbers.tolist()
        [4, 9]
    """
    known = [time_s for time_s in times_s if time_s is not None]
    if len(known) == len(trajectory) and (np.diff(known) > 0).all():
        return replace(trajectory, times_s=np.array(known, np.float64), times_ns=None)
    return replace(trajectory, frames=np.array(frames, np.intp))


def find_gaps(trajectory: Trajectory) -> NDArray[np.intp]:
    """Return the indices (G,) of the poses after which a trajectory has a gap.

    A gap is an interval in time, or in frame numbers, of more than 10 times (MIN_GAP) the median interval.

    Examples:
        >>> times_s = np.array([0.0, 0.1, 0.2, 5.2, 5.3])
        >>> find_gaps(Trajectory(np.tile(np.eye(4), (5, 1, 1)), times_s)).tolist()
        [2]
    """
    intervals = np.diff(trajectory.frame_numbers if trajectory.times_s is None else trajectory.times_s)
    return np.flatnonzero(intervals > MIN_GAP * np.median(intervals)) if len(intervals) else np.empty(0, np.intp)


def write_kitti_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write the poses of a trajectory in KITTI's format: 12 numbers, the 3x4 camera-to-world matrix, per line."""
    rows = trajectory.T_world_camera[:, :3].reshape(len(trajectory), 12)
    write_lines(path, (" ".join(f"{value:.9e}" for value in row) for row in rows))


def write_tum_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write the poses of a trajectory in TUM's format, `t x y z qx qy qz qw` per line.

    A trajectory without times gets the number of the line as time.
    """
    q = quaternion_wxyz_from_matrix(trajectory.T_world_camera[:, :3, :3])[:, [1, 2, 3, 0]]
    times = np.arange(len(trajectory), dtype=np.float64) if trajectory.times_s is None else trajectory.times_s
    rows = zip(times, np.hstack([trajectory.T_world_camera[:, :3, 3], q]), strict=True)
    write_lines(path, (f"{time:.6f} " + " ".join(f"{value:.9f}" for value in row) for time, row in rows))


FRAME_LISTS = {"predictions.json": "path", "odometry.json": "frames"}
"""Record files next to a trajectory of `stadia predict` or `stadia odometry`, and their key for the frames' names."""


def add_recorded_frames(path: Path, estimated: Trajectory, reference: Trajectory) -> Trajectory:
    """Return a predicted trajectory of stadia that leaves out video frames with the numbers of its frames.

    They are read from the record file next to the trajectory. If the reference has a pose for each image, the number is
    the place of the image. Otherwise frames of a video have the numbers in their names. Trajectories that need no
    numbers are returned unchanged.

    path: file of the predicted trajectory.
    estimated: the predicted trajectory.
    reference: the ground-truth trajectory.
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
    if not isinstance(entries, list) or len(entries) != count:
        return None
    place = {name: number for number, name in enumerate(entries) if isinstance(name, str)}
    found = [place.get(name, -1) if isinstance(name, str) else -1 for name in names]
    return None if -1 in found else np.array(found, np.intp)


def _parse_frame_names(names: Sequence[object]) -> NDArray[np.intp] | None:
    """Return (N,) frame numbers from names of a video's frames; None if a name is not a number."""
    if not all(isinstance(name, str) and _FRAME_NAME.fullmatch(name) and int(name) < MAX_FRAMES for name in names):
        return None
    return np.array([int(str(name)) for name in names], np.intp)


def associate_trajectories(
    estimated: Trajectory, reference: Trajectory, max_difference_s: float = 0.01
) -> tuple[Trajectory, Trajectory]:
    """Return the poses of two trajectories that belong to the same instants, as two trajectories of equal length.

    They are associated by frame numbers, by times, or otherwise by their order. By times, each pose is associated with
    the nearest pose that is still free.

    estimated: the predicted trajectory.
    reference: the ground-truth trajectory.
    max_difference_s: largest difference of associated times in seconds.

    Raises DataError if no pair is found, or the numbers of poses differ without times and frame numbers.
    """
    if estimated.frames is not None or reference.frames is not None:
        return _associate_frames(estimated, reference)
    if estimated.times_s is None or reference.times_s is None:
        if len(estimated) != len(reference):
            fix = (
                "write a pose for every frame, write its frame number in front of each row, or give both with"
                " timestamps (--format tum --reference-format tum)"
            )
            timed = [path.name for path in (estimated, reference) if path.times_s is not None]
            if timed:
                untimed = (reference if timed == [estimated.name] else estimated).name
                fix = f"{untimed} has no times, but {timed[0]} does: write the time in front of each row (KITTI's"
                fix += " are in times.txt), as t x y z qx qy qz qw"
            if not timed and len(estimated) == len(reference) - 1:
                fix = "one row less may be motions from frame to frame: write the identity first, and multiply them,"
                fix += " T[k] = T[k - 1] @ motion[k]; otherwise write a pose for every frame"
            expected = f"{len(reference)}, as in {reference.name}: a row is a frame"
            raise DataError(estimated.name, found=f"{len(estimated)} poses", expected=expected, fix=fix)
        return estimated, reference
    swapped = len(estimated) > len(reference)
    short, long = (reference, estimated) if swapped else (estimated, reference)
    assert short.times_s is not None
    assert long.times_s is not None
    nearest, gap = _find_nearest(short.times_s, long.times_s)
    by_gap = np.lexsort((gap, nearest))  # The nearest of several rows with one pose comes first.
    first = np.concatenate([[True], np.diff(nearest[by_gap]) > 0])
    kept = np.sort(by_gap[first])
    kept = kept[gap[kept] <= max_difference_s]
    if not len(kept):
        raise _make_no_overlap_error(estimated, reference, float(gap.min()), max_difference_s)
    pair = short.rows(kept), long.rows(nearest[kept])
    return (pair[1], pair[0]) if swapped else pair


def _find_nearest(times_s: NDArray[np.float64], others_s: NDArray[np.float64]) -> tuple[NDArray, NDArray[np.float64]]:
    """Return (N,) the nearest of M rising times to each of N, and the differences."""
    after = np.searchsorted(others_s, times_s).clip(1, max(len(others_s) - 1, 1))
    candidates = np.stack([after - 1, np.minimum(after, len(others_s) - 1)])
    difference = np.abs(others_s[candidates] - times_s)
    return np.take_along_axis(candidates, difference.argmin(0)[None], 0)[0], difference.min(0)


def nearest_differences_s(estimated: Trajectory, reference: Trajectory) -> NDArray[np.float64]:
    """Return for each pose of the shorter trajectory the time in seconds to the nearest pose of the longer one, (N,).

    estimated, reference: two trajectories with times.

    Examples:
        >>> paths = [Trajectory(np.tile(np.eye(4), (len(t), 1, 1)), np.array(t)) for t in ([0.1, 1.0], [0.0, 1.0, 2.0])]
        >>> nearest_differences_s(*paths).tolist()
        [0.1, 0.0]
    """
    short, long = sorted((estimated, reference), key=len)
    assert short.times_s is not None
    assert long.times_s is not None
    return _find_nearest(short.times_s, long.times_s)[1]


def _make_no_overlap_error(
    estimated: Trajectory, reference: Trajectory, nearest_s: float, max_difference_s: float
) -> DataError:
    """Return the error of trajectories without a common instant, with the likely cause."""
    assert estimated.times_s is not None
    assert reference.times_s is not None
    first, last = ((path.times_s[0], path.times_s[-1]) for path in (estimated, reference) if path.times_s is not None)
    durations = first[1] - first[0], last[1] - last[0]
    fix = "check that both have one clock, in seconds"
    if nearest_s <= MAX_SUGGESTED_DIFFERENCE_S:
        fix = f"the nearest are {nearest_s:.3g} s apart: pass --max-difference {nearest_s * 1.5:.2g}"
    elif min(durations) > 0:
        exponent = np.log10(durations[0] / durations[1])
        if round(exponent) in (-9, -6, -3, 3, 6, 9) and abs(exponent - round(exponent)) < MAX_DURATION_GAP:
            factor = f"1e{round(-exponent):+d}"
            fix = f"their times have two units, since the estimate lasts {durations[0]:.4g} and the reference"
            fix += f" {durations[1]:.4g}: multiply the times of {estimated.name} by {factor}"
        elif counted := [path for path in (estimated, reference) if _counts_up(path)]:
            other = reference if counted[0] is estimated else estimated
            fix = f"the times of {counted[0].name} count up by one: they are numbers of frames or keys of a graph, not "
            fix += f"times. Look up the time of each, in the clock of {other.name}"
            if len(estimated) == len(reference) and _measure_misfit(estimated, reference) <= MAX_SHIFTED_ERROR:
                fix += f"; row k has the pose of row k of {other.name}"
        elif (offset_s := _find_shift(estimated, reference)) is not None:
            fix = "their paths have one shape if one clock is shifted, so the clocks start differently: add "
            fix += f"{offset_s:.3f} s to the times of {estimated.name}"
        else:
            fix = "look at whether both are of one recording: their paths differ if both start together, too"
    expected = f"some within {max_difference_s} s of {reference.name} ({last[0]:.3f} to {last[1]:.3f} s)"
    return DataError(estimated.name, found=f"times {first[0]:.3f} to {first[1]:.3f} s", expected=expected, fix=fix)


MIN_SHIFTED_POSES = 5
MAX_SHIFTED_ERROR = 0.05
"""Largest distance of the positions of two paths, over the extent of the reference, that have one shape."""


MAX_SHIFTS = 200
"""Most shifts of a clock that are tried, each an alignment of a tenth of a millisecond."""

MIN_SHIFT_GAIN = 3.0
"""Least factor by which the right shift fits better than half of the others; along a line, all fit."""


def _counts_up(path: Trajectory) -> bool:
    """Return whether times are whole numbers that count up by one, as seconds or, rounded, as nanoseconds."""
    assert path.times_s is not None
    steps = np.diff(path.times_s)
    return len(steps) > 1 and (bool((steps == 1).all()) or float(steps.mean()) < 2e-5)


def _measure_misfit(estimated: Trajectory, reference: Trajectory) -> float:
    """Return the distance of positions from those of the same rows after a similarity, over the reference's extent."""
    source, target = estimated.T_world_camera[:, :3, 3], reference.T_world_camera[:, :3, 3]
    try:
        fitted = umeyama(source, target, "sim3").apply(source)
    except GeometryError:
        return np.inf
    extent = float(np.linalg.norm(np.ptp(target, axis=0)))
    return float(np.sqrt(np.mean(np.sum((fitted - target) ** 2, axis=1)))) / max(extent, 1e-12)


def _find_shift(estimated: Trajectory, reference: Trajectory) -> float | None:
    """Return the seconds to add to the estimate's times so that both paths have one shape; None if none fits.

    Both may start together, or one may begin or end before the other.
    """
    assert estimated.times_s is not None
    assert reference.times_s is not None
    times_s, known_s = estimated.times_s, reference.times_s
    together = float(known_s[0] - times_s[0])
    chosen = np.linspace(0, len(known_s) - 1, min(len(known_s), MAX_SHIFTS // 2)).astype(int)
    ends = np.concatenate([known_s[chosen] - times_s[0], known_s[chosen] - times_s[-1]])
    step_s = max(float(np.median(np.diff(known_s))), float(np.median(np.diff(times_s))))
    measured = list[tuple[float, float]]()
    for offset_s in (together, *ends):
        nearest, gap = _find_nearest(times_s + offset_s, known_s)
        near = np.flatnonzero(gap <= step_s)
        if len(near) >= max(MIN_SHIFTED_POSES, len(times_s) // 2):
            pair = estimated.rows(near), reference.rows(nearest[near])
            measured.append((_measure_misfit(*pair), float(offset_s)))
    if not measured or min(measured)[0] > MAX_SHIFTED_ERROR:
        return None
    misfits = [misfit for misfit, _ in measured]
    if MIN_SHIFT_GAIN * min(misfits) < np.median(misfits):
        return min(measured)[1] if measured[0][1] != together or misfits[0] > 1.5 * min(misfits) else together
    return together if measured[0][1] == together and misfits[0] <= MAX_SHIFTED_ERROR else None


def _associate_frames(estimated: Trajectory, reference: Trajectory) -> tuple[Trajectory, Trajectory]:
    """Return the poses of common frames. Raise DataError if an estimated frame has no reference."""
    frames, rows, partners = np.intersect1d(estimated.frame_numbers, reference.frame_numbers, return_indices=True)
    if len(frames) < min(len(estimated), len(reference)):
        missing = np.setdiff1d(estimated.frame_numbers, reference.frame_numbers)
        found = f"frame {missing[0]}, and {len(missing)} frames in all without a reference"
        expected = f"frames of {reference.name} ({reference.frame_numbers[0]} to {reference.frame_numbers[-1]})"
        raise DataError(estimated.name, found=found, expected=expected, fix="check that both show one sequence")
    return estimated.rows(rows), reference.rows(partners)
