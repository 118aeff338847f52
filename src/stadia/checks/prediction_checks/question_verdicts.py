"""Answer each question about a prediction separately: the depth, its metres, the camera trajectory and the camera."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from stadia.checks.finding import Finding, Severity


class Verdict(StrEnum):
    """Name the verdict on a question about a prediction, or on the whole prediction.

    USABLE ("usable"): all checks passed.
    NOT_JUDGED ("not judged"): the deciding check could not run.
    DOUBTFUL ("doubtful"): a check warns.
    UNUSABLE ("unusable"): a check found that the prediction must not be used for this.
    """

    USABLE = "usable"
    NOT_JUDGED = "not judged"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"


WORST_FIRST = (Verdict.UNUSABLE, Verdict.DOUBTFUL, Verdict.NOT_JUDGED, Verdict.USABLE)
"""The verdicts in the order in which one hides the next in the overall verdict."""


class Question(StrEnum):
    """Name a question about a prediction; each has its own verdict.

    DEPTH ("depth"): are order and shape of the depth right, whatever its unit?
    SCALE ("scale"): are the metres right?
    PATH ("path"): is the camera trajectory right?
    CAMERA ("camera"): is the field of view right?
    """

    DEPTH = "depth"
    SCALE = "scale"
    PATH = "path"
    CAMERA = "camera"


QUESTION_OF_CODE: Mapping[str, Question] = {"M38": Question.SCALE, "K30": Question.CAMERA, "K31": Question.CAMERA}
"""The question that a finding is about, by the finding's code; other findings are about depth."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on one question.

    verdict: usable, not judged, doubtful or unusable.
    reason: why; never empty for "not judged".
    basis: what the verdict rests on, such as the number of frames, matches or points; "" if it rests on nothing.
    """

    verdict: Verdict
    reason: str
    basis: str = ""

    def to_json(self) -> dict[str, str]:
        """Return JSON values."""
        return {name: str(value) for name, value in asdict(self).items()}


DEPTH_IS_RELATIVE = Answer(Verdict.NOT_JUDGED, "depth is relative; pass a known length for metres (--scale-from)")
METRES_ARE_UNCHECKED = Answer(Verdict.NOT_JUDGED, "nothing in this input measures the network's metres")
PATH_OF_DEPTH = "it is computed from predicted depth"
UNCHECKED_PATH = Answer(Verdict.NOT_JUDGED, f"{PATH_OF_DEPTH}, and no map of the video checks it (`stadia map VIDEO`)")
NO_PATH = Answer(Verdict.NOT_JUDGED, "no camera trajectory was estimated")
CAMERA_IS_UNCHECKED = Answer(Verdict.NOT_JUDGED, "nothing in this input can be compared with the given camera")
CAMERA_AGREES = Answer(Verdict.USABLE, "independent estimates of the field of view agree with it")


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


def worsen_answer(answer: Answer, findings: Iterable[Finding]) -> Answer:
    """Return an answer with the verdict and the reason of findings about its question, if they are worse.

    answer: the answer without them.
    findings: the findings about its question, the worst first.
    """
    severe = [finding for finding in findings if finding.severity is not Severity.NOTE]
    verdict = find_verdict(severe)
    if not severe or WORST_FIRST.index(verdict) >= WORST_FIRST.index(answer.verdict):
        return answer
    main = next((finding for finding in severe if finding.severity is Severity.STOP), severe[0])
    reason = f"{main.code}: {main.measured}"
    if "false_alarms" in main.evidence:
        wrong, clips = main.evidence["false_alarms"], main.evidence["of_good_clips"]
        reason += f" (this was wrong for {wrong} of {clips} videos with good depth)"
    return Answer(verdict, reason, answer.basis)


def complete_answers(answers: Mapping[Question, Answer], findings: Sequence[Finding]) -> dict[Question, Answer]:
    """Return answers in which findings worsen scale and camera, and a wrong camera or wrong depth worsens the metres.

    A wrong scale or path never worsens the depth.

    answers: the answer to each question, in which findings about the depth count already.
    findings: all findings, the worst first.
    """
    completed = dict(answers)
    for question in (Question.SCALE, Question.CAMERA):
        about = [finding for finding in findings if QUESTION_OF_CODE.get(finding.code) is question]
        completed[question] = worsen_answer(completed[question], about)
    causes = {
        Question.CAMERA: "metres are proportional to the focal length, which is",
        Question.DEPTH: "metres are no better than the depth, which is",
    }
    for question, text in causes.items():
        scale, cause = completed[Question.SCALE], completed[question]
        is_worse = WORST_FIRST.index(cause.verdict) < WORST_FIRST.index(scale.verdict)
        if cause.verdict is not Verdict.NOT_JUDGED and scale.verdict is not Verdict.NOT_JUDGED and is_worse:
            reason = f"{text} {cause.verdict} ({cause.reason})"
            completed[Question.SCALE] = Answer(cause.verdict, reason, scale.basis)
    return completed


def find_overall_verdict(answers: Mapping[Question, Answer], asked: Collection[Question]) -> Verdict:
    """Return the worst verdict on the questions that were asked.

    "not judged" is worse than "usable", so that it is never hidden, and better than "doubtful", so that it hides no
    fault.

    answers: the answer to each question.
    asked: the questions that were asked.

    Example:
        >>> answers = {question: Answer(Verdict.USABLE, "") for question in Question}
        >>> answers[Question.PATH] = Answer(Verdict.UNUSABLE, "")
        >>> str(find_overall_verdict(answers, {Question.DEPTH, Question.SCALE}))
        'usable'
    """
    return min((answers[question].verdict for question in asked), key=WORST_FIRST.index)
