"""Judge predictions: usable, not judged, doubtful or unusable, with findings; also the basis of metres."""

import math
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from stadia.core.verdict import Verdict, find_worst
from stadia.judge.catalog import Case, describe_case, make_finding
from stadia.judge.depth.frame_measurements import (
    BEHIND,
    MAX_AUTO_MASKED,
    MIN_FRAMES,
    MIN_IMAGE_CHANGE,
    MIN_MAPPED_FRAMES,
    MIN_RELATIVE_RANGE,
    FrameMeasurements,
    PointMeasurements,
)
from stadia.judge.depth.pair_measurements import find_margin
from stadia.judge.depth.training_record import LEARNING_CODES, TrainingRecord
from stadia.judge.finding import Finding, Severity
from stadia.judge.questions import (
    CAMERA_AGREES,
    CAMERA_IS_UNCHECKED,
    METRES_ARE_UNCHECKED,
    NO_PATH,
    PATH_OF_DEPTH,
    QUESTION_OF_CODE,
    UNCHECKED_PATH,
    Question,
    QuestionVerdict,
)

MAX_ESTIMATED_RATIO = 1.2  # networks for the field of view err by 5 to 10 %
FOCAL_SIGMAS = 3.0  # standard deviations of an estimate


@dataclass(frozen=True, slots=True)
class FocalEstimate:
    """An estimate of the focal length that is independent of the given intrinsics.

    focal: estimated focal length divided by the width of the image, fx / width.
    source: origin of the estimate in messages.
    deviation: relative standard deviation of the estimate.
    """

    focal: float
    source: str
    deviation: float = 0.05


def check_focal_estimates(focal: float | None, focal_estimates: Sequence[FocalEstimate]) -> list[Finding]:
    """Return a warning (finding K31) for each independent estimate that contradicts the focal length of the camera.

    focal: fx / width of the camera; None if unknown, which gives no warning.
    focal_estimates: independently estimated focal lengths.
    """
    findings = []
    for estimate in focal_estimates if focal is not None and focal > 0 else ():
        assert focal is not None
        ratio = focal / estimate.focal
        if abs(math.log(ratio)) <= max(math.log(MAX_ESTIMATED_RATIO), FOCAL_SIGMAS * estimate.deviation):
            continue
        given_deg, estimated_deg = (math.degrees(2 * math.atan(0.5 / value)) for value in (focal, estimate.focal))
        text = f"a field of view of {given_deg:.0f} degrees is given (focal length {focal:.3g} of the width);"
        text += f" {estimate.source} gives {estimated_deg:.0f} degrees ({estimate.focal:.3g})"
        evidence = {"ratio": ratio, "given": focal, "estimated": estimate.focal, "deviation": estimate.deviation}
        expected = f"focal lengths within a factor of {MAX_ESTIMATED_RATIO:g}"
        findings.append(make_finding("K31", Severity.WARN, text, expected, evidence=evidence))
    return findings


MIN_SPREAD = 1.3  # 95 % over 5 % quantile of depth in an image; learned 5.2 to 11.6, else 1.0 to 1.2
MIN_CHANGE = 0.055
"""Smallest share of a map's variance that is not in the mean map, if the images differ."""

MIN_CHANGE_AT_ALL = 0.01
"""The same, below which one map is predicted for all images."""

MAX_MATCH_ERROR = 1.0
"""Largest error of matches over the error of constant depth: above, depth explains no motion.

Depth is usable only if the upper bound of the error is below.
"""

MAX_DOUBTFUL_MATCH_ERROR = 0.75
"""The same: above, depth explains little of the motion."""

GOOD_MATCH_ERROR = 0.6
"""The same: below, matches confirm the depth, and what single images suggest is only a note."""

MAX_BASELINE_ERROR = 0.95
"""Largest error of matches or points over the error of the row means, or of the mean map: above, depth adds nothing."""

MAX_MATCH_DEVIATION = 0.4
"""Largest standard deviation of the error of matches that judges depth."""

FALSE_ALARMS: Mapping[str, tuple[int, int]] = {"M34": (3, 57), "S30": (2, 57), **dict.fromkeys(("M30", "M31"), (0, 57))}
"""Number of clips with good depth that a finding doubted, and number of those clips, by its code.

Measured on videos of strangers, without a map, by benchmarks/clip_verdicts.py (docs/results/checks.md). M32 and M35 to
M37 need a map, and M33, M38 and T40 state facts; their rates are not measured.
"""

MIN_DEPTH_GAIN = 0.05  # required fall of the error, relative to the start; a fall of .01 was worse by LiDAR (KITTI raw)
MIN_JUDGED_MATCHES = 500
"""Fewest matches, over all pairs, of a comparison with constant depth.

A clip of a highway with 409, most of them on cars that overtake, contradicted right depth.
"""

BASELINE_DEVIATIONS = 2.0
"""An error over the row means, or the mean map, must exceed MAX_BASELINE_ERROR by this many standard deviations."""

MIN_CONFIRMING_MATCHES = 300
"""Fewest matches, over all pairs, that confirm depth: moving objects contradict right depth, but confirm no wrong one.
"""

MIN_JUDGED_PAIRS = 4  # pairs for a comparison with constant depth, row means or the mean map
MIN_CONFIRMING_PAIRS = 3
MAX_FRAMES_APART = 10  # frames of the input between two compared frames
MIN_SKY_SHARE = 0.5  # share of the frames with sky that is nearer than the lowest rows
# Ratio of two values of focal length over image width: this camera's and the training cameras'.
MAX_TRAINED_FOCAL_RATIO = 1.15

ASSUMED_CAMERA = "its focal length is assumed or uncertain; metres are wrong with another lens"

MAX_FINAL_WARP_RATIO = 0.9  # residual of training images over the unwarped one, at the end of the training
MAX_VALIDATION_WARP_RATIO = 1.2  # the same in validation; good .23 to .63, bad 2.2 and 2.8
MAX_FINAL_ROTATION_DEG = 10.0  # rotation to the next image; training runs have at most 1.9, useless paths 2 to 76
# Motion to the next image over depth; training runs have at most .09, useless paths from .99.
MAX_FINAL_MOTION_OVER_DEPTH = 0.5
MAX_POINT_ERROR = 0.95  # error of ln depth at a map's points over constant depth's: above, depth is useless
MAX_DOUBTFUL_POINT_ERROR = 0.75
MIN_POINT_CORRELATION = 0.3  # rank correlation with the depth of a map's points: below, depth is useless
MIN_DOUBTFUL_POINT_CORRELATION = 0.6
MAX_REGION_RATIO = 2.0  # ratio of the scales of left and right, by the points of a map: above, depth is useless
MAX_DOUBTFUL_REGION_RATIO = 1.55  # the limit also holds for the scales of near and far
MAX_BEHIND_ROAD = 0.03  # share of the road that is predicted behind it
MAX_ROAD_ERROR = 0.75  # error of ln depth on the road over constant depth
MAX_HOLE_SHARE = 0.045  # share of image parts that are predicted much too far; edges of depth may cause one of 30
MIN_TRAINED_STEPS = 100  # updates of a checkpoint
DEPTH_CODES = {"M30", "M31", "M34", "M35", "M36", "M37", "S30", "T40"}  # the training's data may cause them


OWN_TERM_CODES = {"M30", "M31", "M34", "M35", "M36", "M37", "S30"}  # a user's term may cause them
OUTPUT_CODES = OWN_TERM_CODES | {"M32", "M33"}  # have their own fix for a published network
MAX_NAMED_TERMS = 3


def find_verdict(findings: Iterable[Finding], *, is_judged: bool = True) -> Verdict:
    """Return the verdict that follows from findings: unusable if one is a stop, otherwise doubtful if one is a warning.

    Without either it is usable, or not judged.

    findings: findings about one question.
    is_judged: whether the deciding check could run.
    """
    severities = {finding.severity for finding in findings}
    if Severity.STOP in severities:
        return Verdict.UNUSABLE
    if Severity.WARN in severities:
        return Verdict.DOUBTFUL
    return Verdict.USABLE if is_judged else Verdict.NOT_JUDGED


def apply_findings(before: QuestionVerdict, findings: Iterable[Finding]) -> QuestionVerdict:
    """Return the verdict on a question after its findings: their verdict and reason if they are worse.

    before: the verdict without the findings.
    findings: the findings about the question, the worst first.
    """
    severe = [finding for finding in findings if finding.severity is not Severity.NOTE]
    verdict = find_verdict(severe)
    if not severe or not verdict.is_worse_than(before.verdict):
        return before
    main = next((finding for finding in severe if finding.severity is Severity.STOP), severe[0])
    reason = f"{main.code}: {main.measured}"
    if "false_alarms" in main.evidence:
        wrong, clips = main.evidence["false_alarms"], main.evidence["of_good_clips"]
        reason += f" (this was wrong for {wrong} of {clips} videos with good depth)"
    return QuestionVerdict(verdict, reason, before.basis)


def propagate_findings(
    verdicts: Mapping[Question, QuestionVerdict], findings: Sequence[Finding], *, has_learned_metres: bool = False
) -> dict[Question, QuestionVerdict]:
    """Apply the findings about scale and camera, then limit the verdict on the metres by camera and depth.

    A wrong scale or path never changes the verdict on the depth.

    verdicts: the verdict on each question; the verdict on the depth already includes its findings.
    findings: all findings, the worst first.
    has_learned_metres: whether the metres of a video are those that the network learned, and nothing measured them.
        They are usable only if the depth is: they were right in half of the videos whose depth is not judged.
    """
    completed = dict(verdicts)
    for question in (Question.SCALE, Question.CAMERA):
        about = [finding for finding in findings if QUESTION_OF_CODE.get(finding.code) is question]
        completed[question] = apply_findings(completed[question], about)
    causes = {
        Question.CAMERA: "metres are proportional to the focal length, which is",
        Question.DEPTH: "metres depend on the depth, which is",
    }
    for question, text in causes.items():
        scale, cause = completed[Question.SCALE], completed[question]
        is_judged = Verdict.NOT_JUDGED not in (cause.verdict, scale.verdict)
        if is_judged and cause.verdict.is_worse_than(scale.verdict):
            reason = f"{text} {cause.verdict} ({cause.reason})"
            completed[Question.SCALE] = QuestionVerdict(cause.verdict, reason, scale.basis)
    scale, depth = completed[Question.SCALE], completed[Question.DEPTH]
    if has_learned_metres and scale.verdict is Verdict.USABLE and depth.verdict is Verdict.NOT_JUDGED:
        reason = f"metres depend on the depth, which is not judged ({depth.reason}); {scale.reason}"
        completed[Question.SCALE] = QuestionVerdict(Verdict.NOT_JUDGED, reason, scale.basis)
    return completed


def find_overall_verdict(verdicts: Mapping[Question, QuestionVerdict], counted: Collection[Question]) -> Verdict:
    """Return the worst verdict on the questions that count.

    verdicts: the verdict on each question.
    counted: the questions that count.

    Example:
        >>> verdicts = {question: QuestionVerdict(Verdict.USABLE, "") for question in Question}
        >>> verdicts[Question.PATH] = QuestionVerdict(Verdict.UNUSABLE, "")
        >>> str(find_overall_verdict(verdicts, {Question.DEPTH, Question.SCALE}))
        'usable'
    """
    return find_worst(verdicts[question].verdict for question in counted)


@dataclass(frozen=True, slots=True)
class PredictionVerdict:
    """Hold the verdict on a prediction with its reasons.

    verdict: the worst verdict on the questions that count.
    findings: faults that the checks found, the worst first.
    measured: what was measured on the predicted maps; None if only the training was judged.
    not_checked: for each check that did not run, the reason by the code of its finding.
    verdicts: the verdict on each question.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    measured: FrameMeasurements | None
    not_checked: Mapping[str, str] = field(default_factory=dict)
    verdicts: Mapping[Question, QuestionVerdict] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "verdict": str(self.verdict),
            "questions": {question.value: asdict(verdict) for question, verdict in self.verdicts.items()},
            "findings": [finding.to_dict() for finding in self.findings],
            "measured": self.measured and asdict(self.measured),
            "not_checked": dict(self.not_checked),
        }


def judge_measurements(
    measured: FrameMeasurements | None,
    training: TrainingRecord,
    *,
    focal: float | None = None,
    focal_estimates: Sequence[FocalEstimate] = (),
    of_scale: Sequence[Finding] = (),
    camera_is_assumed: bool = False,
    is_of_training: bool = False,
    has_trained_frames: bool = False,
    unused_map: str = "",
    verdicts: Mapping[Question, QuestionVerdict] | None = None,
    counted: Collection[Question] = (),
    has_path_of_depth: bool = False,
    has_learned_metres: bool = False,
) -> PredictionVerdict:
    """Return the verdict on the predictions of an input, from measurements without ground truth.

    measured: measurements on predicted frames spread over the input (`measure_frames`); None to judge only the
        training.
    training: record of the network's training.
    focal: fx / width of the input's camera.
    focal_estimates: independent estimates of the focal length, by the network or by sources of scale.
    of_scale: findings about the measured scale (`check_scale_verdict`).
    camera_is_assumed: whether the input's camera is unknown, and `focal` is assumed.
    is_of_training: whether frames of this input, its recording or its session trained the network.
    has_trained_frames: whether frames of this input trained the network.
    unused_map: why the map next to the input cannot judge depth; "" if it can, or without a map.
    verdicts: verdicts on the scale, the path and the camera before the findings; a missing one is "not judged".
    counted: questions that count in the overall verdict, in addition to the depth and the questions with a warning.
    has_path_of_depth: whether the camera trajectory is computed from predicted depth.
    has_learned_metres: whether the metres of a video are those that the network learned, and nothing measured them.
    """
    findings: list[Finding] = []
    if measured is not None:
        findings += _check_maps(measured, is_of_training=is_of_training, is_published=training.is_published)
    findings += _check_training(training)
    findings += [] if camera_is_assumed else _check_camera(focal, training.focal, has_trained_frames)
    findings += [*(check_focal_estimates(focal, focal_estimates) if focal_estimates else ()), *of_scale]
    findings.sort(key=lambda finding: list(Severity).index(finding.severity))
    if training.recipe_class is not None and training.own_terms:
        own = describe_own_term(training.recipe_class, training.own_terms)
        findings = [_add_own_term(finding, own) if finding.code in OWN_TERM_CODES else finding for finding in findings]
    if training.is_published:
        findings = [_name_published(finding) if finding.code in OUTPUT_CODES else finding for finding in findings]
    findings = [*map(_state_false_alarms, findings)]
    severe = {finding.code for finding in findings if finding.severity is not Severity.NOTE}
    if severe & DEPTH_CODES:
        findings = [*map(_name_data_cause, training.data_causes), *findings]
    not_checked = dict(_list_unchecked(measured, training)) | ({"M35": unused_map} if unused_map else {})
    not_checked |= {"K30": ASSUMED_CAMERA} if camera_is_assumed else {}
    has_map = measured is not None and is_mapped(measured)
    deciding = "M35" if has_map else "S30" if measured is None or measured.has_ratios else "M31"
    of_depth = [finding for finding in findings if finding.code not in QUESTION_OF_CODE]
    is_judged = deciding not in not_checked
    if not is_judged and training.recorded_codes and find_verdict(of_depth) is not Verdict.UNUSABLE:
        recorded = _take_recorded_verdict(training)
        findings, of_depth = [recorded, *findings], [recorded, *of_depth]
    base = QuestionVerdict(
        Verdict.USABLE if is_judged else Verdict.NOT_JUDGED,
        _explain_usable_depth(measured) if is_judged else not_checked[deciding],
        _describe_basis(measured),
    )
    of_camera = CAMERA_AGREES if focal_estimates and focal is not None else CAMERA_IS_UNCHECKED
    of_camera = QuestionVerdict(Verdict.NOT_JUDGED, ASSUMED_CAMERA) if camera_is_assumed else of_camera
    depth = apply_findings(base, of_depth)
    all_verdicts = propagate_findings(
        {
            Question.DEPTH: depth,
            Question.SCALE: METRES_ARE_UNCHECKED,
            Question.PATH: _judge_path_of_depth(depth) if has_path_of_depth else NO_PATH,
            Question.CAMERA: of_camera,
            **(verdicts or {}),
        },
        findings,
        has_learned_metres=has_learned_metres,
    )
    found = {QUESTION_OF_CODE[code] for code in severe if code in QUESTION_OF_CODE}
    return PredictionVerdict(
        find_overall_verdict(all_verdicts, {Question.DEPTH, *counted, *found}),
        tuple(findings),
        measured,
        not_checked,
        all_verdicts,
    )


def _judge_path_of_depth(depth: QuestionVerdict) -> QuestionVerdict:
    """Return the verdict on a camera trajectory that is computed from depth: doubted with it, otherwise unchecked."""
    return UNCHECKED_PATH if depth.verdict is Verdict.USABLE else replace(depth, reason=PATH_OF_DEPTH)


def _state_false_alarms(finding: Finding) -> Finding:
    """Return a finding whose evidence states how often it was wrong, if this was measured."""
    if finding.code not in FALSE_ALARMS:
        return finding
    wrong, clips = FALSE_ALARMS[finding.code]
    return replace(finding, evidence={**finding.evidence, "false_alarms": wrong, "of_good_clips": clips})


def _take_recorded_verdict(training: TrainingRecord) -> Finding:
    """Return T40 for an input that cannot be judged if the network's validation frames were unusable."""
    codes = ", ".join(training.recorded_codes)
    text = f"this input cannot be judged, and the training's validation frames were unusable ({codes})"
    evidence = {"recorded_codes": training.recorded_codes}
    return make_finding("T40", Severity.STOP, text, "a training whose verdict is not unusable", evidence=evidence)


def describe_own_term(recipe_class: str, own_terms: Sequence[str]) -> Case:
    """Return cause and fix of useless depth for a user's class with its own loss terms."""
    columns = ", ".join(f"train/term/{name}" for name in own_terms[:MAX_NAMED_TERMS])
    columns += " ..." * (len(own_terms) > MAX_NAMED_TERMS)
    return describe_case("M30", "own_term", {"recipe_class": recipe_class, "columns": columns})


def _add_own_term(finding: Finding, own: Case) -> Finding:
    """Return a finding of depth with the user's term as another cause."""
    return replace(finding, cause=f"{own.cause}; or {finding.cause}", fix=f"{own.fix}; otherwise {finding.fix}")


def _name_published(finding: Finding) -> Finding:
    """Return a finding of depth with cause and fix for published weights."""
    case = describe_case(finding.code, "published", {})
    return replace(finding, cause=case.cause, fix=case.fix)


def _name_data_cause(finding: Finding) -> Finding:
    return replace(finding, severity=Severity.WARN, measured=f"in the training's data {finding.measured}")


def _list_unchecked(measured: FrameMeasurements | None, training: TrainingRecord) -> Iterator[tuple[str, str]]:
    """Yield code and reason of each check that could not run."""
    valid = 0 if measured is None else measured.frames - measured.invalid
    if measured is None or not valid:
        yield from dict.fromkeys(("M30", "M31", "S30"), "no frame with a valid map").items()
    else:
        if measured.change is None or measured.image_change is None:
            yield "M31", f"{valid} frame{'s' * (valid != 1)}; {MIN_FRAMES} are needed"
        elif measured.image_change <= MIN_IMAGE_CHANGE:
            yield "M31", f"the images change by {measured.image_change:.0%}; more than {MIN_IMAGE_CHANGE:.0%} is needed"
        if not measured.has_ratios:
            yield "S30", "affine inverse depth has no ratios"
        elif not is_compared(measured):
            yield "S30", _explain_open_comparison(measured)
        mapped = measured.mapped if is_mapped(measured) else None
        if mapped is not None and mapped.road_frames < MIN_MAPPED_FRAMES and mapped.hole_share is None:
            yield "M37", "the map has no road, and too few points"
    if training.steps is None and training.warped_over_unwarped is None:
        yield "T40", "no record of the training"


def _explain_open_comparison(measured: FrameMeasurements) -> str:
    """Return why the motion of matches decides nothing about the depth."""
    if measured.followed is not None and measured.followed < MIN_JUDGED_PAIRS:
        pairs = f"{measured.followed} pair{'s' * (measured.followed != 1)} of frames"
        apart = f"a predicted frame and one at most {MAX_FRAMES_APART} frames later"
        return f"{pairs} ({apart}); {MIN_JUDGED_PAIRS} are needed"
    if measured.match_pairs < MIN_JUDGED_PAIRS:
        pairs = f"{measured.match_pairs} pair{'s' * (measured.match_pairs != 1)} of frames"
        return f"{pairs} with enough parallax and matches; {MIN_JUDGED_PAIRS} are needed"
    if measured.matches < MIN_JUDGED_MATCHES:
        return f"{measured.matches} matches with enough parallax; {MIN_JUDGED_MATCHES} are needed"
    error = f"{measured.match_error:.2f} +- {measured.match_deviation:.2f} times the error of constant depth"
    return f"the error of matches is {error} in {measured.match_pairs} pairs, which decides nothing"


def _check_maps(measured: FrameMeasurements, *, is_of_training: bool, is_published: bool) -> Iterator[Finding]:
    if measured.invalid:
        text = f"{measured.invalid} of {measured.frames} maps have values that are not finite, or not positive"
        yield make_finding("M33", Severity.STOP, text, "0", evidence={"frames": measured.invalid})
    is_weak = measured.frames == 1 or _confirms_depth(measured)  # Then findings about single images are only notes.
    if _explains_little(measured, MAX_DOUBTFUL_MATCH_ERROR):
        yield _describe_match_error(measured, is_of_training=is_of_training)
    if measured.mapped is not None and is_mapped(measured):
        yield from _check_points(measured.mapped, is_contradicted=_confirms_depth(measured))
    if flat := _describe_flat(measured):
        evidence = {"spread": measured.spread, "relative_range": measured.relative_range, "map": measured.change}
        is_useless = _explains_little(measured, MAX_DOUBTFUL_MATCH_ERROR) or _ignores_images(measured)
        severity = Severity.NOTE if is_weak else Severity.stop_if(is_useless)  # one photo may show a wall
        yield make_finding("M30", severity, *flat, evidence=evidence)
    else:
        yield from _check_use_of_images(measured, is_published=is_published)
    has_road = measured.mapped is not None and measured.mapped.road_frames >= MIN_MAPPED_FRAMES
    if has_road and measured.sky_nearer is not None and measured.sky_nearer > MIN_SKY_SHARE:
        text = f"sky is nearer than the lowest rows in {measured.sky_nearer:.0%} of the frames that show sky"
        evidence = {"share": measured.sky_nearer}
        yield make_finding("M32", Severity.WARN, text, f"at most {MIN_SKY_SHARE:.0%}", evidence=evidence)


def is_compared(measured: FrameMeasurements) -> bool:
    """Return whether predicted depth was compared with the motion of matches in enough pairs for a verdict.

    It decides if its upper bound is below the error of constant depth, or its lower bound is doubtful. Fewer pairs and
    matches (MIN_CONFIRMING_PAIRS, MIN_CONFIRMING_MATCHES) decide if they confirm the depth.

    measured: what was measured on the predicted maps.
    """
    if (bounds := _find_bounds(measured)) is None:
        few = _find_bounds(measured, MIN_CONFIRMING_PAIRS, MIN_CONFIRMING_MATCHES)
        return few is not None and few[1] < GOOD_MATCH_ERROR
    return bounds[1] < MAX_MATCH_ERROR or bounds[0] > MAX_DOUBTFUL_MATCH_ERROR


def _find_bounds(
    measured: FrameMeasurements, pairs: int = MIN_JUDGED_PAIRS, matches: int = MIN_JUDGED_MATCHES
) -> tuple[float, float] | None:
    """Return the lower and the upper bound of the error of matches; None with fewer `pairs` or `matches`."""
    error, deviation = measured.match_error, measured.match_deviation or 0.0
    if error is None or deviation > MAX_MATCH_DEVIATION:
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
        return (measured.mapped.error or 0.0) <= MAX_DOUBTFUL_POINT_ERROR
    error = measured.match_error
    return error is not None and is_compared(measured) and error <= MAX_DOUBTFUL_MATCH_ERROR


def _describe_match_error(measured: FrameMeasurements, *, is_of_training: bool) -> Finding:
    error, deviation = measured.match_error or 0.0, measured.match_deviation or 0.0
    text = f"this depth explains the motion {error:.2f} +- {deviation:.2f} times as badly as constant depth"
    text += f" in {measured.match_pairs} pairs of frames"
    evidence = {"match_error": error, "deviation": deviation, "pairs": measured.match_pairs}
    severity = Severity.stop_if(_explains_little(measured, MAX_MATCH_ERROR))
    expected = f"at most {MAX_DOUBTFUL_MATCH_ERROR:g}; above {MAX_MATCH_ERROR:g} predictions are unusable"
    case = "own_data" if is_of_training else ""
    return make_finding("S30", severity, text, expected, case=case, evidence=evidence)


def is_mapped(measured: FrameMeasurements) -> bool:
    """Return whether predicted depth was compared with points of a map in enough video frames for a verdict.

    measured: what was measured on the predicted maps.
    """
    return measured.mapped is not None and measured.mapped.frames >= MIN_MAPPED_FRAMES


def _check_points(mapped: PointMeasurements, *, is_contradicted: bool) -> Iterator[Finding]:
    error, correlation = mapped.error or 0.0, 1.0 if mapped.correlation is None else mapped.correlation
    if error > MAX_DOUBTFUL_POINT_ERROR or correlation < MIN_DOUBTFUL_POINT_CORRELATION:
        text = f"at the points of the map the error is {error:.2f} times the error of constant depth, and the rank"
        text += f" correlation {correlation:.2f}, in {mapped.frames} frames"
        expected = f"at most {MAX_DOUBTFUL_POINT_ERROR:g}, and at least {MIN_DOUBTFUL_POINT_CORRELATION:g}"
        is_useless = error > MAX_POINT_ERROR or correlation < MIN_POINT_CORRELATION
        severity = Severity.stop_if(is_useless and not is_contradicted)
        text += "; matches confirm the depth, so the map may be wrong" * is_contradicted
        evidence = {"error": error, "correlation": correlation, "frames": mapped.frames, "points": mapped.points}
        yield make_finding("M35", severity, text, expected, evidence=evidence)
    ratios = {"right over left": mapped.side_ratio, "far over near": mapped.range_ratio}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    wrong = {name: ratio for name, ratio in known.items() if max(ratio, 1 / ratio) > MAX_DOUBTFUL_REGION_RATIO}
    if wrong:
        text = ", ".join(f"{name} {ratio:.2f}" for name, ratio in wrong.items()) + " times the map's points"
        side = known.get("right over left", 1.0)
        severity = Severity.stop_if(max(side, 1 / side) > MAX_REGION_RATIO)
        expected = f"within a factor of {MAX_DOUBTFUL_REGION_RATIO:g}"
        yield make_finding("M36", severity, text, expected, evidence=ratios)
    if mapped.road_frames >= MIN_MAPPED_FRAMES and (findings := [*_check_road(mapped)]):
        yield from findings
    elif mapped.hole_share is not None and mapped.hole_share > MAX_HOLE_SHARE:
        share = mapped.hole_share
        text = f"in {share:.0%} of the image parts, depth is more than {BEHIND:g} times the depth of the map's points"
        yield make_finding("M37", Severity.WARN, text, f"at most {MAX_HOLE_SHARE:.0%}", evidence={"hole_share": share})


def _check_road(mapped: PointMeasurements) -> Iterator[Finding]:
    behind, error, constant = mapped.behind_road or 0.0, mapped.road_error or 0.0, mapped.road_error_constant or 1.0
    evidence = {"behind_road": behind, "road_error": error, "road_error_constant": constant}
    if behind > MAX_BEHIND_ROAD:
        text = f"{behind:.1%} of the road's pixels are predicted behind the road"
        yield make_finding("M37", Severity.STOP, text, f"at most {MAX_BEHIND_ROAD:.0%}", evidence=evidence)
    elif error > MAX_ROAD_ERROR * constant:
        text = f"on the road the error is {error / max(constant, 1e-6):.2f} times the error of constant depth"
        yield make_finding("M37", Severity.WARN, text, f"at most {MAX_ROAD_ERROR:g}", evidence=evidence)


@dataclass(frozen=True, slots=True)
class _BaselineError:
    """The error of depth over the error of a baseline, with its deviation, and what was compared."""

    error: float
    deviation: float
    evidence: dict[str, Any]
    what: str

    @property
    def adds_nothing(self) -> bool:
        return self.error - BASELINE_DEVIATIONS * self.deviation > MAX_BASELINE_ERROR

    @property
    def adds_something(self) -> bool:
        return self.error + BASELINE_DEVIATIONS * self.deviation < MAX_BASELINE_ERROR


def _compare_with(measured: FrameMeasurements, baseline: str) -> _BaselineError | None:
    """Return the error over the row means ("row") or the mean map ("mean_map"); None if too little was compared."""
    error = getattr(measured.mapped, f"{baseline}_error") if is_mapped(measured) else None
    if error is not None and measured.mapped is not None:
        frames = measured.mapped.frames
        return _BaselineError(error, 0.0, {f"{baseline}_error": error, "frames": frames}, f"points in {frames} frames")
    error, pairs = getattr(measured, f"{baseline}_error"), getattr(measured, f"{baseline}_pairs")
    deviation = getattr(measured, f"{baseline}_deviation") or 0.0
    if error is None or pairs < MIN_JUDGED_PAIRS or deviation > MAX_MATCH_DEVIATION:
        return None
    evidence = {f"{baseline}_error": error, "deviation": deviation, "pairs": pairs}
    return _BaselineError(error, deviation, evidence, f"matches in {pairs} pairs of frames")


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
        yield make_finding("M31", severity, text, f"at most {MAX_BASELINE_ERROR:g}", evidence=over_mean.evidence)
    elif _ignores_images(measured):
        text = f"{measured.change:.1%} of a map's variance is not in the mean map, {measured.image_change:.0%} of the"
        evidence = {"map": measured.change, "image": measured.image_change}
        is_one_map = measured.change is not None and measured.change < MIN_CHANGE_AT_ALL
        follows = over_mean is not None and over_mean.adds_something
        follows |= _is_explained(measured) and (is_published or not is_one_map)
        severity = Severity.NOTE if follows else Severity.stop_if(is_one_map)
        yield make_finding("M31", severity, f"{text} images'", f"above {MIN_CHANGE:.1%}", evidence=evidence)
    if over_rows is not None and over_rows.adds_nothing:
        text = f"the error at the {over_rows.what} is {over_rows.error:.2f} times the error of the mean of each row"
        if measured.row_share is not None:
            text += f"; {measured.row_share:.0%} of a map's variance is between its rows"
        evidence = over_rows.evidence | {"row_share": measured.row_share}
        severity = Severity.NOTE if is_published else Severity.WARN
        yield make_finding("M34", severity, text, f"at most {MAX_BASELINE_ERROR:g}", evidence=evidence)


def _explain_usable_depth(measured: FrameMeasurements | None) -> str:
    """Return what speaks for depth that no check doubts."""
    if measured is None:
        return ""
    if measured.mapped is not None and is_mapped(measured):
        error = measured.mapped.error or 0.0
        return f"the error at the points of the map is {error:.2f} times the error of constant depth"
    if measured.match_error is not None:
        return f"the error of matches is {measured.match_error:.2f} times the error of constant depth"
    return "the maps differ as the images do"


def _describe_basis(measured: FrameMeasurements | None) -> str:
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
    if measured.spread is not None and measured.spread < MIN_SPREAD:
        text = f"the 95 % quantile of depth is {measured.spread:.2f} times the 5 % quantile, in the median image"
        return text, f"above {MIN_SPREAD:g}"
    if measured.relative_range is not None and measured.relative_range < MIN_RELATIVE_RANGE:
        text = f"the range of inverse depth is {measured.relative_range:.2g} of its largest value, in the median image"
        return text, f"above {MIN_RELATIVE_RANGE:g}"
    return None


def _ignores_images(measured: FrameMeasurements) -> bool:
    if measured.change is None or measured.image_change is None:
        return False
    return measured.image_change > MIN_IMAGE_CHANGE and measured.change < MIN_CHANGE


def _list_exceeded(training: TrainingRecord, *limits: tuple[str, float, str, str]) -> list[tuple[str, str]]:
    """Return measured and expected texts of each value above its limit."""
    values = ((getattr(training, name), most, measured, expected) for name, most, measured, expected in limits)
    return [
        (measured.format(value), f"at most {expected.format(most)}")
        for value, most, measured, expected in values
        if value is not None and value > most
    ]


# Values of `TrainingRecord`, the largest allowed, the measured and the expected text.
_OF_RESIDUAL = (
    ("warped_over_unwarped", MAX_FINAL_WARP_RATIO,
     "the residual of the training images ended at {:.2f} times the unwarped one",
     "{:g} times in the training"),
    ("validation_warped", MAX_VALIDATION_WARP_RATIO,
     "the residual of the validation images was {:.2f} times the unwarped one",
     "{:g} times in the validation"),
    ("auto_masked", MAX_AUTO_MASKED, "the auto-mask covered {:.0%} of the pixels", "{:.0%} of the pixels"),
)  # fmt: skip
_OF_MOTION = (
    ("turn_deg", MAX_FINAL_ROTATION_DEG,
     "the predicted rotation to the next image ended at {:.0f} degrees", "{:g} degrees"),
    ("motion_over_depth", MAX_FINAL_MOTION_OVER_DEPTH,
     "the predicted motion to the next image ended at {:.2g} times the depth", "{:g} times the depth"),
)  # fmt: skip


def _check_training(training: TrainingRecord) -> Iterator[Finding]:
    reasons: list[tuple[str, str]] = []  # measured, expected
    if training.steps is not None and training.steps + training.start_steps < MIN_TRAINED_STEPS:
        steps = _describe_steps(training.steps, training.trained_steps)
        reasons.append((steps, f"at least {MIN_TRAINED_STEPS} steps (thousands are usual)"))
    reasons += _list_exceeded(training, *_OF_MOTION)
    of_residual = _list_exceeded(training, *_OF_RESIDUAL)
    if codes := [code for code in training.codes if code in LEARNING_CODES]:
        of_residual.append((f"the training reported {', '.join(codes)}", f"a training without {' and '.join(codes)}"))
    has_gain = training.depth_gain is not None and training.depth_gain >= MIN_DEPTH_GAIN
    reasons += [] if has_gain else of_residual
    if training.unusable_codes:
        codes_text = ", ".join(training.unusable_codes)
        measured = f"these frames trained, and predictions of other frames were unusable ({codes_text})"
        reasons.append((measured, "validation frames that are not unusable"))
    severity = Severity.WARN if reasons else Severity.NOTE
    if has_gain and of_residual:  # measured depth decides; the rest is a note
        (first, *others), better = of_residual, f"depth fits points or matches {training.depth_gain:.0%} better, but "
        reasons += [(better + first[0], first[1]), *others]
    if training.is_worse_than_start:
        reasons.append(("the weights that it started from score better on validation frames", "a better score"))
    if reasons:
        unnamed = {"focal", "folder", "recipe", "recipe_class", "own_terms", "data_causes", "recorded_codes"}
        unnamed |= {"is_worse_than_start", "start_steps"}
        evidence = {
            name: value for name, value in asdict(training).items() if name not in unnamed and value is not None
        }
        measured, expected = ("; ".join(texts) for texts in zip(*reasons, strict=True))
        if training.other_checkpoint is not None:
            measured += f" (judged: {training.checkpoint}; the other checkpoint: {training.other_checkpoint})"
        case, values = _choose_case(training)
        yield make_finding("T40", severity, measured, expected, case=case, values=values, evidence=evidence)


def _choose_case(training: TrainingRecord) -> tuple[str, dict[str, object]]:
    has_lost_motion = (training.turn_deg or 0) > MAX_FINAL_ROTATION_DEG
    has_lost_motion |= (training.motion_over_depth or 0) > MAX_FINAL_MOTION_OVER_DEPTH
    if training.is_worse_than_start:
        return "worse_than_start", {}
    if has_lost_motion:
        return "lost_motion", {}
    if training.folder is None:
        return "", {}
    values: dict[str, object] = {
        "recipe": training.recipe or "RECIPE",
        "recipe_class": training.recipe_class,
        "run": shlex.quote(str(training.folder)),
        "config": shlex.quote(str(training.folder / "config.json")),
    }
    return ("longer_own_class" if training.recipe_class is not None else "longer"), values


def _describe_steps(steps: int, trained: int | None) -> str:
    if trained is not None and trained > steps:
        return f"best checkpoint: step {steps} of {trained}"
    return f"{steps} step{'s' * (steps != 1)}"


def _check_camera(focal: float | None, trained: Sequence[float], has_trained_frames: bool) -> Iterator[Finding]:
    """Report a field of view that differs from the training's (K30).

    The finding is a note, or a warning if frames of this input trained the network.
    """
    ratios = [focal / trained_focal for trained_focal in trained if trained_focal > 0] if focal is not None else []
    if focal is None or not ratios:
        return
    ratio = min(ratios, key=lambda ratio: abs(math.log(ratio)))
    if abs(math.log(ratio)) <= math.log(MAX_TRAINED_FOCAL_RATIO):
        return
    here, there = _field_of_view_deg(focal), _field_of_view_deg(focal / ratio)
    text = f"a field of view of {here:.0f} degrees, {there:.0f} in the training: depth was multiplied by {ratio:.2f}"
    evidence = {"ratio": ratio, "field_of_view_deg": here, "trained_deg": there}
    expected = f"focal lengths within a factor of {MAX_TRAINED_FOCAL_RATIO:g}"
    severity, case = (Severity.WARN, "trained_frames") if has_trained_frames else (Severity.NOTE, "")
    yield make_finding("K30", severity, text, expected, case=case, evidence=evidence)


def _field_of_view_deg(focal: float) -> float:
    return math.degrees(2 * math.atan(0.5 / focal))
