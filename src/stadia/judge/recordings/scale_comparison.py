"""Compare the lengths that a recording states: by its rig, its poses and its ground truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stadia.geometry.two_views import TwoViewMotion, angle_deg, epipolar_distance_px, triangulate
from stadia.judge.recordings.recording_survey import Array, RecordingSurvey, Step, sample_depth


class LengthSource(StrEnum):
    """A source of metric lengths."""

    RIG = "rig"
    POSES = "poses"
    DEPTH = "ground-truth depth"


@dataclass(frozen=True, slots=True)
class ScaleComparison:
    """A comparison of two sources of scale: `first` measures `ratio` times what `second` measures.

    log_error: standard error of log(ratio).
    """

    first: LengthSource
    second: LengthSource
    ratio: float
    log_error: float
    count: int

    @property
    def log_width(self) -> float:
        """Half of the 95 % interval of log(ratio), by Student's t."""
        from scipy.special import stdtrit  # slow to import

        return float(stdtrit(self.count - 1, 0.975)) * self.log_error

    def other_than(self, source: LengthSource) -> LengthSource:
        """Return the source that this one is compared with."""
        return self.second if self.first is source else self.first

    def log_factor_of(self, source: LengthSource) -> float:
        """Return the log of this source's lengths over the other's."""
        return math.log(self.ratio) * (1 if self.first is source else -1)

    @property
    def deviation(self) -> float:
        """|log ratio| beyond its interval."""
        return max(0.0, abs(float(np.log(self.ratio))) - self.log_width)


MAX_LENGTH_ANGLE_DEG = 30.0  # angle between the directions of a compared motion by poses and by images

MIN_LENGTH_PARALLAX_PX = 3.0  # parallax of such a motion, in grains of the image

MIN_LENGTH_STEPS = 2  # steps for a comparison of motions

MIN_LENGTH_POINTS = 30  # points for a comparison of depths

MIN_RIG_POINTS = 40  # points for whether ground truth is proportional to the rig's depth

MIN_RANK = 0.8  # rank correlation of ground truth with the rig's depth; clean data have .95 to .99

MAX_SPREAD = 0.1  # robust deviation of the log of their ratio; clean data have .020 to .027

MAX_BEND = 0.1  # difference of this log between near and far points; clean data have below .01

ASSUMED_INTERVAL_S = 0.1  # seconds between frames without times


def has_comparison(comparisons: Sequence[ScaleComparison], source: LengthSource) -> bool:
    """Return whether another source measures the same lengths."""
    return any(source in (c.first, c.second) for c in comparisons)


def compare_scales(survey: RecordingSurvey) -> list[ScaleComparison]:
    """Compare every pair of sources of the recording, on the same points and motions."""
    depth = compare_depth_with_rig(survey)
    by_rig = [measure_length_ratio(step, step.by_rig) for step in survey.steps]
    by_depth = [measure_length_ratio(step, step.by_depth) for step in survey.steps]
    comparisons = [compare_lengths(LengthSource.POSES, LengthSource.RIG, by_rig, MIN_LENGTH_STEPS)]
    if depth is None or depth.straight:
        comparisons.append(compare_lengths(LengthSource.POSES, LengthSource.DEPTH, by_depth, MIN_LENGTH_STEPS))
    if depth is not None and depth.straight:
        ratios = np.exp(depth.logs).tolist()
        comparisons.append(compare_lengths(LengthSource.RIG, LengthSource.DEPTH, ratios, MIN_LENGTH_POINTS))
    return [comparison for comparison in comparisons if comparison is not None]


def measure_length_ratio(step: Step, motion: TwoViewMotion | None) -> float:
    """Return a step's length in the poses divided by its length in `motion`.

    It is 0 if either is missing, the parallax is too small, or their directions differ.
    """
    T = step.T_second_first
    if motion is None or T is None or motion.parallax_px < MIN_LENGTH_PARALLAX_PX * step.grain_px:
        return 0.0
    return float(np.linalg.norm(T[:3, 3])) / float(np.linalg.norm(motion.t)) if has_same_direction(T, motion) else 0.0


def has_same_direction(T_second_first: Array, motion: TwoViewMotion) -> bool:
    """Return whether poses and images agree on the direction of a motion."""
    return angle_deg(motion.t, T_second_first[:3, 3]) < MAX_LENGTH_ANGLE_DEG


@dataclass(frozen=True, slots=True)
class DepthProportionality:
    """Whether ground truth is proportional to the rig's depth, at any factor.

    logs: (N,) log of rig over ground truth.
    rank: rank correlation.
    spread: robust deviation of `logs`.
    bend: median of `logs` over the nearer half of the points, less its median over the farther half.
    """

    logs: Array
    rank: float
    spread: float
    bend: float

    @property
    def straight(self) -> bool:
        """Whether a scale exists."""
        return self.rank >= MIN_RANK and self.spread <= MAX_SPREAD and abs(self.bend) <= MAX_BEND


def compare_depth_with_rig(survey: RecordingSurvey, shift: int = 0) -> DepthProportionality | None:
    """Compare ground truth (`shift` frames later) with the rig's depth at common points; None for too few."""
    rig: list[float] = []
    true: list[float] = []
    for pair in survey.pairs if survey.stereo else ():
        index = pair.index + shift
        truth = survey.depth(index) if 0 <= index < survey.length else None
        if truth is not None:
            z, known = survey.rig_depth(pair), sample_depth(truth, pair.matches.first_px)
            both = (z > 0) & (known > 0)
            rig += z[both].tolist()
            true += known[both].tolist()
    if len(rig) < MIN_RIG_POINTS:
        return None
    from scipy.stats import spearmanr  # slow to import

    z, known = np.array(rig), np.array(true)
    logs, near = np.log(z / known), z < np.median(z)
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    rank = float(spearmanr(z, known).statistic) if np.ptp(known) > 0 else 0.0
    return DepthProportionality(logs, rank, spread, float(np.median(logs[near]) - np.median(logs[~near])))


MAX_INVERSE_RANK = -0.4  # rank correlation of ground truth with depth by poses; clean data have above .8

MIN_POSE_POINT_SHARE = 0.4  # share of matches on the epipolar lines of correct poses

MAX_POSE_EPIPOLAR_PX = 2.0  # distance of a match to such a line, in grains of the image


def rank_depth_with_poses(survey: RecordingSurvey) -> tuple[float, int] | None:
    """Return the rank correlation of ground truth with depth triangulated by the poses, and the number of points."""
    if survey.depth_rank_by_poses is None:
        survey.depth_rank_by_poses = (_rank_depth_with_poses(survey),)
    return survey.depth_rank_by_poses[0]


def _rank_depth_with_poses(survey: RecordingSurvey) -> tuple[float, int] | None:
    measured, known, counted = list[float](), list[float](), 0
    for step in survey.steps:
        T, truth = step.T_second_first, survey.depth(step.first)
        if T is None or truth is None or not np.linalg.norm(T[:3, 3]) > 0:
            continue
        pixels, cameras = (step.matches.first_px, step.matches.second_px), (survey.K(step.first), survey.K(step.second))
        z, z_second = triangulate(*pixels, *cameras, T)
        near = epipolar_distance_px(*pixels, *cameras, T) < MAX_POSE_EPIPOLAR_PX * step.grain_px
        counted += len(near)
        given = sample_depth(truth, step.matches.first_px)
        good = near & (z > 0) & (z_second > 0) & (given > 0)
        scale = float(np.median(z[good])) if good.any() else 1.0
        measured += (z[good] / scale).tolist()
        known += given[good].tolist()
    if len(measured) < max(MIN_RIG_POINTS, MIN_POSE_POINT_SHARE * counted):
        return None
    if not np.ptp(known) > 0:
        return 0.0, len(measured)
    # scipy.stats takes half a second to import
    rank_measured, rank_known = (np.argsort(np.argsort(values)) for values in (measured, known))
    return float(np.corrcoef(rank_measured, rank_known)[0, 1]), len(measured)


def is_inverse_by_poses(survey: RecordingSurvey) -> bool:
    """Return whether ground truth is inverse to depth by the poses."""
    ranked = rank_depth_with_poses(survey)
    return ranked is not None and ranked[0] <= MAX_INVERSE_RANK


def compare_lengths(
    first: LengthSource, second: LengthSource, ratios: Sequence[float], min_count: int
) -> ScaleComparison | None:
    """Compare two sources by ratios of lengths (0: unknown); None with fewer than `min_count`."""
    logs = np.log([ratio for ratio in ratios if ratio > 0])
    if len(logs) < min_count:
        return None
    median = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - median)))
    return ScaleComparison(first, second, float(np.exp(median)), 1.2533 * spread / len(logs) ** 0.5, len(logs))


def measure_scales(survey: RecordingSurvey) -> dict[LengthSource, float]:
    """Return the baseline in metres, the median speed in m/s and the median ground-truth depth in metres."""
    values = {}
    if survey.stereo:
        values[LengthSource.RIG] = float(np.linalg.norm(survey.T_right_left[:3, 3]))
    if (speed := _median_speed(survey)) is not None:
        values[LengthSource.POSES] = speed
    maps = [depth for i in survey.anchors if (depth := survey.depth(i)) is not None]
    if medians := [float(np.median(depth[depth > 0])) for depth in maps if (depth > 0).any()]:
        values[LengthSource.DEPTH] = float(np.median(medians))
    return values


def _median_speed(survey: RecordingSurvey) -> float | None:
    """Return m/s over a dozen consecutive frames, at 10 Hz if they have no timestamps."""
    speeds = []
    recording = survey.recording
    for i in sorted({int(k) for k in np.linspace(0, survey.length - 2, 12)}) if survey.length > 1 else ():
        now, following = recording.T_world_camera(i), recording.T_world_camera(i + 1)
        if now is None or following is None:
            continue
        t0, t1 = recording.timestamp_s(i), recording.timestamp_s(i + 1)
        seconds = t1 - t0 if t0 is not None and t1 is not None and t1 > t0 else ASSUMED_INTERVAL_S
        speeds.append(float(np.linalg.norm(following[:3, 3] - now[:3, 3])) / seconds)
    return float(np.median(speeds)) if speeds else None
