"""Judge predictions: usable, doubtful or unusable, with findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.prediction_checks.frame_measurements import (
    MIN_IMAGE_CHANGE,
    FrameMeasurements,
    SampledFrame,
    measure_frames,
)
from stadia.diagnostics.prediction_checks.training_record import LEARNING_CODES, TrainingRecord

MIN_SPREAD = 1.3
"""Of depth within an image, the 95 % over the 5 % quantile."""

MIN_CHANGE = 0.055
"""Share of a map's variance that is not in the mean map, where the images change by MIN_IMAGE_CHANGE."""

MAX_MATCH_ERROR, MAX_DOUBTFUL_MATCH_ERROR = 0.95, 0.85
"""Of the error of constant depth: above the first depth explains no motion, above the second hardly any."""

MIN_SKY_SHARE = 0.5
"""Of the frames with sky, in which it is nearer than the lowest rows."""

MAX_FOCAL_RATIO = 1.15
"""Between this camera's focal length over its image width and that of the training."""

MAX_WARP_RATIO = 0.9
"""Of the residual over that of the unwarped images, at the end of the training."""

MAX_AUTO_MASKED = 0.75
MIN_STEPS = 100


class Verdict(StrEnum):
    """usable: nothing speaks against it. doubtful: a check warns. unusable: a check found that depth means nothing."""

    USABLE = "usable"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class PredictionVerdict:
    """The verdict with its findings, worst first, and what was measured."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    measured: FrameMeasurements | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        found = [finding.to_dict() for finding in self.findings]
        return {"verdict": str(self.verdict), "findings": found, "measured": self.measured and asdict(self.measured)}


def judge_predictions(
    frames: Sequence[SampledFrame], training: TrainingRecord, *, has_ratios: bool = True, focal: float | None = None
) -> PredictionVerdict:
    """Return the verdict on predictions.

    Args:
        frames: predicted frames spread over the input; empty to judge the training alone.
        training: what is known of the training.
        has_ratios: False for inverse depth up to scale and shift.
        focal: fx / width of the input's camera.
    """
    measured = measure_frames(frames, has_ratios=has_ratios) if frames else None
    return judge_measurements(measured, training, focal=focal)


def judge_measurements(
    measured: FrameMeasurements | None, training: TrainingRecord, *, focal: float | None = None
) -> PredictionVerdict:
    """Return the verdict on what was measured. Arguments are those of `judge_predictions`."""
    found = [*_check_maps(measured)] if measured is not None else []
    found += [*_check_training(training), *_check_camera(focal, training.focal)]
    found.sort(key=lambda finding: finding.severity is not Severity.STOP)
    worst = found[0].severity if found else None
    verdict = {None: Verdict.USABLE, Severity.STOP: Verdict.UNUSABLE}.get(worst, Verdict.DOUBTFUL)
    return PredictionVerdict(verdict, tuple(found), measured)


def _check_maps(measured: FrameMeasurements) -> Iterator[Finding]:
    """M30, M31, M32 and S30."""
    if measured.spread is not None and measured.spread < MIN_SPREAD:
        text = f"the 95 % quantile of depth is {measured.spread:.2f} times the 5 % quantile, in the median image"
        yield make_finding("M30", Severity.STOP, text, f"above {MIN_SPREAD:g}", evidence={"spread": measured.spread})
    elif _ignores_images(measured):
        text = f"{measured.change:.1%} of a map differs from the mean of all maps, {measured.image_change:.0%} of the"
        evidence = {"map": measured.change, "image": measured.image_change}
        yield make_finding("M31", Severity.STOP, f"{text} images", f"above {MIN_CHANGE:.0%}", evidence=evidence)
    if measured.sky_nearer is not None and measured.sky_nearer > MIN_SKY_SHARE:
        text = f"sky is nearer than the lowest rows in {measured.sky_nearer:.0%} of the frames that show sky"
        evidence = {"share": measured.sky_nearer}
        yield make_finding("M32", Severity.WARN, text, f"at most {MIN_SKY_SHARE:.0%}", evidence=evidence)
    if measured.match_error is not None and measured.match_error > MAX_DOUBTFUL_MATCH_ERROR:
        text = f"matches are {measured.match_error:.2f} times as far from this depth as from constant depth"
        evidence = {"match_error": measured.match_error, "pairs": measured.match_pairs}
        severity = Severity.stop_if(measured.match_error > MAX_MATCH_ERROR)
        yield make_finding("S30", severity, text, f"at most {MAX_DOUBTFUL_MATCH_ERROR:g}", evidence=evidence)


def _ignores_images(measured: FrameMeasurements) -> bool:
    if measured.change is None or measured.image_change is None:
        return False
    return measured.image_change > MIN_IMAGE_CHANGE and measured.change < MIN_CHANGE


def _check_training(training: TrainingRecord) -> Iterator[Finding]:
    """T40: the record of the training shows that little was learned."""
    reasons = []
    if training.steps is not None and training.steps < MIN_STEPS:
        reasons.append(f"{training.steps} step{'s' * (training.steps != 1)}")
    if (warped := training.warped_over_unwarped) is not None and warped > MAX_WARP_RATIO:
        reasons.append(f"the residual ended at {warped:.2f} times that of the unwarped images")
    if (masked := training.auto_masked) is not None and masked > MAX_AUTO_MASKED:
        reasons.append(f"the auto-mask held {masked:.0%} of the pixels")
    if codes := [code for code in training.codes if code in LEARNING_CODES]:
        reasons.append(f"the training reported {', '.join(codes)}")
    if reasons:
        expected = (
            f"at least {MIN_STEPS} steps (thousands are usual), a residual below {MAX_WARP_RATIO:g} times that of the"
            " unwarped images, no finding"
        )
        evidence = {name: value for name, value in asdict(training).items() if name != "focal" and value is not None}
        yield make_finding("T40", Severity.WARN, "; ".join(reasons), expected, evidence=evidence)


def _check_camera(focal: float | None, trained: Sequence[float]) -> Iterator[Finding]:
    """K30: another field of view than in the training."""
    known = [one for one in trained if one > 0]
    if focal is None or not known:
        return
    ratio = min((focal / one for one in known), key=lambda one: abs(math.log(one)))
    if abs(math.log(ratio)) <= math.log(MAX_FOCAL_RATIO):
        return
    here, there = _field_of_view_deg(focal), _field_of_view_deg(focal / ratio)
    text = f"a field of view of {here:.0f} degrees, {there:.0f} in the training: depth is multiplied by {ratio:.2f}"
    evidence = {"ratio": ratio, "field_of_view_deg": here, "trained_deg": there}
    expected = f"focal lengths within a factor of {MAX_FOCAL_RATIO:g}"
    yield make_finding("K30", Severity.WARN, text, expected, evidence=evidence)


def _field_of_view_deg(focal: float) -> float:
    """Return the horizontal field of view of fx / width."""
    return math.degrees(2 * math.atan(0.5 / focal))
