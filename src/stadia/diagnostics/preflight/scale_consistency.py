"""Compare lengths by the stereo rig, the poses and the ground-truth depth, and find the wrong one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.stats import spearmanr

from stadia.core.types import Camera
from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey, Step, sample_depth
from stadia.diagnostics.preflight.two_view_geometry import Array, TwoViewMotion, angle_deg, estimate_metric_motion


class ScaleSource(StrEnum):
    """A source of metric lengths."""

    RIG = "rig"
    POSES = "poses"
    DEPTH = "ground-truth depth"


@dataclass(frozen=True, slots=True)
class ScaleComparison:
    """`first` measures `ratio` times what `second` measures.

    log_error: standard error of log(ratio).  count: steps or points behind it.
    """

    first: ScaleSource
    second: ScaleSource
    ratio: float
    log_error: float
    count: int

    @property
    def deviation(self) -> float:
        """|log ratio| beyond the noise (two standard errors)."""
        return max(0.0, abs(float(np.log(self.ratio))) - 2 * self.log_error)


WARN_FROM, STOP_FROM = 0.05, 0.08
"""Deviations (of log ratio) where the rig takes part. See `docs/findings.md` for what clean data shows."""

WARN_FROM_LOOSE, STOP_FROM_LOOSE = 0.15, 0.30
"""Deviations between poses and ground-truth depth: both are measured by other sensors, with errors of their own."""

PLAUSIBLE = {ScaleSource.RIG: (0.02, 3.0), ScaleSource.POSES: (0.0, 80.0), ScaleSource.DEPTH: (0.1, 300.0)}
"""Plausible ranges: baseline in metres, median speed in m/s, median depth in metres."""

CHECK_BASELINE = "check the baseline first, since cx and cy are those of this image"

FINGERPRINTS: dict[ScaleSource, tuple[tuple[float, str, str], ...]] = {
    ScaleSource.POSES: (
        (1000.0, "the poses are in millimetres", "divide their translations by 1000"),
        (100.0, "the poses are in centimetres", "divide their translations by 100"),
        (0.001, "the poses are in kilometres", "multiply their translations by 1000"),
    ),
    ScaleSource.DEPTH: (
        (1000.0, "the ground truth is in millimetres", "divide it by 1000"),
        (256.0, "the uint16 PNG was read without its factor of 256", "divide it by 256"),
        (100.0, "the ground truth is in centimetres", "divide it by 100"),
        (
            1000 / 256,
            "millimetres were read as KITTI's uint16, of 1/256 m",
            "divide it by 3.906, or the stored values by 1000",
        ),
        (
            256 / 1000,
            "KITTI's uint16, of 1/256 m, was read as millimetres",
            "multiply it by 3.906, or divide the stored values by 256",
        ),
        (1 / 256, "the ground truth was divided by 256 twice", "multiply it by 256"),
        (0.001, "the ground truth is in kilometres, or was divided by 1000 twice", "multiply it by 1000"),
        (1 / 80, "the ground truth was normalized by its cap of 80 m", "multiply it by 80"),
        (1 / 100, "the ground truth was normalized by 100 m, or is in hectometres", "multiply it by 100"),
        (1 / 5.4, "the factor 5.4 of a nominal baseline of 0.1 m was not undone", "multiply it by 5.4"),
        (
            5.4,
            "the factor 5.4 of a nominal baseline of 0.1 m was applied to depth that was already in metres",
            "divide it by 5.4",
        ),
    ),
    ScaleSource.RIG: (
        (0.8833, "the baseline is P3[0,3] / f alone, without KITTI's P2[0,3]", "use (P2[0,3] - P3[0,3]) / f"),
        (1 / 5.4, "the baseline is the nominal 0.1 m of a reference code", "use the rig's true baseline in metres"),
        (1.3302, "K_02 of the unrectified image is used in place of P_rect", "take fx from P_rect"),
        (2.4258, "K of the 1242 px wide image is used at 512 px", "resize K with the image"),
        (1.9406, "K of the 1242 px wide image is used at 640 px", "resize K with the image"),
        (
            2.0,
            "undecided: the baseline is twice the true one, or fx is that of an image twice as wide",
            f"{CHECK_BASELINE}; if it is right, resize K with the image",
        ),
        (
            0.5,
            "undecided: the baseline is half the true one, or fx is that of an image half as wide",
            f"{CHECK_BASELINE}; if it is right, resize K with the image",
        ),
        (1000.0, "the baseline is in millimetres", "divide it by 1000"),
        (100.0, "the baseline is in centimetres", "divide it by 100"),
    ),
}
"""Known mistakes: (factor by which the source is too long, cause, fix)."""

MAX_CALIBRATION_ERROR = 2.0
"""A measured baseline is off by at most this factor, except by a known mistake; poses without a unit by any."""

FINGERPRINT_TOLERANCE, FINGERPRINT_TOLERANCE_LOOSE = 0.03, 0.10
"""Difference of log factor from a known mistake, and the same for large factors, whose neighbors are far away."""


MAX_ANGLE_DEG, MIN_PARALLAX_PX = 30.0, 3.0
"""Of a motion whose length is compared: between its direction by poses and by images, and its displacement."""

MIN_STEPS, MIN_POINTS, MIN_RIG_POINTS = 2, 30, 40
"""Steps, points, or points with the depth of the rig, that a comparison needs."""

MIN_RANK, MAX_SPREAD, MAX_BEND = 0.8, 0.10, 0.10

ASSUMED_INTERVAL_S = 0.1

MIN_LOG_INTERVAL = 0.025
"""Of the right baseline, to each side. KITTI's calibrated baseline and poses differ by 0.6 % (0.3 to 2.1 % by step)."""

KITTI_SIZES = ((1242, 375), (1241, 376), (1226, 370), (1224, 370), (1238, 374))
KITTI_FOCAL_PX = (705.0, 723.0)
"""(width, height) of KITTI's rectified images, and the range of fx over its recordings."""

KITTI_BASELINES_M = 0.52, 0.55
"""The rectified stereo rigs of KITTI: 0.5323 to 0.5379 m."""


@dataclass(frozen=True, slots=True)
class ScaleError:
    """`source` is `factor` times too long (None where nothing else measures it).

    severe: beyond the threshold for a stop.  sure: a third source, or an absurd value, shows which one is wrong.
    cause, fix: of the known mistake with this factor, else None.  against: the comparisons behind it.
    interval: smallest and largest factor that the measurements carry.
    """

    source: ScaleSource
    factor: float | None
    severe: bool
    sure: bool
    cause: str | None
    fix: str | None
    value: float
    against: tuple[ScaleComparison, ...]
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ScaleTexts:
    """How errors of a source are reported: (measured, expected) without and with another source, and the fix."""

    code: str
    alone: tuple[str, str]
    compared: tuple[str, str]
    fix: str
    value_name: str


TEXTS = {
    ScaleSource.RIG: ScaleTexts(
        "E03",
        ("the baseline is {value:.4g} m", "{low:g} to {high:g} m"),
        (
            "fx times baseline is {factor:.3f} times what {others} give",
            f"1 within {WARN_FROM:.0%}: a baseline of {{right}} m, if fx and {{others}} are right",
        ),
        "use the calibrated distance of the two cameras ({right} m if fx and {others} are right, not {value:.4g} m)",
        "baseline_m",
    ),
    ScaleSource.POSES: ScaleTexts(
        "E08",
        ("a median speed of {value:.3g} m/s", "up to {high:g} m/s"),
        ("motion by the poses is {factor:.4g} times as long as by {others}", "1 within the noise"),
        "divide the translations by {factor:.4g}",
        "median_speed_m_per_s",
    ),
    ScaleSource.DEPTH: ScaleTexts(
        "D06",
        ("a median depth of {value:.4g} m", "{low:g} to {high:g} m"),
        (
            "ground truth is {factor:.4g} times as long as {others} give (its median is {value:.4g} m)",
            "1 within the noise",
        ),
        "divide the ground truth by {factor:.4g}",
        "median_m",
    ),
}


def check_scale(survey: RecordingSurvey, source: ScaleSource) -> list[Finding]:
    """Return E03, E08 or D06 where this source is wrong."""
    found = [error for error in find_scale_errors(survey) if error.source is source]
    if source is ScaleSource.RIG:
        found = [replace(error, interval=measure_interval(survey, error)) for error in found if error.factor]
        found += [error for error in find_scale_errors(survey) if error.source is source and not error.factor]
    return [_report_error(error) for error in found]


def measure_interval(survey: RecordingSurvey, error: ScaleError) -> tuple[float, float]:
    """Return the smallest and largest factor by which the rig is too long.

    Where poses are compared with it, measures on more frames, and again by the nearer half of the points of the rig:
    disparity noise makes far points farther, so the interval contains both.
    """
    sources, steps = {error.source, ScaleSource.POSES}, []
    if any({c.first, c.second} == sources for c in error.against):
        steps = [*survey.steps, *survey.measure_steps_between()]
    ratios = [
        [_length_ratio(step, step.by_rig) for step in steps],
        [_length_ratio(step, _measure_near_motion(survey, step)) for step in steps],
    ]
    measured = [_compare(ScaleSource.POSES, error.source, each, MIN_STEPS) for each in ratios]
    every = [c for c in (*error.against, *measured) if c is not None]
    ends = []
    for c in every:
        log_factor = float(np.log(c.ratio)) * (1 if c.first is error.source else -1)
        width = max(MIN_LOG_INTERVAL, 2 * c.log_error * (1 + 2 / c.count))
        ends += [log_factor - width, log_factor + width]
    return float(np.exp(min(ends))), float(np.exp(max(ends)))


def _measure_near_motion(survey: RecordingSurvey, step: Step) -> TwoViewMotion | None:
    """Return the motion by the nearer half of the points of the rig."""
    depth = step.rig_depth
    if depth is None or not (depth > 0).any():
        return None
    near = np.where(depth <= np.median(depth[depth > 0]), depth, 0.0)
    K, pixels = (survey.K(step.first), survey.K(step.second)), (step.matches.first_px, step.matches.second_px)
    return estimate_metric_motion(*pixels, near, *K, grain_px=step.grain_px)


def format_interval(low: float, high: float) -> str:
    """Return `0.52 to 0.55`: rounded outwards to the digits that the width carries."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    digits = max(0, -round(math.log10(step)))
    return f"{math.floor(low / step) * step:.{digits}f} to {math.ceil(high / step) * step:.{digits}f}"


def _report_error(error: ScaleError) -> Finding:
    source, (low, high), texts = error.source, PLAUSIBLE[error.source], TEXTS[error.source]
    others = " and ".join(f"the {c.second if c.first is source else c.first}" for c in error.against)
    values = {"value": error.value, "low": low, "high": high, "others": others}
    if error.factor is not None:
        low_factor, high_factor = error.interval or (error.factor, error.factor)
        right = format_interval(error.value / high_factor, error.value / low_factor) if error.interval else ""
        values |= {"factor": error.factor, "right": right}
    measured, expected = (text.format(**values) for text in (texts.compared if error.factor else texts.alone))
    fix = texts.fix.format(**values) if error.factor else None
    if error.fix:
        fix = f"{error.fix}; {fix}" if error.interval else error.fix
    evidence = {
        texts.value_name: error.value,
        "ratio of": [f"{c.first} / {c.second}" for c in error.against],
        "median": [c.ratio for c in error.against],
        "measurements": [c.count for c in error.against],
        "culprit": "certain" if error.sure else "likeliest: nothing else in the data decides",
    }
    severity = Severity.stop_if(error.severe)
    return make_finding(texts.code, severity, measured, expected, cause=error.cause, fix=fix, evidence=evidence)


def check_kitti_baseline(survey: RecordingSurvey) -> Finding | None:
    """E03 by plausibility alone: images of the size and focal length of KITTI's rectified ones have its baseline."""
    camera, (low, high) = survey.recording.camera(survey.anchors[0]), KITTI_BASELINES_M
    baseline_m = float(np.linalg.norm(survey.T_right_left[:3, 3]))
    if not is_kitti_camera(camera) or low <= baseline_m <= high:
        return None
    measured = f"the baseline is {baseline_m:.4g} m, and the size and fx of the images are those of KITTI"
    cause = "another baseline than that of KITTI's rig, whose rectified cameras are 0.53 to 0.54 m apart"
    fix = "use (P0[0,3] - P1[0,3]) / fx of calib.txt, (P2[0,3] - P3[0,3]) / fx for the color cameras"
    fix += "; nothing where another rig took these images"
    evidence = {"baseline_m": baseline_m, "fx": float(camera.K[0, 0]), "size": [camera.width, camera.height]}
    expected = f"{low:g} to {high:g} m"
    return make_finding("E03", Severity.WARN, measured, expected, cause=cause, fix=fix, evidence=evidence)


def is_kitti_camera(camera: Camera) -> bool:
    """Return whether the size and focal length are those of KITTI's rectified images."""
    is_size = (camera.width, camera.height) in KITTI_SIZES
    return is_size and KITTI_FOCAL_PX[0] <= float(camera.K[0, 0]) <= KITTI_FOCAL_PX[1]


def has_comparison(survey: RecordingSurvey, source: ScaleSource) -> bool:
    """Return whether another source measures the same lengths."""
    return any(source in (c.first, c.second) for c in compare_scales(survey))


def compare_scales(survey: RecordingSurvey) -> list[ScaleComparison]:
    """Compare every pair of sources that the recording has, on the same points and motions."""
    depth = compare_depth_with_rig(survey)
    by_rig = [_length_ratio(step, step.by_rig) for step in survey.steps]
    by_depth = [_length_ratio(step, step.by_depth) for step in survey.steps]
    found = [_compare(ScaleSource.POSES, ScaleSource.RIG, by_rig, MIN_STEPS)]
    if depth is None or depth.straight:
        found.append(_compare(ScaleSource.POSES, ScaleSource.DEPTH, by_depth, MIN_STEPS))
    if depth is not None and depth.straight:
        found.append(_compare(ScaleSource.RIG, ScaleSource.DEPTH, np.exp(depth.logs).tolist(), MIN_POINTS))
    return [comparison for comparison in found if comparison is not None]


def _length_ratio(step: Step, motion: TwoViewMotion | None) -> float:
    """Return the length by the poses over that of a motion; 0 where one is missing, or their directions differ."""
    T = step.T_second_first
    if motion is None or T is None or motion.parallax_px < MIN_PARALLAX_PX * step.grain_px:
        return 0.0
    return float(np.linalg.norm(T[:3, 3])) / float(np.linalg.norm(motion.t)) if has_same_direction(T, motion) else 0.0


def has_same_direction(T_second_first: Array, motion: TwoViewMotion) -> bool:
    """Return whether poses and images agree on the direction of a motion."""
    return angle_deg(motion.t, T_second_first[:3, 3]) < MAX_ANGLE_DEG


@dataclass(frozen=True, slots=True)
class DepthProportionality:
    """Whether ground truth is proportional to the depth of the rig, whatever the factor.

    logs: (N,) log of rig over ground truth.  rank: rank correlation.  spread: robust deviation of `logs`.
    bend: median of `logs` over the nearer half of the points, less that over the farther half.
    """

    logs: Array
    rank: float
    spread: float
    bend: float

    @property
    def straight(self) -> bool:
        """Depth that is not proportional has no scale."""
        return self.rank >= MIN_RANK and self.spread <= MAX_SPREAD and abs(self.bend) <= MAX_BEND


def compare_depth_with_rig(survey: RecordingSurvey, shift: int = 0) -> DepthProportionality | None:
    """Compare ground truth (of `shift` frames later) with the depth of the rig at common points; None for too few."""
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
    z, known = np.array(rig), np.array(true)
    logs, near = np.log(z / known), z < np.median(z)
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    rank = float(spearmanr(z, known).statistic) if np.ptp(known) > 0 else 0.0
    return DepthProportionality(logs, rank, spread, float(np.median(logs[near]) - np.median(logs[~near])))


def _compare(first: ScaleSource, second: ScaleSource, ratios: Sequence[float], least: int) -> ScaleComparison | None:
    logs = np.log([ratio for ratio in ratios if ratio > 0])
    if len(logs) < least:
        return None
    median = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - median)))
    return ScaleComparison(first, second, float(np.exp(median)), 1.2533 * spread / len(logs) ** 0.5, len(logs))


def measure_scales(survey: RecordingSurvey) -> dict[ScaleSource, float]:
    """Return each source by itself: baseline in metres, median speed in m/s, median ground-truth depth in metres."""
    values = {}
    if survey.stereo:
        values[ScaleSource.RIG] = float(np.linalg.norm(survey.T_right_left[:3, 3]))
    if (speed := _median_speed(survey)) is not None:
        values[ScaleSource.POSES] = speed
    maps = [depth for i in survey.anchors if (depth := survey.depth(i)) is not None]
    if medians := [float(np.median(depth[depth > 0])) for depth in maps if (depth > 0).any()]:
        values[ScaleSource.DEPTH] = float(np.median(medians))
    return values


def _median_speed(survey: RecordingSurvey) -> float | None:
    """Return m/s over a dozen consecutive frames; 10 Hz is assumed where there are no timestamps."""
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


def find_scale_errors(survey: RecordingSurvey) -> list[ScaleError]:
    """Return the sources that are wrong; empty where all agree, or where there is only one and it is plausible."""
    values, comparisons = measure_scales(survey), compare_scales(survey)
    absurd = [source for source, value in values.items() if not PLAUSIBLE[source][0] <= value <= PLAUSIBLE[source][1]]
    found = [_make_error(source, comparisons, values, severe=True, sure=True) for source in absurd]
    sound = [c for c in comparisons if c.first not in absurd and c.second not in absurd]
    differing = [c for c in sound if c.deviation > _thresholds(c)[0]]
    if not differing:
        return found
    severe = any(c.deviation > _thresholds(c)[1] for c in differing)
    agreeing = {source for c in sound if c not in differing for source in (c.first, c.second)}
    disputed = {source for c in differing for source in (c.first, c.second)}
    odd = [source for source in ScaleSource if agreeing and source in disputed - agreeing]
    if odd:
        return found + [_make_error(source, sound, values, severe=severe, sure=True) for source in odd]
    return [*found, _find_likeliest(differing, values, severe=severe)]


def _thresholds(comparison: ScaleComparison) -> tuple[float, float]:
    """Return (warn, stop) for the deviation of a comparison."""
    has_rig = ScaleSource.RIG in (comparison.first, comparison.second)
    return (WARN_FROM, STOP_FROM) if has_rig else (WARN_FROM_LOOSE, STOP_FROM_LOOSE)


def _make_error(
    source: ScaleSource,
    comparisons: Sequence[ScaleComparison],
    values: dict[ScaleSource, float],
    *,
    severe: bool,
    sure: bool,
) -> ScaleError:
    """Return the error of a source; its factor is that of the most precise comparison."""
    against = tuple(c for c in comparisons if source in (c.first, c.second))
    best = min(against, key=lambda c: c.log_error, default=None)
    factor = None if best is None else best.ratio if best.first is source else 1 / best.ratio
    cause, fix = _find_known_mistake(source, factor)
    return ScaleError(source, factor, severe, sure, cause, fix, values.get(source, float("nan")), against)


def _find_known_mistake(source: ScaleSource, factor: float | None) -> tuple[str | None, str | None]:
    """Return (cause, fix) of the known mistake with this factor."""
    if factor is None:
        return None, None
    known, cause, fix = min(FINGERPRINTS[source], key=lambda entry: abs(np.log(factor / entry[0])))
    tolerance = FINGERPRINT_TOLERANCE if 0.2 < known < 5 else FINGERPRINT_TOLERANCE_LOOSE
    return (cause, fix) if abs(np.log(factor / known)) <= tolerance else (None, None)


def _find_likeliest(
    differing: Sequence[ScaleComparison], values: dict[ScaleSource, float], *, severe: bool
) -> ScaleError:
    """Choose between two sources that disagree: the one with a known mistake, else the most error-prone."""
    order = ScaleSource.POSES, ScaleSource.DEPTH, ScaleSource.RIG
    involved = [source for source in order if any(source in (c.first, c.second) for c in differing)]
    errors = {source: _make_error(source, differing, values, severe=severe, sure=False) for source in involved}
    known = next((error for error in errors.values() if error.cause is not None), None)
    if known is not None:
        return known
    far_off = max(c.deviation for c in differing) > np.log(MAX_CALIBRATION_ERROR)
    return errors[involved[0] if far_off or ScaleSource.RIG not in involved else ScaleSource.RIG]
