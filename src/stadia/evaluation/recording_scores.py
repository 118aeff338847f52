"""Score camera paths, and collect the depth and path scores of recordings."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.core.types import DepthScale
from stadia.evaluation.depth_score import DepthScore, GroundTruthReaders
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocol_search import LabeledMap, ProtocolSearch
from stadia.evaluation.protocols import Protocol
from stadia.evaluation.steady_depth import FlickerScore
from stadia.evaluation.trajectory_hypotheses import (
    note_bursts,
    note_clock_rate,
    note_fixed_rotations,
    note_frame_rate,
    note_hypotheses,
    note_offsets,
)
from stadia.geometry.poses import invert_pose
from stadia.io.atomic_files import atomic_write
from stadia.io.input_files import read_text
from stadia.io.records.trajectory import (
    MIN_GAP,
    Trajectory,
    add_instants,
    associate_trajectories,
    find_gaps,
    nearest_differences_s,
)
from stadia.metrics import TRAJECTORY_METRICS
from stadia.metrics.trajectory_metrics import (
    MAX_INTERVAL_ERROR,
    SEGMENT_LENGTHS_M,
    PathAlignment,
    align_path,
    length_ratio,
    path_length_m,
    pose_pairs_at_interval,
    relative_pose_errors,
)

MAX_POSES_DRAWN = 2000

LENGTH_UNITS = {"millimetres": 1000.0, "centimetres": 100.0, "kilometres": 0.001}
UNIT_GAP = 0.1  # difference between the logs of a ratio of lengths and of a unit
MIN_LENGTH_RATIO, MAX_LENGTH_RATIO = 0.95, 1.05  # lengths of the estimate over the reference without a note
ROUNDING = 1e-9  # metres, degrees or percent that are scored as 0
DEFAULT_ALIGNMENT = PathAlignment.SE3  # an estimate cannot choose the world frame, but its scale

PATH_ALIGNMENT: Mapping[DepthScale, PathAlignment] = {
    DepthScale.METRES: DEFAULT_ALIGNMENT,
    DepthScale.UP_TO_SCALE: PathAlignment.SIM3,
    DepthScale.AFFINE_INVERSE: PathAlignment.SIM3,
    DepthScale.AFFINE_DEPTH: PathAlignment.SIM3,
}
"""How a predicted trajectory is aligned with the reference, for each scale of depth.

If depth is not in metres, the scale of the trajectory is fitted, too.
"""

ALIGNMENT_NAMES: Mapping[PathAlignment, str] = {
    PathAlignment.NONE: "not aligned",
    PathAlignment.SCALE: "scale-aligned",
    PathAlignment.SE3: "SE(3)-aligned",
    PathAlignment.SIM3: "Sim(3)-aligned",
}
UNSCALED_ALIGNMENTS = (PathAlignment.NONE, PathAlignment.SE3)

MIN_COVERAGE = 0.5  # share of the shorter path with a partner; below, only a part is scored
FIT_QUANTILE = 0.95  # share of the poses that the suggested --max-difference associates
MIN_SPAN = 0.9  # share of the reference's duration below which an estimate gets a note
MIN_POSES = 3  # a path with fewer poses is correct after alignment


def score_measured_path(
    T_world_camera: NDArray[np.float64],
    times_s: Sequence[float | None],
    measured: Sequence[NDArray[np.float64] | None],
    depth_scale: DepthScale,
    *,
    source: str,
) -> "TrajectoryScore | None":
    """Score a predicted path against measured poses, if at least MIN_POSES of them are known; otherwise return None.

    T_world_camera: (N, 4, 4) predicted poses.
    times_s: time of each pose in seconds, None if unknown.
    measured: measured pose (4, 4) of each frame, None if unknown.
    depth_scale: determines how the path is aligned.
    source: name of the path, for messages.
    """
    rows = [row for row, pose in enumerate(measured) if pose is not None]
    if len(rows) < MIN_POSES:
        return None
    known_s = [times_s[row] for row in rows]
    known = np.stack([pose for pose in measured if pose is not None])
    estimated = add_instants(Trajectory(T_world_camera[rows]), known_s, rows)
    reference = add_instants(Trajectory(known, name=source), known_s, rows)
    return score_trajectory(estimated, reference, PATH_ALIGNMENT[depth_scale])


@dataclass(frozen=True, slots=True)
class TrajectoryScore:
    """Hold the errors of an estimated trajectory compared with a reference trajectory.

    metrics: errors by name, such as "ate_rmse_m"; None for a metric that needs a longer trajectory.
    alignment: kind of transform that was fitted to the reference before the comparison.
    scale: factor of the estimated translations in this transform.
    estimated: (N, 4, 4) estimated camera-to-world poses after the alignment.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.
    notes: sentences about suspicious results and their likely causes.
    gaps: indices of poses after which there is a gap in time. Drawings do not join such a pose with the next one.
    length_ratio: length of the estimated trajectory divided by the reference's; None if the alignment fits the scale.
    rpe_interval: interval in seconds, and number of pairs of poses, of the relative pose error
        `rpe_interval_trans_m`.
    """

    metrics: dict[str, float | None]
    alignment: PathAlignment
    scale: float
    estimated: NDArray[np.float64]
    reference: NDArray[np.float64]
    notes: tuple[str, ...]
    gaps: tuple[int, ...] = ()
    length_ratio: float | None = None
    rpe_interval: tuple[float, int] | None = None

    @property
    def path_m(self) -> float:
        """Return the length of the reference path in metres."""
        return path_length_m(self.reference)

    @property
    def headline(self) -> str:
        """Return the error of the path with its alignment: "ATE 0.49 m (SE(3)-aligned), 51 poses, path 59.9 m"."""
        of = f"{len(self.reference)} poses, path {self.path_m:.{1 if self.path_m >= 1 else 3}f} m"
        ratio = "" if self.length_ratio is None else f", length ratio {self.length_ratio:.3g}"
        return f"ATE {self.metrics['ate_rmse_m']:.3g} m ({ALIGNMENT_NAMES[self.alignment]}), {of}{ratio}"

    @property
    def paths_from_start(self) -> dict[str, NDArray[np.float64]]:
        """Return the "estimated" and the "true" trajectory, (N, 4, 4), in coordinates of the first reference camera."""
        T_start_world = invert_pose(self.reference[0])
        return {"estimated": T_start_world @ self.estimated, "true": T_start_world @ self.reference}

    def summary(self) -> dict[str, Any]:
        """Return the metrics, the alignment and `notes` as one JSON object."""
        setup: dict[str, Any] = {"align": str(self.alignment), "scale": self.scale}
        setup |= {} if self.length_ratio is None else {"length_ratio": self.length_ratio}
        setup |= {"poses": len(self.reference), "path_m": self.path_m}
        if self.rpe_interval is not None:
            setup |= dict(zip(("rpe_interval_s", "rpe_interval_pairs"), self.rpe_interval, strict=True))
        return {**self.metrics, **setup, "notes": list(self.notes)}

    def to_json(self) -> dict[str, Any]:
        """Return the content of a score file: the numbers, and both paths as x and z with the height over the start."""
        head = self.summary()
        metrics = {name: head.pop(name) for name in self.metrics}
        step = -(-len(self.reference) // MAX_POSES_DRAWN)
        paths = {name: T[::step, :3, 3].round(3) for name, T in self.paths_from_start.items()}
        drawn = {f"path_{name}_m": xyz[:, [0, 2]].tolist() for name, xyz in paths.items()}
        heights = {f"height_{name}_m": (0.0 - xyz[:, 1]).tolist() for name, xyz in paths.items()}
        gaps = {"path_gaps": sorted({row // step for row in self.gaps})} if self.gaps else {}
        return {**head, "metrics": metrics, **drawn, **heights, **gaps}


def score_trajectory(
    estimated: Trajectory,
    reference: Trajectory,
    alignment: PathAlignment = DEFAULT_ALIGNMENT,
    max_difference_s: float = 0.01,
    rpe_interval_s: float | None = None,
) -> TrajectoryScore:
    """Associate two trajectories, align them and compute the errors.

    estimated, reference: camera-to-world trajectories.
    alignment: the fitted transform. An estimate up to scale needs "scale" or "sim3".
    max_difference_s: largest time difference between associated poses, seconds.
    rpe_interval_s: also compute the relative pose error (RPE) over this interval, seconds; this needs times.

    Raises DataError if too few poses can be associated, and GeometryError if a path cannot be aligned.
    """
    P, Q = associate_trajectories(estimated, reference, max_difference_s)
    if len(P) < 2:
        expected = "at least two poses with a reference"
        fix = "pass files whose times or frames overlap"
        raise DataError(P.name, found="one pose with a partner", expected=expected, fix=fix)
    if len(P) < MIN_POSES and alignment in (PathAlignment.SE3, PathAlignment.SIM3):
        raise _make_few_poses_error(estimated, reference, len(P), alignment, max_difference_s)
    notes = [*estimated.notes, *reference.notes]
    if estimated.times_s is not None and reference.times_s is not None:
        notes.append(note_coverage(estimated, reference, len(P), max_difference_s))
    if P.frames is not None or Q.frames is not None:
        notes += _note_frames((Q if P.frames is None else P).frame_numbers, reference)
    if (estimated.times_s is None) != (reference.times_s is None):
        timed, rows = (reference, estimated) if estimated.times_s is None else (estimated, reference)
        notes.append(f"{timed.name} has times, {rows.name} does not: its row k is taken as frame k")
    timed_path = P if Q.times_s is None and Q.frames is None else Q
    gaps = find_gaps(timed_path)
    notes += [_note_gaps(timed_path, gaps)] if len(gaps) else []
    truth = Q.T_world_camera
    fitted = align_path(P.T_world_camera, truth, alignment)
    values = {name: TRAJECTORY_METRICS.load(name)(fitted.T_world_camera, truth) for name in TRAJECTORY_METRICS}
    metrics = {name: 0.0 if value is not None and abs(value) < ROUNDING else value for name, value in values.items()}
    if metrics["t_err_percent"] is None:
        needed = f"t_err and r_err need a path longer than {SEGMENT_LENGTHS_M[0]} m"
        notes.append(f"{needed}; the reference has {path_length_m(truth):.1f} m")
    ratio = length_ratio(fitted.T_world_camera, truth) if alignment in UNSCALED_ALIGNMENTS else None
    if ratio is not None and not MIN_LENGTH_RATIO <= ratio <= MAX_LENGTH_RATIO:
        notes.append(_note_length(ratio, P, truth))
    of_times = note_frame_rate(estimated, reference) or note_bursts(estimated, reference, max_difference_s)
    explained = [of_times] if of_times else note_hypotheses(P, Q, alignment)
    has_positions_only = bool(note_fixed_rotations(P, Q))
    notes += explained
    if not explained or has_positions_only:
        notes += note_offsets(estimated, reference, (P, Q), max_difference_s)
    interval = None
    if rpe_interval_s is not None:
        over_interval, pairs = _rpe_over_interval(
            Q if P.times_s is None else P, fitted.T_world_camera, truth, rpe_interval_s
        )
        metrics, interval = {**metrics, **over_interval}, (rpe_interval_s, pairs)
        if not pairs:
            within = f"no two of {len(P)} poses are {rpe_interval_s:g} s apart, within {MAX_INTERVAL_ERROR:.0%}"
            notes.append(f"no RPE over the interval: {within}")
    return TrajectoryScore(
        metrics,
        alignment,
        fitted.scale,
        fitted.T_world_camera,
        truth,
        tuple(notes),
        gaps=tuple(gaps.tolist()),
        length_ratio=ratio,
        rpe_interval=interval,
    )


def _rpe_over_interval(
    timed: Trajectory, estimated: NDArray[np.float64], reference: NDArray[np.float64], interval_s: float
) -> tuple[dict[str, float | None], int]:
    """Return RPE between poses that are an interval apart, by name, and the number of pairs. Raises DataError."""
    if timed.times_s is None:
        fix = "give one file with times (--format tum or --reference-format tum)"
        expected = "times, for RPE over an interval in seconds"
        raise DataError(timed.name, found="rows without times", expected=expected, fix=fix)
    times_s = timed.times_s - timed.times_s[0]
    first, second = pose_pairs_at_interval(times_s, interval_s)
    errors = relative_pose_errors(estimated, reference, first, second)
    translation_m, rotation_deg = (None, None) if errors is None else errors
    return {"rpe_interval_trans_m": translation_m, "rpe_interval_rot_deg": rotation_deg}, len(first)


def _note_gaps(path: Trajectory, gaps: NDArray[np.intp]) -> str:
    instants, unit = (path.frame_numbers, "frames") if path.times_s is None else (path.times_s, "s")
    intervals = np.diff(instants)
    count = f"{len(gaps)} gap{'s' * (len(gaps) != 1)} between neighboring poses"
    above = f"above {MIN_GAP} times the median interval of {np.median(intervals):.3g} {unit}"
    return f"{count}, the longest {intervals.max():.3g} {unit} ({above}): RPE and the path length include them"


def _note_frames(frames: NDArray[np.intp], reference: Trajectory) -> Iterator[str]:
    """Yield notes on frames (N,) with a pose in both: gaps between them, and reference poses beyond them."""
    first, last = int(frames[0]), int(frames[-1])
    if len(frames) < last - first + 1:
        between = f"{len(frames)} of {last - first + 1} frames have a pose in both"
        yield f"{between}: errors between frames span the gaps"
    if reference.frame_numbers[0] < first or reference.frame_numbers[-1] > last:
        scored = f"{len(frames)} of {len(reference)} poses of {reference.name} are scored"
        yield f"{scored}: it has more before frame {first} or after frame {last}"


def note_coverage(estimated: Trajectory, reference: Trajectory, count: int, max_difference_s: float) -> str:
    """Return a sentence about how many estimated and reference poses could be associated by their times.

    If there are few, it adds how many a larger time difference would give.

    estimated: estimated trajectory.
    reference: reference trajectory.
    count: number of associated poses.
    max_difference_s: largest accepted time difference between associated poses in seconds.
    """
    shorter = min(len(estimated), len(reference))
    text = f"{count} of {shorter} poses have a partner within {max_difference_s:g} s"
    text += _describe_span(estimated, reference)
    sizes = f"{estimated.name} has {len(estimated)} poses, {reference.name} has {len(reference)}"
    if count >= MIN_COVERAGE * shorter:
        return text if count == shorter else f"{text} ({sizes})"
    differences = nearest_differences_s(estimated, reference)
    assert reference.times_s is not None
    steps = np.diff(reference.times_s)
    wider = float(np.quantile(differences, FIT_QUANTILE))
    fix = f"half of the poses of the shorter file are {np.median(differences):.3g} s or more away from the nearest one"
    if len(steps) and wider <= np.median(steps):
        gained = int((differences <= wider).sum())
        fix = f"--max-difference {wider * 1.01:.2g} gives {gained}, if the clocks agree"
    if rate := note_clock_rate(estimated, reference, max_difference_s):
        fix = rate
    return f"warning: only {text}, and only these are scored ({sizes}). {fix}"


def _make_few_poses_error(
    estimated: Trajectory, reference: Trajectory, count: int, alignment: PathAlignment, max_difference_s: float
) -> DataError:
    expected = f"at least {MIN_POSES} poses with a reference, for --align {alignment}"
    found, fix = f"{count} poses with a reference", "check both files"
    if estimated.times_s is not None and reference.times_s is not None:
        found = f"{count} of {min(len(estimated), len(reference))} poses with a partner within {max_difference_s:g} s"
        near = np.sort(nearest_differences_s(estimated, reference))
        fix = f"the next pose is {near[count]:.3g} s off: " if count < len(near) else ""
        fix += "raise --max-difference if the clocks agree, or pass a longer path; --align none needs two poses"
    return DataError(estimated.name, found=found, expected=expected, fix=fix)


def _note_length(ratio: float, estimated: Trajectory, truth: NDArray[np.float64]) -> str:
    """Return a note on an estimate whose length is `ratio` times the reference's, with its ATE by sim3."""
    off = f"{abs(ratio - 1):.0%} too {'short' if ratio < 1 else 'long'}"
    text = f"the estimate is {ratio:.3g} times as long as the reference ({off})"
    unit = next((unit for unit, factor in LENGTH_UNITS.items() if abs(np.log(ratio / factor)) < UNIT_GAP), None)
    text += f", as in {unit}" if unit else ""
    with suppress(GeometryError):
        fitted = align_path(estimated.T_world_camera, truth, PathAlignment.SIM3)
        ate_m = TRAJECTORY_METRICS.load("ate_rmse_m")(fitted.T_world_camera, truth)
        text += f"; with its scale fitted, too (sim3), ATE is {ate_m:.3g} m"
    return text


def _describe_span(estimated: Trajectory, reference: Trajectory) -> str:
    """Return what part of the reference's duration the estimate spans, if it is below MIN_SPAN."""
    assert estimated.times_s is not None
    assert reference.times_s is not None
    first, last = float(reference.times_s[0]), float(reference.times_s[-1])
    start, end = max(first, float(estimated.times_s[0])), min(last, float(estimated.times_s[-1]))
    if not last > first or end - start >= MIN_SPAN * (last - first):
        return ""
    spans = f"; the estimate spans {max(end - start, 0):.4g} of {last - first:.4g} s of the reference"
    return f"{spans} (it starts {start - first:.3g} s after it, and ends {last - end:.3g} s before it)"


SCORE_FORMAT = "stadia-scores"  # `format` of every score file


@dataclass(frozen=True, slots=True)
class RecordingScores:
    """Hold the scores of several recordings.

    depth: scores of the depth maps of all recordings together; None without true depth.
    odometry: score of the camera trajectory, by name of the recording.
    notes: sentences about suspicious results.
    ground_truth: kind of the true depth, such as single LiDAR scans.
    flicker: how much the depth of neighboring video frames disagrees, by name of the recording.
    protocols: the protocols that reproduce published figures; None if none were given.
    """

    depth: DepthScore | None
    odometry: Mapping[str, TrajectoryScore]
    notes: tuple[str, ...] = ()
    ground_truth: str = ""
    flicker: Mapping[str, FlickerScore] = field(default_factory=dict)
    protocols: ProtocolSearch | None = None

    def summary(self) -> dict[str, Any]:
        """Return the summary of the depth scores, the notes, and `odometry` by recording."""
        depth: dict[str, Any] = self._name_truth(self.depth.summary()) if self.depth else {"images": 0, "notes": []}
        notes = [*self.notes, *depth["notes"]]
        odometry = {name: score.summary() for name, score in self.odometry.items()}
        found = {} if self.protocols is None else {"protocols": self.protocols.to_json()}
        return {**depth, "notes": notes, "odometry": odometry, **self._list_flicker(), **found}

    def write(self, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
        """Write the depth scores as NAME.json and the score of each path as NAME-RECORDING.json. Return the files.

        about: metadata that is added to each file.
        """
        scores: dict[str, dict[str, Any]] = {}
        if self.depth is not None:
            scores[f"{name}.json"] = {**self._name_truth(self.depth.to_json()), **self._list_flicker()}
        for recording, path in self.odometry.items():
            stem = f"{name}-{recording.replace('/', '-')}"
            names = (f"{stem}{f'-{number}' * (number > 1)}.json" for number in count(1))
            scores[next(file for file in names if file not in scores)] = {"recording": recording, **path.to_json()}
        for file, score in scores.items():
            write_score(folder / file, {**about, **score, "notes": [*self.notes, *score["notes"]]})
        return [folder / file for file in scores]

    def _list_flicker(self) -> dict[str, Any]:
        """Return the scores of flicker by recording."""
        return {"flicker": {name: score.to_json() for name, score in self.flicker.items()}} if self.flicker else {}

    def _name_truth(self, depth: dict[str, Any]) -> dict[str, Any]:
        """Return a score of depth with its `ground_truth`, if the kind is known."""
        return (
            {"protocol": depth["protocol"], "ground_truth": self.ground_truth, **depth} if self.ground_truth else depth
        )


def read_labeled_maps(
    predicted: Iterable[tuple[Predictions, GroundTruthReaders]], protocol: Protocol
) -> Iterator[LabeledMap]:
    """Yield the predictions that have ground truth, to try protocols.

    predicted: predictions, each with functions that read their ground truth by name.
    protocol: gives the unit of integer maps.
    """
    for predictions, truth in predicted:
        for name, read_truth in truth.items():
            if (true_m := read_truth()) is not None and name in predictions.files:
                depth = predictions.read(name, png_per_metre=protocol.png_per_metre)
                yield LabeledMap(name, depth, true_m, predictions.crop)


def write_score(path: Path, score: dict[str, Any]) -> Path | None:
    """Write a score file. If an earlier score differs, rename it to NAME.earlier-1.json and return the new path."""
    text, kept = json.dumps({"format": SCORE_FORMAT, **score}, indent=2, allow_nan=False) + "\n", None
    with atomic_write(path) as new:
        new.write_text(text, encoding="utf-8")
        if path.exists() and _is_different(path, text):
            earlier = (path.with_name(f"{path.stem}.earlier-{number}.json") for number in count(1))
            kept = path.rename(next(name for name in earlier if not name.exists()))
    return kept


def _is_different(path: Path, text: str) -> bool:
    try:
        return read_text(path, expected="a score file") != text
    except DataError:
        return True
