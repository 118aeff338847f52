"""The one sentence about how far to trust predicted depth, for terminals, pages and files. Does not import PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.judge.catalog import CATALOG
from stadia.judge.finding import Severity
from stadia.predict.networks import DEFAULT_NETWORK
from stadia.scale.depth_deviations import DepthDeviations

UNRELIABLE_PARTS = {
    "M32": "the depth of the sky",
    "M38": "their lengths in metres",
    **dict.fromkeys(("K30", "K31"), "their lengths, angles or points"),
}
"""What is unreliable about predictions if no warning is about their depth, by the finding's code.

M32: sky is nearer than the road. M38: metric scale is uncertain. K30: the camera differs from the training's. K31: the
    focal length contradicts the network or the scale.
"""

ANY_PART, ANY_OF_DEPTH = "their depth, ratios or path", "their depth or ratios"
"""What is unreliable because of any other finding (ANY_OF_DEPTH: if the path does not depend on depth)."""

UNFAMILIAR = "This scene is unlike those that the metres of base were measured on, so its depth is relative."
"""Text for an input unlike the ones that the metres of `base` were measured on: without a known length it has none."""


@dataclass(frozen=True)
class ExpectedError:
    """The error that users must expect of a prediction.

    network: name of the network on the page.
    network_error: mean relative error of the network's depth; None if it was not measured.
    depth: relative standard errors of depth by network and scale together; None if they were not measured.
    is_unfamiliar: whether the images are unlike the ones that the network's metres were measured on, so that metres are
        not claimed.
    is_doubtful: whether the images are rather unlike those, so that the error may be larger.
    is_photo: whether the input is one image, which cannot be checked.
    """

    network: str
    network_error: float | None
    depth: DepthDeviations | None
    is_unfamiliar: bool = False
    is_doubtful: bool = False
    is_photo: bool = False

    @property
    def deviation(self) -> float | None:
        """Return the relative standard deviation of the depth of a pixel; None if it was not measured."""
        return None if self.depth is None else self.depth.relative


@dataclass(frozen=True)
class Trust:
    """How far to trust a prediction.

    short: a few words, such as "± 31 %".
    text: one or more sentences with the same number, its condition, and the verdict.
    """

    short: str
    text: str


def describe_trust(
    depth_scale: DepthScale,
    checks: Mapping[str, Any] | None,
    error: ExpectedError | None = None,
    *,
    has_own_path: bool = False,
) -> Trust:
    """Return how far to trust predictions: one number, the standard deviation of their depth, and its conditions.

    depth_scale: kind of scale of the depth.
    checks: the verdict, as in predictions.json; None if nothing was checked.
    error: the expected error; None if it is unknown.
    has_own_path: whether a map gives the camera trajectory, so that it does not depend on the predictions.

    Examples:
        >>> describe_trust(DepthScale.METRES, None, ExpectedError("base", 0.2, DepthDeviations(0.2, 0.1))).text
        'Depths and lengths in metres have a standard deviation of 22 %.'
    """
    limits = _find_limits(checks or {}, is_photo=error is not None and error.is_photo, has_own_path=has_own_path)
    if limits.refuses_depth:
        return Trust("do not rely on it", " ".join(limits.sentences))
    short, first = _describe_error(depth_scale, error, limits)
    return Trust(short, " ".join([first, *limits.sentences]))


@dataclass(frozen=True)
class _Limits:
    """What the verdict on predictions says about their error.

    sentences: sentences that follow the one about the error.
    deviation: relative standard deviation of a doubtful scale; 0 if no finding is about it.
    is_doubtful: whether depth is doubtful, so that its error may be larger.
    refuses_depth: whether depth is unusable.
    """

    sentences: Sequence[str]
    deviation: float = 0.0
    is_doubtful: bool = False
    refuses_depth: bool = False


def _find_limits(checks: Mapping[str, Any], *, is_photo: bool, has_own_path: bool) -> _Limits:
    verdict, findings = checks.get("verdict"), checks.get("findings", ())
    severe = [finding for finding in findings if finding["severity"] != Severity.NOTE]
    codes, sentences = [finding["code"] for finding in severe], list[str]()
    deviation, is_doubtful, refuses_depth = 0.0, False, False
    if verdict == Verdict.NOT_JUDGED and is_photo:
        sentences.append("One photo cannot be checked; a video can, because its motion shows whether depth is right.")
    elif verdict == Verdict.NOT_JUDGED:
        sentences.append("These predictions could not be checked.")
    elif verdict == Verdict.USABLE and any(finding["code"] == "K30" for finding in findings):
        sentences.append("They are only right if the focal length of this camera is (K30).")
    elif verdict == Verdict.DOUBTFUL and codes == ["M38"]:
        deviation = severe[0]["evidence"]["deviation"]
        sentences.append("A second source has to confirm their scale (M38).")
    elif verdict in (Verdict.DOUBTFUL, Verdict.UNUSABLE):
        parts = [UNRELIABLE_PARTS.get(code, ANY_PART) for code in codes]
        is_doubtful = ANY_PART in parts
        refuses_depth = is_doubtful and verdict == Verdict.UNUSABLE
        affected = ANY_PART if is_doubtful else " and ".join(dict.fromkeys(parts))
        affected = affected.replace(ANY_PART, ANY_OF_DEPTH) if has_own_path else affected
        titles = "; ".join(CATALOG[code].title for code in dict.fromkeys(codes))
        sentences.append(f"Do not rely on {affected}, which is {verdict}: {titles} ({', '.join(codes)}).")
    if has_own_path:
        sentences.append("The path comes from the map and does not depend on them.")
    return _Limits(sentences, deviation, is_doubtful, refuses_depth)


def _describe_error(depth_scale: DepthScale, error: ExpectedError | None, limits: _Limits) -> tuple[str, str]:
    """Return the error in a few words, and in a sentence."""
    if depth_scale.is_affine:
        return "near and far only", "Near and far only: this network gives neither distances nor their ratios."
    if error is not None and error.is_unfamiliar and depth_scale is not DepthScale.METRES:
        return "unfamiliar scene: not in metres", f"{UNFAMILIAR} Set the scale by a length that you know."
    subject = "Depths and lengths in metres" if depth_scale is DepthScale.METRES else "Ratios of depths in an image"
    known = limits.deviation
    if error is not None and error.network_error is not None and error.deviation is not None:
        known = max(known, error.deviation)
    if not known:
        return "error unknown", f"{subject} have an unknown error: this network was not measured."
    number = f"{100 * known:.0f} %"
    text = f"{subject} have a standard deviation of {number}"
    if error is not None and error.is_doubtful:
        return f"± {number} or more: unusual scene", f"{text} or more: this scene is rather unusual."
    if limits.is_doubtful:
        return f"± {number} or more", f"{text} or more."
    if error is not None and error.network != DEFAULT_NETWORK:
        return f"± {number} in scenes like its training", f"{text} in scenes like this network's training data."
    return f"± {number}", f"{text}."
