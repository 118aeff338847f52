"""Judge predictions: usable, not judged, doubtful or unusable, with findings; also the basis of metres."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from stadia.core.verdict import Verdict, find_worst
from stadia.geometry.cameras import FocalEstimate
from stadia.judge.catalog import Case, describe_case, make_finding
from stadia.judge.depth.depth_checks import (
    check_maps,
    describe_basis,
    explain_open_comparison,
    explain_usable_depth,
    is_compared,
    is_mapped,
)
from stadia.judge.depth.frame_measurements import MIN_FRAMES, MIN_IMAGE_CHANGE, MIN_MAPPED_FRAMES, FrameMeasurements
from stadia.judge.depth.training_record import TrainingRecord, check_training, describe_own_term
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import CAMERA_LIMITS
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

FALSE_ALARMS: Mapping[str, tuple[int, int]] = {"M34": (3, 57), "S30": (2, 57), **dict.fromkeys(("M30", "M31"), (0, 57))}
"""Number of clips with good depth that a finding doubted, and number of those clips, by its code.

Measured on videos of strangers, without a map, by benchmarks/clip_verdicts.py (docs/results/checks.md). M32 and M35 to
M37 need a map, and M33, M38 and T40 state facts; their rates are not measured.
"""


ASSUMED_CAMERA = "its focal length is assumed or uncertain; metres are wrong with another lens"

DEPTH_CODES = {"M30", "M31", "M34", "M35", "M36", "M37", "S30", "T40"}  # the training's data may cause them

OWN_TERM_CODES = {"M30", "M31", "M34", "M35", "M36", "M37", "S30"}  # a user's term may cause them
OUTPUT_CODES = OWN_TERM_CODES | {"M32", "M33"}  # have their own fix for a published network


def find_verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict that follows from findings about one question.

    It is unusable if one is a stop, otherwise doubtful if one is a warning, otherwise usable.
    """
    severities = {finding.severity for finding in findings}
    if Severity.STOP in severities:
        return Verdict.UNUSABLE
    if Severity.WARN in severities:
        return Verdict.DOUBTFUL
    return Verdict.USABLE


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
        findings += check_maps(measured, is_of_training=is_of_training, is_published=training.is_published)
    findings += check_training(training)
    findings += [] if camera_is_assumed else check_trained_camera(focal, training.focal, has_trained_frames)
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
        explain_usable_depth(measured) if is_judged else not_checked[deciding],
        describe_basis(measured),
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
            yield "S30", explain_open_comparison(measured)
        mapped = measured.mapped if is_mapped(measured) else None
        if mapped is not None and mapped.road_frames < MIN_MAPPED_FRAMES and mapped.hole_share is None:
            yield "M37", "the map has no road, and too few points"
    if training.steps is None and training.warped_over_unwarped is None:
        yield "T40", "no record of the training"


FOCAL_SIGMAS = 3.0  # standard deviations of an estimate


def check_focal_estimates(focal: float | None, focal_estimates: Sequence[FocalEstimate]) -> list[Finding]:
    """Return a warning (finding K31) for each independent estimate that contradicts the focal length of the camera.

    focal: fx / width of the camera; None if unknown, which gives no warning.
    focal_estimates: independently estimated focal lengths.
    """
    findings = []
    for estimate in focal_estimates if focal is not None and focal > 0 else ():
        assert focal is not None
        ratio = focal / estimate.focal
        most = CAMERA_LIMITS["estimated_ratio"].doubtful
        if abs(math.log(ratio)) <= max(math.log(most), FOCAL_SIGMAS * estimate.deviation):
            continue
        given_deg, estimated_deg = (math.degrees(2 * math.atan(0.5 / value)) for value in (focal, estimate.focal))
        text = f"a field of view of {given_deg:.0f} degrees is given (focal length {focal:.3g} of the width);"
        text += f" {estimate.source} gives {estimated_deg:.0f} degrees ({estimate.focal:.3g})"
        evidence = {"ratio": ratio, "given": focal, "estimated": estimate.focal, "deviation": estimate.deviation}
        expected = f"focal lengths within a factor of {most:g}"
        findings.append(make_finding("K31", Severity.WARN, text, expected, evidence=evidence))
    return findings


def check_trained_camera(focal: float | None, trained: Sequence[float], has_trained_frames: bool) -> Iterator[Finding]:
    """Report a field of view that differs from the training's (K30).

    The finding is a note, or a warning if frames of this input trained the network.
    """
    ratios = [focal / trained_focal for trained_focal in trained if trained_focal > 0] if focal is not None else []
    if focal is None or not ratios:
        return
    ratio = min(ratios, key=lambda ratio: abs(math.log(ratio)))
    if abs(math.log(ratio)) <= math.log(CAMERA_LIMITS["trained_ratio"].doubtful):
        return
    here, there = _field_of_view_deg(focal), _field_of_view_deg(focal / ratio)
    text = f"a field of view of {here:.0f} degrees, {there:.0f} in the training: depth was multiplied by {ratio:.2f}"
    evidence = {"ratio": ratio, "field_of_view_deg": here, "trained_deg": there}
    expected = f"focal lengths within a factor of {CAMERA_LIMITS['trained_ratio'].doubtful:g}"
    severity, case = (Severity.WARN, "trained_frames") if has_trained_frames else (Severity.NOTE, "")
    yield make_finding("K30", severity, text, expected, case=case, evidence=evidence)


def _field_of_view_deg(focal: float) -> float:
    return math.degrees(2 * math.atan(0.5 / focal))
