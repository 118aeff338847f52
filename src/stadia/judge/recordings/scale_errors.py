"""Compare lengths by the stereo rig, the poses and the ground-truth depth, and find the wrong source.

The checks name a known mistake of the source, and decide between fx and the baseline.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from stadia.core.types import LEFT, RIGHT
from stadia.geometry.two_views import TwoViewMotion, estimate_metric_motion
from stadia.judge.catalog import CATALOG, describe_case, make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import RECORDING_LIMITS
from stadia.judge.plausible_lengths import (
    MAX_SPEED_M_PER_S,
    MIN_BASELINE_M,
    PLAUSIBLE_BASELINES_M,
    PLAUSIBLE_DEPTHS_M,
    suggest_baseline_units,
)
from stadia.judge.recordings.intrinsics_checks import KITTI_BASELINES_M, has_kitti_focal_length
from stadia.judge.recordings.recording_survey import BaselineAgreement, RecordingSurvey, Step
from stadia.judge.recordings.scale_comparison import (
    MIN_LENGTH_STEPS,
    LengthSource,
    ScaleComparison,
    compare_lengths,
    has_comparison,
    measure_length_ratio,
    measure_scales,
)

PLAUSIBLE = {  # baseline in metres, median speed in m/s, median depth in metres
    LengthSource.RIG: PLAUSIBLE_BASELINES_M,
    LengthSource.POSES: (0.0, MAX_SPEED_M_PER_S),
    LengthSource.DEPTH: PLAUSIBLE_DEPTHS_M,
}

MIN_SHOWN_WIDTH = 1e-3  # half of a printed interval over its end: exact data have no width


def is_absurd(source: LengthSource, value: float) -> bool:
    """Return whether a length is implausible."""
    low, high = PLAUSIBLE[source]
    return not low <= value <= high


def round_interval(low: float, high: float) -> tuple[float, float, int]:
    """Round an interval outwards to its significant digits; return them, too.

    Examples:
        >>> round_interval(0.5231, 0.5487)
        (0.52, 0.55, 2)
    """
    width = max((high - low) / 2, MIN_SHOWN_WIDTH * high)
    step = 10.0 ** math.floor(math.log10(width))
    digits = max(0, -round(math.log10(step)))
    return round(math.floor(low / step) * step, digits), round(math.ceil(high / step) * step, digits), digits


def format_interval(low: float, high: float) -> str:
    """Return `0.52 to 0.55`, rounded by `round_interval`."""
    low, high, digits = round_interval(low, high)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def list_agreements(baseline_m: float, comparisons: Sequence[ScaleComparison]) -> list[BaselineAgreement]:
    """Return what a baseline agrees with, within the threshold of E03."""
    agreements = []
    for comparison in comparisons:
        if (
            LengthSource.RIG in (comparison.first, comparison.second)
            and comparison.deviation <= RECORDING_LIMITS["length_by_rig"].doubtful
        ):
            log_ratio = comparison.log_factor_of(LengthSource.RIG)
            low, high = log_ratio - comparison.log_width, log_ratio + comparison.log_width
            agreements.append(
                BaselineAgreement(
                    baseline_m=baseline_m,
                    other=comparison.other_than(LengthSource.RIG),
                    low=math.exp(low),
                    high=math.exp(high),
                    count=comparison.count,
                    is_close=max(-low, high) < RECORDING_LIMITS["length_by_rig"].unusable,
                )
            )
    return agreements


CODES = {LengthSource.RIG: "E03", LengthSource.POSES: "E08", LengthSource.DEPTH: "D06"}
"""Findings of a wrong source. Their cases with a factor are known mistakes."""

FOCAL_MISTAKES = {"unrectified_K", "K_of_1242_at_512", "K_of_1242_at_640", "twice", "half"}
"""Mistakes of fx, which look like a wrong baseline: only fx times baseline is measured."""

MAX_MISTAKE_GAP = 0.03  # difference between the logs of a factor and of a known mistake
MAX_LARGE_MISTAKE_GAP = 0.1  # the same for factors above 5 or below 1 / 5, which are far apart
MAX_CALIBRATION_ERROR = 2.0  # largest factor by which a measured baseline without a known mistake is off
MIN_LOG_INTERVAL = 0.025  # half of the right baseline's interval; KITTI's calibration and poses differ by 0.006
MAX_FACTOR_GAP = 0.04  # difference between the logs of two equal factors, beyond their errors
MAX_DEPTH_FILE_GAP = 0.15  # tolerance of log factors by a wrong unit: motion by such depth is 10 % off
DEPTH_FILE_MISTAKES = ("millimetres_as_kitti", "kitti_as_millimetres", "kitti_png", "divided_twice")
"""Cases of D06 for a wrong unit of a depth file."""


@dataclass(frozen=True, slots=True)
class ScaleError:
    """`source` is `factor` times too long (None if nothing else measures it).

    severe: whether it is beyond the threshold for a stop.
    sure: whether a third source, or an absurd value, shows which one is wrong.
    mistake: case of the known mistake with this factor.
    against: the comparisons behind it.
    interval: smallest and largest possible factor.
    is_focal_right: for a rig, whether only its baseline is wrong.
    """

    source: LengthSource
    factor: float | None
    severe: bool
    sure: bool
    mistake: str
    value: float
    against: tuple[ScaleComparison, ...]
    interval: tuple[float, float] | None = None
    is_focal_right: bool = False


def find_known_mistake(source: LengthSource, factor: float | None, *, is_focal_right: bool = False) -> str:
    """Return the case of the known mistake with this factor, or "".

    is_focal_right: leave out fx mistakes.
    """
    if factor is None:
        return ""
    factors = {name: case.factor for name, case in CATALOG[CODES[source]].cases.items() if case.factor}
    if is_focal_right:
        factors = {name: known for name, known in factors.items() if name not in FOCAL_MISTAKES}
    nearest = min(factors, key=lambda name: abs(math.log(factor / factors[name])))
    max_gap = MAX_MISTAKE_GAP if 0.2 < factors[nearest] < 5 else MAX_LARGE_MISTAKE_GAP
    return nearest if abs(math.log(factor / factors[nearest])) <= max_gap else ""


def is_baseline_alone_wrong(survey: RecordingSurvey) -> bool:
    """Return whether both cameras have KITTI's fx, but not its baseline."""
    if not survey.stereo:
        return False
    cameras = [survey.recording.camera(survey.anchors[0], side) for side in (LEFT, RIGHT)]
    low, high = KITTI_BASELINES_M
    is_normal = low <= float(np.linalg.norm(survey.T_right_left[:3, 3])) <= high
    return not is_normal and all(has_kitti_focal_length(camera) for camera in cameras)


def check_scale(survey: RecordingSurvey, source: LengthSource, comparisons: Sequence[ScaleComparison]) -> list[Finding]:
    """Report a source of scale that is wrong: the rig (E03), the poses (E08) or the ground truth (D06).

    A rig is right if its interval contains the given length.
    """
    errors = [error for error in find_scale_errors(survey, comparisons) if error.source is source]
    if source is LengthSource.RIG:
        errors = [
            replace(error, interval=measure_interval(survey, error)) if error.factor else error for error in errors
        ]
        errors = [error for error in errors if is_absurd(source, error.value) or not _holds_given_length(error)]
    return [report_error(error) for error in errors]


def _holds_given_length(error: ScaleError) -> bool:
    return error.interval is not None and error.interval[0] <= 1 <= error.interval[1]


def measure_interval(survey: RecordingSurvey, error: ScaleError) -> tuple[float, float]:
    """Return the interval of the factor between the given and the true baseline of the rig, from more frames and near
    points.
    """
    sources, steps = {error.source, LengthSource.POSES}, []
    if any({c.first, c.second} == sources for c in error.against):
        steps = [*survey.steps, *survey.measure_steps_between()]
    by_all_points = [measure_length_ratio(step, step.by_rig) for step in steps]
    by_near_points = [measure_length_ratio(step, _measure_near_motion(survey, step)) for step in steps]
    measured = [
        compare_lengths(LengthSource.POSES, error.source, ratios, MIN_LENGTH_STEPS)
        for ratios in (by_all_points, by_near_points)
    ]
    ends = []
    for comparison in (*error.against, *measured):
        if comparison is not None:
            log_factor = comparison.log_factor_of(error.source)
            width = max(MIN_LOG_INTERVAL, comparison.log_width)
            ends += [log_factor - width, log_factor + width]
    return math.exp(min(ends)), math.exp(max(ends))


def _measure_near_motion(survey: RecordingSurvey, step: Step) -> TwoViewMotion | None:
    """Return the motion by the nearer half of the rig's points."""
    depth = step.rig_depth
    if depth is None or not (depth > 0).any():
        return None
    near = np.where(depth <= np.median(depth[depth > 0]), depth, 0.0)
    K, pixels = (survey.K(step.first), survey.K(step.second)), (step.matches.first_px, step.matches.second_px)
    return estimate_metric_motion(*pixels, near, *K, grain_px=step.grain_px)


def report_error(error: ScaleError) -> Finding:
    """Return the finding of a wrong source."""
    sources = [comparison.other_than(error.source) for comparison in error.against]
    others = " and ".join(f"the {source}" for source in sources)
    report = {LengthSource.RIG: _report_rig, LengthSource.POSES: _report_poses, LengthSource.DEPTH: _report_depth}
    finding = report[error.source](error, others)
    evidence = {
        **finding.evidence,
        "ratio of": [f"{error.source} / {source}" for source in sources],
        "median": [math.exp(comparison.log_factor_of(error.source)) for comparison in error.against],
        "measurements": [comparison.count for comparison in error.against],
        "culprit": "certain" if error.sure else "the most likely one; the data has no further evidence",
    }
    return replace(finding, severity=Severity.stop_if(error.severe), evidence=evidence)


def _report_rig(error: ScaleError, others: str) -> Finding:
    low, high = PLAUSIBLE[error.source]
    evidence: dict[str, object] = {"baseline_m": error.value}
    if error.factor is None:
        units = suggest_baseline_units(error.value)
        steps = [f"divide it by {error.value / metres:g} ({metres:.4g} m)" for _, metres in units]
        if len(units) > 1:
            steps = [f"{step} if it is in {unit}" for step, (unit, _) in zip(steps, units, strict=True)]
        values: dict[str, object] = {"units": " or ".join(unit for unit, _ in units), "steps": ", ".join(steps)}
        case = "other_unit" if units else "short" if MIN_BASELINE_M <= error.value < low else ""
        measured, expected = f"the baseline is {error.value:.4g} m", f"{low:g} to {high:g} m"
        return make_finding("E03", Severity.WARN, measured, expected, case=case, values=values, evidence=evidence)
    trusted = others if error.is_focal_right else f"fx and {others}"
    right = f"{error.value / error.factor:.3g} m"
    if error.interval is not None:
        low_factor, high_factor = error.interval
        evidence = {"factor": error.factor, "smallest_factor": low_factor, "largest_factor": high_factor, **evidence}
        right += f" ({format_interval(error.value / high_factor, error.value / low_factor)} m)"
    values = {"right": right, "trusted": trusted, "given": f"{error.value:.4g}", "others": others}
    case = "baseline_alone" if error.is_focal_right else "baseline_or_focal"
    if error.mistake:
        mistake = describe_case("E03", error.mistake, {})
        values |= {"mistake": mistake.cause, "mistake_fix": mistake.fix}
        case = "known_focal_mistake" if error.mistake in FOCAL_MISTAKES else "known_baseline_mistake"
    if error.is_focal_right:
        evidence["is_focal_right"] = True
    measured = f"fx times baseline is {error.factor:.3f} times what {others} give"
    expected = (
        f"1 within {RECORDING_LIMITS['length_by_rig'].doubtful:.0%}: a baseline of {right}, if {trusted} are right"
    )
    return make_finding("E03", Severity.WARN, measured, expected, case=case, values=values, evidence=evidence)


def _report_poses(error: ScaleError, others: str) -> Finding:
    evidence = {"median_speed_m_per_s": error.value}
    if error.factor is None:
        measured, expected = f"a median speed of {error.value:.3g} m/s", f"up to {MAX_SPEED_M_PER_S:g} m/s"
        return make_finding("E08", Severity.WARN, measured, expected, evidence=evidence)
    measured, expected = (
        f"motion by the poses is {error.factor:.4g} times longer than by {others}",
        "1 within the noise",
    )
    case, values = error.mistake or "factor", {"factor": f"{error.factor:.4g}"}
    return make_finding("E08", Severity.WARN, measured, expected, case=case, values=values, evidence=evidence)


def _report_depth(error: ScaleError, others: str) -> Finding:
    evidence = {"median_m": error.value}
    if error.factor is None:
        low, high = PLAUSIBLE[error.source]
        measured = f"a median depth of {error.value:.4g} m"
        return make_finding("D06", Severity.WARN, measured, f"{low:g} to {high:g} m", evidence=evidence)
    measured = f"ground truth is {error.factor:.4g} times longer than {others} give (its median is {error.value:.4g} m)"
    case, values, expected = error.mistake or "factor", {"factor": f"{error.factor:.4g}"}, "1 within the noise"
    return make_finding("D06", Severity.WARN, measured, expected, case=case, values=values, evidence=evidence)


def find_scale_errors(survey: RecordingSurvey, comparisons: Sequence[ScaleComparison]) -> list[ScaleError]:
    """Return the wrong sources; empty if all agree, or if the only one is plausible."""
    values = measure_scales(survey)
    absurd = [source for source, value in values.items() if is_absurd(source, value)]
    is_focal_right = LengthSource.RIG in values and is_baseline_alone_wrong(survey)
    make_error = partial(_make_error, values=values, is_focal_right=is_focal_right)
    contradicted = {source for c in comparisons if c.deviation > _thresholds(c)[0] for source in (c.first, c.second)}
    is_short = LengthSource.RIG in absurd and values[LengthSource.RIG] >= MIN_BASELINE_M
    is_short = is_short and values[LengthSource.RIG] < PLAUSIBLE_BASELINES_M[0] and LengthSource.RIG not in contradicted
    if is_short and has_comparison(comparisons, LengthSource.RIG):
        absurd.remove(LengthSource.RIG)  # poses or ground truth confirm it
    certain = [source for source in absurd if not (is_short and source is LengthSource.RIG)]
    errors = [make_error(source, comparisons, severe=source in certain, sure=source in certain) for source in absurd]
    sound = [c for c in comparisons if c.first not in absurd and c.second not in absurd]
    differing = [c for c in sound if c.deviation > _thresholds(c)[0]]
    if not differing:
        return errors
    severe = any(c.deviation > _thresholds(c)[1] for c in differing)
    agreeing = {source for c in sound if c not in differing for source in (c.first, c.second)}
    disputed = {source for c in differing for source in (c.first, c.second)}
    odd = [source for source in LengthSource if agreeing and source in disputed - agreeing]
    if odd:
        return errors + [make_error(source, sound, severe=severe, sure=True) for source in odd]
    return [*errors, _find_likeliest(differing, partial(make_error, severe=severe, sure=False))]


def _thresholds(comparison: ScaleComparison) -> tuple[float, float]:
    """Return (warn, stop) for the deviation of a comparison."""
    has_rig = LengthSource.RIG in (comparison.first, comparison.second)
    return (
        (RECORDING_LIMITS["length_by_rig"].doubtful, RECORDING_LIMITS["length_by_rig"].unusable)
        if has_rig
        else (RECORDING_LIMITS["length"].doubtful, RECORDING_LIMITS["length"].unusable)
    )


def _make_error(
    source: LengthSource,
    comparisons: Sequence[ScaleComparison],
    *,
    values: dict[LengthSource, float],
    is_focal_right: bool,
    severe: bool,
    sure: bool,
) -> ScaleError:
    """Return the error of a source, with the factor of the most precise comparison."""
    against = tuple(c for c in comparisons if source in (c.first, c.second))
    best = min(against, key=lambda c: c.log_error, default=None)
    factor = None if best is None else math.exp(best.log_factor_of(source))
    is_focal_right = is_focal_right and source is LengthSource.RIG
    return ScaleError(
        source=source,
        factor=factor,
        severe=severe,
        sure=sure,
        mistake=find_known_mistake(source, factor, is_focal_right=is_focal_right),
        value=values.get(source, float("nan")),
        against=against,
        is_focal_right=is_focal_right,
    )


def _find_likeliest(
    differing: Sequence[ScaleComparison], make_error: Callable[[LengthSource, Sequence[ScaleComparison]], ScaleError]
) -> ScaleError:
    """Choose between two sources that disagree: the one with a known mistake, otherwise the most error-prone."""
    order = LengthSource.POSES, LengthSource.DEPTH, LengthSource.RIG
    involved = [source for source in order if any(source in (c.first, c.second) for c in differing)]
    errors = {source: make_error(source, differing) for source in involved}
    if LengthSource.RIG not in involved and (depth := errors.get(LengthSource.DEPTH)) is not None:
        mistake = _find_depth_file_mistake(depth.factor)
        if mistake and not errors[LengthSource.POSES].mistake:
            return replace(depth, mistake=mistake)
    known = next((error for error in errors.values() if error.mistake or error.is_focal_right), None)
    if known is not None:
        return known
    far_off = max(c.deviation for c in differing) > np.log(MAX_CALIBRATION_ERROR)
    return errors[involved[0] if far_off or LengthSource.RIG not in involved else LengthSource.RIG]


def _find_depth_file_mistake(factor: float | None) -> str:
    """Return the case of D06 for a wrong unit of depth files with about this factor; empty without one."""
    if factor is None:
        return ""
    gaps = {
        name: abs(math.log(factor / known))
        for name in DEPTH_FILE_MISTAKES
        if (known := CATALOG["D06"].cases[name].factor) is not None
    }
    nearest = min(gaps, key=lambda name: gaps[name])
    return nearest if gaps[nearest] <= MAX_DEPTH_FILE_GAP else ""


# -- fx and the baseline: only their product is measured.

RANK = {Severity.STOP: 0, Severity.WARN: 1, Severity.NOTE: 2}


def explain_baseline_by_focal(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings of one rig, with one fix if both fx (K04, K06) and fx times baseline (E03) are off.

    If both are off by one factor, fx alone is wrong: it gets E03's severity. Otherwise fx must be corrected first.
    """
    severe = [finding for finding in findings if finding.severity is not Severity.NOTE]
    focals = [finding for finding in severe if finding.code in ("K04", "K06") and "focal_factor" in finding.evidence]
    rigs = [finding for finding in severe if finding.code == "E03" and "factor" in finding.evidence]
    if not focals or not rigs:
        return list(findings)
    focal = min(focals, key=_log_error)
    errors = [_log_error(focal) + _log_error(rig) + MAX_FACTOR_GAP for rig in rigs]
    is_one_factor = all(_log_gap(focal, rig) <= error for rig, error in zip(rigs, errors, strict=True))
    if is_one_factor and max(errors) <= RECORDING_LIMITS["length_by_rig"].unusable:
        changed = _settle_by_focal(focal, focals, rigs)
    else:
        case = "same_focal_factor" if is_one_factor else "other_focal_factor"
        changed = {id(rig): _change_case(rig, case, focal) for rig in rigs}
    return [changed.get(id(finding), finding) for finding in findings]


def _settle_by_focal(focal: Finding, focals: Sequence[Finding], rigs: Sequence[Finding]) -> dict[int, Finding]:
    """Return changed findings by the id of each one, if fx alone is wrong."""
    severity = min((finding.severity for finding in (*focals, *rigs)), key=RANK.__getitem__)
    also = f"; fx times baseline is off by the same factor, {_factor(rigs[0]):.2f}"
    changed = {id(rig): replace(_change_case(rig, "focal_alone", focal), severity=Severity.NOTE) for rig in rigs}
    for finding in focals:
        if _log_gap(focal, finding) <= _log_error(focal) + _log_error(finding) + MAX_FACTOR_GAP:
            changed[id(finding)] = replace(finding, severity=severity, measured=finding.measured + also)
    return changed


def _change_case(rig: Finding, case: str, focal: Finding) -> Finding:
    values = {
        "factor": f"{_factor(focal):.2f}",
        "code": focal.code,
        "baseline": f"{rig.evidence['baseline_m']:.4g}",
        "also": "" if rig.evidence.get("is_focal_right") else f": {rig.cause}",
    }
    chosen = describe_case("E03", case, values)
    return replace(rig, cause=chosen.cause, fix=chosen.fix)


def _factor(finding: Finding) -> float:
    return float(finding.evidence["factor" if finding.code == "E03" else "focal_factor"])


def _log_gap(first: Finding, second: Finding) -> float:
    return abs(math.log(_factor(first) / _factor(second)))


def _log_error(finding: Finding) -> float:
    """Return the error of the log of the factor; 0 for K04, which the image size determines."""
    if finding.code == "E03":
        return math.log(finding.evidence["largest_factor"] / finding.evidence["smallest_factor"]) / 2
    return float(finding.evidence.get("log_error", 0.0))
