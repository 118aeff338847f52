"""Judge predicted depth by what was measured on it: matches, points of a map, and how it depends on the images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stadia.judge.catalog import make_finding
from stadia.judge.depth.frame_measurements import (
    BEHIND,
    MIN_IMAGE_CHANGE,
    MIN_MAPPED_FRAMES,
    MIN_RELATIVE_RANGE,
    RELATIVE_ERRORS,
    FrameMeasurements,
    PointMeasurements,
)
from stadia.judge.depth.pair_measurements import find_margin
from stadia.judge.error import Measured
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import DEPTH_LIMITS, POINT_LIMITS
from stadia.judge.purposes import list_good_for

GOOD_MATCH_ERROR = 0.6
"""The same: below, matches confirm the depth, and what single images suggest is only a note."""

BASELINE_DEVIATIONS = 2.0
"""An error over the row means, or the mean map, must exceed its limit by this many standard deviations."""

MIN_CONFIRMING_MATCHES = 300
"""Fewest matches, over all pairs, that confirm depth: moving objects contradict right depth, but confirm no wrong one.
"""

MIN_CONFIRMING_PAIRS = 3  # fewest pairs of frames that confirm depth

MAX_FRAMES_APART = 10  # frames of the input between two compared frames


def explain_open_comparison(measured: FrameMeasurements) -> str:
    """Return why the motion of matches decides nothing about the depth."""
    if measured.followed is not None and measured.followed < DEPTH_LIMITS["match_pairs"].not_judged:
        pairs = f"{measured.followed} pair{'s' * (measured.followed != 1)} of frames"
        apart = f"a predicted frame and one at most {MAX_FRAMES_APART} frames later"
        return f"{pairs} ({apart}); {DEPTH_LIMITS['match_pairs'].not_judged} are needed"
    if measured.match_pairs < DEPTH_LIMITS["match_pairs"].not_judged:
        pairs = f"{measured.match_pairs} pair{'s' * (measured.match_pairs != 1)} of frames"
        return f"{pairs} with enough parallax and matches; {DEPTH_LIMITS['match_pairs'].not_judged} are needed"
    if measured.matches < DEPTH_LIMITS["matches"].not_judged:
        return f"{measured.matches} matches with enough parallax; {DEPTH_LIMITS['matches'].not_judged} are needed"
    error = f"{measured.match_error:.2f} +- {measured.match_deviation:.2f} times the error of constant depth"
    return f"the error of matches is {error} in {measured.match_pairs} pairs, which decides nothing"


def check_maps(measured: FrameMeasurements, *, is_of_training: bool, is_published: bool) -> Iterator[Finding]:
    """Report faults of predicted maps: values, flatness, use of the image, and contradictions to matches or a map.

    measured: what was measured on the maps.
    is_of_training: whether frames of this input, its recording or its session trained the network.
    is_published: whether the weights are published ones.
    """
    if measured.invalid:
        text = f"{measured.invalid} of {measured.frames} maps have values that are not finite, or not positive"
        yield make_finding("M33", Severity.STOP, text, "0", evidence={"frames": measured.invalid})
    is_weak = measured.frames == 1 or _confirms_depth(measured)  # Then findings about single images are only notes.
    if _explains_little(measured, DEPTH_LIMITS["match_error"].doubtful):
        yield _describe_match_error(measured, is_of_training=is_of_training)
    if measured.mapped is not None and is_mapped(measured):
        yield from _check_points(measured.mapped, is_contradicted=_confirms_depth(measured))
    if flat := _describe_flat(measured):
        evidence = {"spread": measured.spread, "relative_range": measured.relative_range, "map": measured.change}
        is_useless = _explains_little(measured, DEPTH_LIMITS["match_error"].doubtful) or _ignores_images(measured)
        severity = Severity.NOTE if is_weak else Severity.stop_if(is_useless)  # one photo may show a wall
        yield make_finding("M30", severity, *flat, evidence=evidence)
    else:
        yield from _check_use_of_images(measured, is_published=is_published)
    has_road = measured.mapped is not None and measured.mapped.road_frames >= MIN_MAPPED_FRAMES
    if has_road and measured.sky_nearer is not None and measured.sky_nearer > DEPTH_LIMITS["sky_nearer"].doubtful:
        text = f"sky is nearer than the lowest rows in {measured.sky_nearer:.0%} of the frames that show sky"
        evidence = {"share": measured.sky_nearer}
        expected = f"at most {DEPTH_LIMITS['sky_nearer'].doubtful:.0%}"
        yield make_finding("M32", Severity.WARN, text, expected, evidence=evidence)


def is_compared(measured: FrameMeasurements) -> bool:
    """Return whether predicted depth was compared with the motion of matches in enough pairs for a verdict.

    It decides if its upper bound is below the error of constant depth, or its lower bound is doubtful. Fewer pairs and
    matches (MIN_CONFIRMING_PAIRS, MIN_CONFIRMING_MATCHES) decide if they confirm the depth.

    measured: what was measured on the predicted maps.
    """
    if (bounds := _find_bounds(measured)) is None:
        few = _find_bounds(measured, MIN_CONFIRMING_PAIRS, MIN_CONFIRMING_MATCHES)
        return few is not None and few[1] < GOOD_MATCH_ERROR
    return bounds[1] < DEPTH_LIMITS["match_error"].unusable or bounds[0] > DEPTH_LIMITS["match_error"].doubtful


def _find_bounds(
    measured: FrameMeasurements,
    pairs: float = DEPTH_LIMITS["match_pairs"].not_judged,
    matches: float = DEPTH_LIMITS["matches"].not_judged,
) -> tuple[float, float] | None:
    """Return the lower and the upper bound of the error of matches; None with fewer `pairs` or `matches`."""
    error, deviation = measured.match_error, measured.match_deviation or 0.0
    if error is None or deviation > DEPTH_LIMITS["match_deviation"].not_judged:
        return None
    if measured.match_pairs < pairs or measured.matches < matches:
        return None
    margin = find_margin(deviation, measured.match_pairs)
    return error - margin, error + margin


def _explains_little(measured: FrameMeasurements, most: float) -> bool:
    """Return whether the error of matches is above `most` by more than its margin."""
    bounds = _find_bounds(measured)
    return bounds is not None and bounds[0] > most


def _confirms_depth(measured: FrameMeasurements) -> bool:
    """Return whether matches confirm the depth, so that weaker evidence cannot condemn it."""
    bounds = _find_bounds(measured)
    return bounds is not None and bounds[1] < GOOD_MATCH_ERROR


def _is_explained(measured: FrameMeasurements) -> bool:
    """Return whether points of a map or matches agree with the depth, which may yet be one map for all images."""
    if measured.mapped is not None and is_mapped(measured):
        return (measured.mapped.error or 0.0) <= POINT_LIMITS["error"].doubtful
    error = measured.match_error
    return error is not None and is_compared(measured) and error <= DEPTH_LIMITS["match_error"].doubtful


def _describe_match_error(measured: FrameMeasurements, *, is_of_training: bool) -> Finding:
    error, deviation = measured.match_error or 0.0, measured.match_deviation or 0.0
    text = f"this depth explains the motion {error:.2f} +- {deviation:.2f} times as badly as constant depth"
    text += f" in {measured.match_pairs} pairs of frames"
    evidence = {"match_error": error, "deviation": deviation, "pairs": measured.match_pairs}
    severity = Severity.stop_if(_explains_little(measured, DEPTH_LIMITS["match_error"].unusable))
    limit = DEPTH_LIMITS["match_error"]
    expected = f"at most {limit.doubtful:g}; above {limit.unusable:g} predictions are unusable"
    case = "own_data" if is_of_training else ""
    return make_finding("S30", severity, text, expected, case=case, evidence=evidence)


def is_mapped(measured: FrameMeasurements) -> bool:
    """Return whether predicted depth was compared with points of a map in enough video frames for a verdict.

    measured: what was measured on the predicted maps.
    """
    return measured.mapped is not None and measured.mapped.frames >= MIN_MAPPED_FRAMES


def _check_points(mapped: PointMeasurements, *, is_contradicted: bool) -> Iterator[Finding]:
    error, correlation = mapped.error or 0.0, 1.0 if mapped.correlation is None else mapped.correlation
    relative, limits = mapped.relative_error or 0.0, POINT_LIMITS
    is_poor = error > limits["error"].doubtful or correlation < limits["correlation"].doubtful
    if is_poor or relative > limits["relative_error"].doubtful:
        text = f"depth is off by {relative:.0%} {_describe_parts(mapped)}, {error:.2f} times the error of constant"
        text += f" depth, and the rank correlation is {correlation:.2f}, in {mapped.frames} frames"
        expected = f"at most {limits['relative_error'].doubtful:.0%} as for navigation, {limits['error'].doubtful:g}"
        expected += f" times, and a correlation of at least {limits['correlation'].doubtful:g}"
        is_useless = error > limits["error"].unusable or correlation < limits["correlation"].unusable
        severity = Severity.stop_if(is_useless and not is_contradicted)
        text += "; matches confirm the depth, so the map may be wrong" * is_contradicted
        evidence = {"error": error, "correlation": correlation, "frames": mapped.frames, "points": mapped.points}
        evidence |= {name: getattr(mapped, name) for name in RELATIVE_ERRORS}
        yield make_finding("M35", severity, text, expected, evidence=evidence)
    ratios = {"right over left": mapped.side_ratio, "far over near": mapped.range_ratio}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    most = POINT_LIMITS["side_ratio"].doubtful
    wrong = {name: ratio for name, ratio in known.items() if max(ratio, 1 / ratio) > most}
    if wrong:
        text = ", ".join(f"{name} {ratio:.2f}" for name, ratio in wrong.items()) + " times the map's points"
        side = known.get("right over left", 1.0)
        severity = Severity.stop_if(max(side, 1 / side) > POINT_LIMITS["side_ratio"].unusable)
        expected = f"within a factor of {most:g}"
        yield make_finding("M36", severity, text, expected, evidence=ratios)
    if mapped.road_frames >= MIN_MAPPED_FRAMES and (findings := [*_check_road(mapped)]):
        yield from findings
    elif mapped.hole_share is not None and mapped.hole_share > POINT_LIMITS["hole_share"].doubtful:
        share = mapped.hole_share
        text = f"in {share:.0%} of the image parts, depth is more than {BEHIND:g} times the depth of the map's points"
        expected = f"at most {POINT_LIMITS['hole_share'].doubtful:.0%}"
        yield make_finding("M37", Severity.WARN, text, expected, evidence={"hole_share": share})


def _check_road(mapped: PointMeasurements) -> Iterator[Finding]:
    behind, error, constant = mapped.behind_road or 0.0, mapped.road_error or 0.0, mapped.road_error_constant or 1.0
    evidence = {"behind_road": behind, "road_error": error, "road_error_constant": constant}
    if behind > POINT_LIMITS["behind_road"].unusable:
        text = f"{behind:.1%} of the road's pixels are predicted behind the road"
        expected = f"at most {POINT_LIMITS['behind_road'].unusable:.0%}"
        yield make_finding("M37", Severity.STOP, text, expected, evidence=evidence)
    elif error > POINT_LIMITS["road_error"].doubtful * constant:
        text = f"on the road the error is {error / max(constant, 1e-6):.2f} times the error of constant depth"
        expected = f"at most {POINT_LIMITS['road_error'].doubtful:g}"
        yield make_finding("M37", Severity.WARN, text, expected, evidence=evidence)


@dataclass(frozen=True, slots=True)
class _BaselineError:
    """The error of depth over the error of a baseline, with its deviation, what was compared, and the limit."""

    error: float
    deviation: float
    evidence: dict[str, Any]
    what: str
    most: float

    @property
    def adds_nothing(self) -> bool:
        return self.error - BASELINE_DEVIATIONS * self.deviation > self.most

    @property
    def adds_something(self) -> bool:
        return self.error + BASELINE_DEVIATIONS * self.deviation < self.most


def _compare_with(measured: FrameMeasurements, baseline: str) -> _BaselineError | None:
    """Return the error over the row means ("row") or the mean map ("mean_map"); None if too little was compared."""
    most = DEPTH_LIMITS[f"{baseline}_error"].doubtful
    error = getattr(measured.mapped, f"{baseline}_error") if is_mapped(measured) else None
    if error is not None and measured.mapped is not None:
        frames = measured.mapped.frames
        evidence = {f"{baseline}_error": error, "frames": frames}
        return _BaselineError(error, 0.0, evidence, f"points in {frames} frames", most)
    error, pairs = getattr(measured, f"{baseline}_error"), getattr(measured, f"{baseline}_pairs")
    deviation = getattr(measured, f"{baseline}_deviation") or 0.0
    if (
        error is None
        or pairs < DEPTH_LIMITS["match_pairs"].not_judged
        or deviation > DEPTH_LIMITS["match_deviation"].not_judged
    ):
        return None
    evidence = {f"{baseline}_error": error, "deviation": deviation, "pairs": pairs}
    return _BaselineError(error, deviation, evidence, f"matches in {pairs} pairs of frames", most)


def _check_use_of_images(measured: FrameMeasurements, *, is_published: bool) -> Iterator[Finding]:
    """Report depth that hardly depends on the image: M31 if one map would suffice for all images, M34 if row means
    would.

    One map may be right for all frames of a straight road. A network of your own may also have learned only this map;
    a published network predicts others elsewhere, so matches that agree with its depth make M31 a note. M34 is a note
    for it: among videos of strangers it doubted two good depths, and found no bad one alone.
    """
    over_mean, over_rows = _compare_with(measured, "mean_map"), _compare_with(measured, "row")
    if over_mean is not None and over_mean.adds_nothing:
        text = f"the error at the {over_mean.what} is {over_mean.error:.2f} times the error of the mean map"
        is_same_road = _is_explained(measured) and (is_published or not _ignores_images(measured))
        severity = Severity.NOTE if is_same_road else Severity.WARN
        yield make_finding("M31", severity, text, f"at most {over_mean.most:g}", evidence=over_mean.evidence)
    elif _ignores_images(measured):
        text = f"{measured.change:.1%} of a map's variance is not in the mean map, {measured.image_change:.0%} of the"
        evidence = {"map": measured.change, "image": measured.image_change}
        is_one_map = measured.change is not None and measured.change < DEPTH_LIMITS["change"].unusable
        follows = over_mean is not None and over_mean.adds_something
        follows |= _is_explained(measured) and (is_published or not is_one_map)
        severity = Severity.NOTE if follows else Severity.stop_if(is_one_map)
        expected = f"above {DEPTH_LIMITS['change'].doubtful:.1%}"
        yield make_finding("M31", severity, f"{text} images'", expected, evidence=evidence)
    if over_rows is not None and over_rows.adds_nothing:
        text = f"the error at the {over_rows.what} is {over_rows.error:.2f} times the error of the mean of each row"
        if measured.row_share is not None:
            text += f"; {measured.row_share:.0%} of a map's variance is between its rows"
        evidence = over_rows.evidence | {"row_share": measured.row_share}
        severity = Severity.NOTE if is_published else Severity.WARN
        yield make_finding("M34", severity, text, f"at most {over_rows.most:g}", evidence=evidence)


def _describe_parts(mapped: PointMeasurements) -> str:
    """Return the relative errors of depth by distance and region, as text."""
    parts = {"near": mapped.near_error, "far": mapped.far_error, "left": mapped.left_error, "right": mapped.right_error}
    known = ", ".join(f"{name} {share:.0%}" for name, share in parts.items() if share is not None)
    return "at the points of the map" + f" ({known})" * bool(known)


def explain_usable_depth(measured: FrameMeasurements | None) -> str:
    """Return what speaks for depth that no check doubts."""
    if measured is None:
        return ""
    if measured.mapped is not None and is_mapped(measured):
        relative, error = measured.mapped.relative_error or 0.0, measured.mapped.error or 0.0
        good_for = list_good_for(Measured(relative, 0.0))
        return (
            f"off by {relative:.0%} {_describe_parts(measured.mapped)}: {good_for};"
            f" {error:.2f} times the error of constant depth"
        )
    if measured.match_error is not None:
        return f"the error of matches is {measured.match_error:.2f} times the error of constant depth"
    return "the maps differ as the images do"


def describe_basis(measured: FrameMeasurements | None) -> str:
    """Return how many frames, matches and points the verdict on depth rests on."""
    if measured is None:
        return ""
    parts = [f"{measured.frames} frame{'s' * (measured.frames != 1)}"]
    if measured.mapped is not None and is_mapped(measured):
        parts.append(f"{measured.mapped.points} points of the map in {measured.mapped.frames} frames")
    if measured.match_pairs:
        signal = f", {measured.match_signal_px:.1f} px of parallax" if measured.match_signal_px else ""
        parts.append(f"{measured.matches} matches in {measured.match_pairs} pairs{signal}")
    return "; ".join(parts)


def _describe_flat(measured: FrameMeasurements) -> tuple[str, str] | None:
    """Return what was measured and expected of nearly constant maps; None for others."""
    if measured.spread is not None and measured.spread < DEPTH_LIMITS["spread"].doubtful:
        text = f"the 95 % quantile of depth is {measured.spread:.2f} times the 5 % quantile, in the median image"
        return text, f"above {DEPTH_LIMITS['spread'].doubtful:g}"
    if measured.relative_range is not None and measured.relative_range < MIN_RELATIVE_RANGE:
        text = f"the range of inverse depth is {measured.relative_range:.2g} of its largest value, in the median image"
        return text, f"above {MIN_RELATIVE_RANGE:g}"
    return None


def _ignores_images(measured: FrameMeasurements) -> bool:
    if measured.change is None or measured.image_change is None:
        return False
    return measured.image_change > MIN_IMAGE_CHANGE and measured.change < DEPTH_LIMITS["change"].doubtful
