"""The questions about a prediction or a result, and the verdict on one of them with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stadia.core.verdict import Verdict


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
