"""Compare lengths by the stereo rig, the poses and the ground-truth depth, and find the wrong one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.kitti_rig import is_baseline_alone_wrong
from stadia.diagnostics.preflight.recording_survey import BaselineAgreement, RecordingSurvey, Step, sample_depth
from stadia.diagnostics.preflight.scale_mistakes import (
    INTRINSICS_MISTAKES,
    PLAUSIBLE_BASELINES_M,
    ScaleSource,
    find_baseline_unit,
    find_known_mistake,
)
from stadia.diagnostics.preflight.two_view_geometry import Array, TwoViewMotion, angle_deg, estimate_metric_motion


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
    def log_width(self) -> float:
        """Half of the 95 % interval of log(ratio): Student's t, which is wide for few measurements."""
        from scipy.special import stdtrit  # slow to import

        return float(stdtrit(self.count - 1, 0.975)) * self.log_error

    @property
    def deviation(self) -> float:
        """|log ratio| beyond its interval."""
        return max(0.0, abs(float(np.log(self.ratio))) - self.log_width)


WARN_FROM, STOP_FROM = 0.05, 0.08
"""Deviations (of log ratio) where the rig takes part. See `docs/reference/findings.md` for what clean data shows."""

WARN_FROM_LOOSE, STOP_FROM_LOOSE = 0.15, 0.30
"""Deviations between poses and ground-truth depth: both are measured by other sensors, with errors of their own."""

PLAUSIBLE = {ScaleSource.RIG: PLAUSIBLE_BASELINES_M, ScaleSource.POSES: (0.0, 80.0), ScaleSource.DEPTH: (0.1, 300.0)}
"""Plausible ranges: baseline in metres, median speed in m/s, median depth in metres."""

MAX_CALIBRATION_ERROR = 2.0
"""A measured baseline is off by at most this factor, except by a known mistake; poses without a unit by any."""

MAX_ANGLE_DEG, MIN_PARALLAX_PX = 30.0, 3.0
"""Of a motion whose length is compared: between its direction by poses and by images, and its displacement."""

MIN_STEPS, MIN_POINTS, MIN_RIG_POINTS = 2, 30, 40
"""Steps, points, or points with the depth of the rig, that a comparison needs."""

MIN_RANK, MAX_SPREAD, MAX_BEND = 0.8, 0.10, 0.10

ASSUMED_INTERVAL_S = 0.1

FOCAL_IS_RIGHT = "fx fits these images, whose fields of view are those of KITTI; the baseline is wrong"

MIN_SHOWN_WIDTH = 1e-3
"""Half of the width of an interval that is printed, over its end. Points of one image are not independent, and exact
data (made images) have none.
"""

MIN_LOG_INTERVAL = 0.025
"""Of the right baseline, to each side. KITTI's calibrated baseline and poses differ by 0.6 % (0.3 to 2.1 % by step)."""


@dataclass(frozen=True, slots=True)
class ScaleError:
    """`source` is `factor` times too long (None where nothing else measures it).

    severe: beyond the threshold for a stop.  sure: a third source, or an absurd value, shows which one is wrong.
    cause, fix: of the known mistake with this factor, else None.  against: the comparisons behind it.
    interval: smallest and largest factor that the measurements carry.
    is_focal_right: of a rig, whether fx fits the images, so that the baseline alone is wrong.
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
    is_focal_right: bool = False


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
            f"1 within {WARN_FROM:.0%}: a baseline of {{right}}, if {{trusted}} are right",
        ),
        "compare the baseline and its unit with the calibration, in metres: it is {right} if {trusted} are right, not"
        " {value:.4g} m",
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


def check_scale(survey: RecordingSurvey, source: ScaleSource, comparisons: Sequence[ScaleComparison]) -> list[Finding]:
    """Return E03, E08 or D06 where this source is wrong. comparisons: of `compare_scales`.

    The interval of a rig decides and is reported: where it holds the given length, nothing is wrong.
    """
    found = [error for error in find_scale_errors(survey, comparisons) if error.source is source]
    if source is ScaleSource.RIG:
        found = [replace(e, interval=measure_interval(survey, e)) if e.factor else e for e in found]
        found = [e for e in found if is_absurd(source, e.value) or not _holds_given_length(e)]
    return [_report_error(error) for error in found]


def is_absurd(source: ScaleSource, value: float) -> bool:
    """Return whether a length is wrong by itself, whatever the other sources give."""
    low, high = PLAUSIBLE[source]
    return not low <= value <= high


def _holds_given_length(error: ScaleError) -> bool:
    return error.interval is not None and error.interval[0] <= 1 <= error.interval[1]


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
        width = max(MIN_LOG_INTERVAL, c.log_width)
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
    """Return `0.52 to 0.55`: rounded outwards to the digits that the width carries, to a thousandth at least."""
    width = max((high - low) / 2, MIN_SHOWN_WIDTH * high)
    step = 10.0 ** math.floor(math.log10(width))
    digits = max(0, -round(math.log10(step)))
    return f"{math.floor(low / step) * step:.{digits}f} to {math.ceil(high / step) * step:.{digits}f}"


def _report_error(error: ScaleError) -> Finding:
    source, (low, high), texts = error.source, PLAUSIBLE[error.source], TEXTS[error.source]
    others = " and ".join(f"the {c.second if c.first is source else c.first}" for c in error.against)
    trusted = others if error.is_focal_right else f"fx and {others}"
    values = {"value": error.value, "low": low, "high": high, "others": others, "trusted": trusted}
    if error.factor is not None:
        low_factor, high_factor = error.interval or (error.factor, error.factor)
        ends = format_interval(error.value / high_factor, error.value / low_factor) if error.interval else ""
        right = f"{error.value / error.factor:.3g} m ({ends} m)"
        values |= {"factor": error.factor, "right": right}
    measured, expected = (text.format(**values) for text in (texts.compared if error.factor else texts.alone))
    fix = texts.fix.format(**values) if error.factor else None
    if error.interval:
        fix = _order_fixes(error, fix or "", others)
    elif error.fix:
        fix = error.fix
    factors: dict[str, float] = {}
    if error.factor is not None and error.interval:
        factors = {"factor": error.factor, "smallest_factor": error.interval[0], "largest_factor": error.interval[1]}
    evidence = {
        **factors,
        texts.value_name: error.value,
        "ratio of": [f"{source} / {c.second if c.first is source else c.first}" for c in error.against],
        "median": [c.ratio if c.first is source else 1 / c.ratio for c in error.against],
        "measurements": [c.count for c in error.against],
        "culprit": "certain" if error.sure else "the most likely one; the data hold no further evidence",
    }
    severity = Severity.stop_if(error.severe)
    return make_finding(texts.code, severity, measured, expected, cause=error.cause, fix=fix, evidence=evidence)


def _order_fixes(error: ScaleError, baseline: str, others: str) -> str:
    """Return the fixes of a rig, the likeliest first: a mistake of the baseline, the calibration, then fx."""
    if error.fix is None and error.is_focal_right:
        return baseline
    if error.fix is None:
        focal = "K06 reports an fx that is far off, from the rotation of the camera"
        tape = f"a distance measured with a tape shows an error of {others}"
        return f"{baseline}; if the calibration has {error.value:.4g} m, check fx and {others}: {focal}; {tape}"
    if any(error.cause == cause for _, cause, _ in INTRINSICS_MISTAKES):
        return f"{baseline}; if the calibration has {error.value:.4g} m, {error.fix}"
    return f"{error.fix}; {baseline}"


def has_comparison(comparisons: Sequence[ScaleComparison], source: ScaleSource) -> bool:
    """Return whether another source measures the same lengths."""
    return any(source in (c.first, c.second) for c in comparisons)


def list_agreements(baseline_m: float, comparisons: Sequence[ScaleComparison]) -> list[BaselineAgreement]:
    """Return what a baseline agrees with, within the threshold of E03. comparisons: of `compare_scales`."""
    found = []
    for one in comparisons:
        if ScaleSource.RIG in (one.first, one.second) and one.deviation <= WARN_FROM:
            is_first = one.first is ScaleSource.RIG
            log_ratio = math.log(one.ratio) * (1 if is_first else -1)
            low, high = log_ratio - one.log_width, log_ratio + one.log_width
            other, is_close = one.second if is_first else one.first, max(-low, high) < STOP_FROM
            found.append(BaselineAgreement(baseline_m, other, math.exp(low), math.exp(high), one.count, is_close))
    return found


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
    from scipy.stats import spearmanr  # slow to import

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


def find_scale_errors(survey: RecordingSurvey, comparisons: Sequence[ScaleComparison]) -> list[ScaleError]:
    """Return the sources that are wrong; empty where all agree, or where there is only one and it is plausible.

    comparisons: of `compare_scales`.
    """
    values = measure_scales(survey)
    absurd = [source for source, value in values.items() if is_absurd(source, value)]
    is_focal_right = ScaleSource.RIG in values and is_baseline_alone_wrong(survey)
    make_error = partial(_make_error, values=values, is_focal_right=is_focal_right)
    found = [make_error(source, comparisons, severe=True, sure=True) for source in absurd]
    sound = [c for c in comparisons if c.first not in absurd and c.second not in absurd]
    differing = [c for c in sound if c.deviation > _thresholds(c)[0]]
    if not differing:
        return found
    severe = any(c.deviation > _thresholds(c)[1] for c in differing)
    agreeing = {source for c in sound if c not in differing for source in (c.first, c.second)}
    disputed = {source for c in differing for source in (c.first, c.second)}
    odd = [source for source in ScaleSource if agreeing and source in disputed - agreeing]
    if odd:
        return found + [make_error(source, sound, severe=severe, sure=True) for source in odd]
    return [*found, _find_likeliest(differing, partial(make_error, severe=severe, sure=False))]


def _thresholds(comparison: ScaleComparison) -> tuple[float, float]:
    """Return (warn, stop) for the deviation of a comparison."""
    has_rig = ScaleSource.RIG in (comparison.first, comparison.second)
    return (WARN_FROM, STOP_FROM) if has_rig else (WARN_FROM_LOOSE, STOP_FROM_LOOSE)


def _make_error(
    source: ScaleSource,
    comparisons: Sequence[ScaleComparison],
    *,
    values: dict[ScaleSource, float],
    is_focal_right: bool,
    severe: bool,
    sure: bool,
) -> ScaleError:
    """Return the error of a source; its factor is that of the most precise comparison."""
    against = tuple(c for c in comparisons if source in (c.first, c.second))
    best = min(against, key=lambda c: c.log_error, default=None)
    factor = None if best is None else best.ratio if best.first is source else 1 / best.ratio
    is_focal_right = is_focal_right and source is ScaleSource.RIG
    cause, fix = find_known_mistake(source, factor, is_focal_right=is_focal_right)
    if source is ScaleSource.RIG and factor is None:
        cause, fix = find_baseline_unit(values[source])
    if is_focal_right and cause is None:
        cause = FOCAL_IS_RIGHT
    value = values.get(source, float("nan"))
    return ScaleError(source, factor, severe, sure, cause, fix, value, against, is_focal_right=is_focal_right)


def _find_likeliest(
    differing: Sequence[ScaleComparison], make_error: Callable[[ScaleSource, Sequence[ScaleComparison]], ScaleError]
) -> ScaleError:
    """Choose between two sources that disagree: the one with a known mistake, else the most error-prone."""
    order = ScaleSource.POSES, ScaleSource.DEPTH, ScaleSource.RIG
    involved = [source for source in order if any(source in (c.first, c.second) for c in differing)]
    errors = {source: make_error(source, differing) for source in involved}
    known = next((error for error in errors.values() if error.cause is not None), None)
    if known is not None:
        return known
    far_off = max(c.deviation for c in differing) > np.log(MAX_CALIBRATION_ERROR)
    return errors[involved[0] if far_off or ScaleSource.RIG not in involved else ScaleSource.RIG]
