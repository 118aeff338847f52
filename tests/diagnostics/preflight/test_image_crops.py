"""A principal point off the center belongs to a crop or a wrong K: poses decide, and without them it is a warning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mutations.mutated_recording import Alone, Image, Mutated
from mutations.recordings import MUTATIONS

from stadia.core.recording import Recording
from stadia.core.types import Camera
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.intrinsics_checks import EpipolarComparison, compare_epipolar_lines
from stadia.diagnostics.preflight.preflight_runner import run_preflight
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey

CROPS = {  # shares that are cut off: top, bottom, left, right
    "a quarter below, as of Cityscapes": (0, 0.25, 0, 0),
    "all but the upper left": (0, 0.3, 0, 0.3),
    "the left half": (0, 0, 0.5, 0),
}


def cropped(shares: tuple[float, ...]) -> dict[str, Any]:
    """Changes that cut images and ground truth, and K with them."""

    def cut(height: int, width: int) -> tuple[int, int, int, int]:
        top, bottom, left, right = (
            int(share * side) for share, side in zip(shares, (height, height, width, width), strict=True)
        )
        return top, height - bottom, left, width - right

    def image(whole: Image) -> Image:
        top, bottom, left, right = cut(*whole.shape[:2])
        return whole[top:bottom, left:right].copy()

    def camera(whole: Camera) -> Camera:
        top, bottom, left, right = cut(whole.height, whole.width)
        offset = whole.K.new_tensor([[0, 0, left], [0, 0, top], [0, 0, 0]])
        return replace(whole, K=whole.K - offset, height=bottom - top, width=right - left)

    return {"image": image, "depth": image, "camera": camera}


def without_notes(recording: Recording) -> list[Finding]:
    return [finding for finding in run_preflight([recording]) if finding.severity is not Severity.NOTE]


@pytest.mark.slow
@pytest.mark.parametrize("shares", CROPS.values(), ids=CROPS)
def test_correct_crop_is_confirmed_by_poses(shares: tuple[float, ...], recording: Recording) -> None:
    assert without_notes(Mutated(recording, **cropped(shares))) == []


@pytest.mark.slow
@pytest.mark.parametrize("shares", CROPS.values(), ids=CROPS)
def test_correct_crop_without_poses_warns(shares: tuple[float, ...], recording: Recording) -> None:
    (finding,) = without_notes(Alone(recording, **cropped(shares)))
    assert finding.code in ("K03", "K04")
    assert finding.severity is Severity.WARN
    assert "the images are a crop and K is correct" in finding.cause
    assert finding.evidence["lines"] == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("K halved", Severity.WARN),
        ("a crop that was not subtracted", Severity.WARN),
        ("cx and cy exchanged", Severity.STOP),
    ],
)
def test_a_wrong_K_without_poses_stops_only_where_it_cannot_be(
    name: str, severity: Severity, recording: Recording
) -> None:
    (mutation,) = [mutation for mutation in MUTATIONS if mutation.name == name]
    (first, *_) = without_notes(Alone(mutation.apply(recording)))
    assert (first.code, first.severity) == (mutation.codes[0], severity)


def test_a_center_far_outside_the_image_stops_without_poses(recording: Recording) -> None:
    def away(camera: Camera) -> Camera:
        return replace(camera, K=camera.K + camera.K.new_tensor([[0, 0, camera.width], [0, 0, 0], [0, 0, 0]]))

    (first, *_) = without_notes(Alone(recording, camera=away))
    assert (first.code, first.severity) == ("K03", Severity.STOP)


@pytest.mark.parametrize(
    ("given", "others", "severity"),
    [
        (0.1, {"another": 1.0}, None),
        (1.0, {"another": 0.9}, Severity.WARN),
        (1.0, {"another": 2.0, "a third": 0.4}, Severity.STOP),
        (40.0, {"another": 9.0}, Severity.WARN),
        (np.inf, {}, Severity.WARN),
    ],
)
def test_epipolar_comparison_severities(given: float, others: dict[str, float], severity: Severity | None) -> None:
    assert EpipolarComparison(given, others).severity is severity


def test_poses_that_stand_still_confirm_no_K(recording: Recording) -> None:
    survey = RecordingSurvey(Mutated(recording, pose=lambda T: np.eye(4)))
    assert compare_epipolar_lines(survey, survey.K(0), {"the same": survey.K(0)}).others == {}
