"""Define the verdict on each question about a prediction: the depth, its metres, the camera trajectory, the camera."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The verdict on one question about a prediction, or on the whole prediction.

    USABLE ("usable"): all checks passed.
    NOT_JUDGED ("not judged"): the deciding check could not run.
    DOUBTFUL ("doubtful"): a check warns.
    UNUSABLE ("unusable"): a check found that the prediction must not be used for this question.
    """

    USABLE = "usable"
    NOT_JUDGED = "not judged"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"


WORST_FIRST = (Verdict.UNUSABLE, Verdict.DOUBTFUL, Verdict.NOT_JUDGED, Verdict.USABLE)
"""The verdicts, the worst first. The overall verdict is the first one that any question has."""


class Question(StrEnum):
    """A question about a prediction. Each question has its own verdict.

    DEPTH ("depth"): are order and shape of the depth right in any unit?
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
class QuestionVerdict:
    """The verdict on one question, with its reason.

    verdict: usable, not judged, doubtful or unusable.
    reason: the reason; never empty for "not judged".
    basis: the evidence, such as the number of frames, matches or points; "" without evidence.
    """

    verdict: Verdict
    reason: str
    basis: str = ""


DEPTH_IS_RELATIVE = QuestionVerdict(
    Verdict.NOT_JUDGED, "depth is relative; pass a known length for metres (--scale-from)"
)
METRES_ARE_UNCHECKED = QuestionVerdict(Verdict.NOT_JUDGED, "nothing in this input measures the network's metres")
PATH_OF_DEPTH = "it is computed from predicted depth"
UNCHECKED_PATH = QuestionVerdict(
    Verdict.NOT_JUDGED, f"{PATH_OF_DEPTH}, and no map of the video checks it (`stadia map VIDEO`)"
)
NO_PATH = QuestionVerdict(Verdict.NOT_JUDGED, "no camera trajectory was estimated")
CAMERA_IS_UNCHECKED = QuestionVerdict(Verdict.NOT_JUDGED, "nothing in this input can be compared with the given camera")
CAMERA_AGREES = QuestionVerdict(Verdict.USABLE, "independent estimates of the field of view agree with it")
