"""Rotation is taken away exactly, and D18 tells a camera that turns from one that moves little."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mutations.all_mutations import roadworld
from mutations.mutated_recording import Alone, Turning

from stadia.core.recording import Recording
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.finding import Severity
from stadia.diagnostics.preflight.parallax_checks import check_parallax, estimate_rotation, rotation_residuals_px
from stadia.diagnostics.preflight.recording_survey import NotChecked, RecordingSurvey

K = np.array([[185.0, 0, 159.5], [0, 185, 47.5], [0, 0, 1]])


def test_a_rotation_is_found_whatever_a_third_of_the_points_do() -> None:
    random = np.random.default_rng(0)
    R = cv2.Rodrigues(np.radians([2.0, -6, 1]))[0]
    first = random.uniform((0, 0), (320, 96), (300, 2))
    turned = np.column_stack([first, np.ones(300)]) @ np.linalg.inv(K).T @ R.T @ K.T
    second = turned[:, :2] / turned[:, 2:]
    second[:100] += random.uniform(3, 20, (100, 2))
    found = estimate_rotation(first, second, K)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
    assert np.degrees(np.arccos((np.trace(found @ R.T) - 1) / 2)) < 0.05
    assert np.median(rotation_residuals_px(first, second, K, found)[100:]) < 0.2


class Slowed(Alone):
    """Each image eight times in a row, as of a camera that is eight times as slow."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording, frame=lambda i: i // 8, depth_frame=lambda i: i // 8)

    def __len__(self) -> int:
        return 8 * super().__len__()


@pytest.mark.slow
def test_a_camera_that_turns_is_told() -> None:
    (found,) = check_parallax(RecordingSurvey(Turning(roadworld())))
    assert (found.code, found.severity) == ("D18", Severity.WARN)
    assert found.cause.startswith("the camera mostly turns")
    assert "data.stride" not in found.fix, "what it measures is noise, which no stride makes parallax"
    assert "beyond rotation at 320 px width" in found.measured


@pytest.mark.real
def test_a_hand_held_camera_that_also_moves_is_told_a_stride(real_data: Path) -> None:
    (kitchen,) = open_recordings(real_data / "sevenscenes" / "kitchen")
    (found,) = check_parallax(RecordingSurvey(kitchen))
    assert found.cause.startswith("the camera mostly turns")
    assert re.search(r"data\.stride=\d+, in steps of these frames, gives up to \d\.\d px of parallax", found.fix)


@pytest.mark.slow
def test_a_camera_that_moves_little_is_told_another_cause() -> None:
    (found,) = check_parallax(RecordingSurvey(Slowed(roadworld())))
    assert (found.code, found.severity) == ("D18", Severity.NOTE), "ground truth could supervise it"
    assert found.cause == "the camera moves little between two frames"
    assert found.fix.startswith("take frames that lie farther apart (data.stride=auto")


@pytest.mark.slow
def test_a_camera_that_moves_is_not_told() -> None:
    assert list(check_parallax(RecordingSurvey(Alone(roadworld())))) == []
    assert list(check_parallax(RecordingSurvey(roadworld()))) == [], "a stereo pair has parallax at any speed"


@pytest.mark.slow
def test_one_camera_of_a_pair_that_trains_alone_needs_parallax() -> None:
    """`data.stereo=false`: the stereo partner is there, and no source of the training."""
    turning = Turning(roadworld(), alone=False)
    assert list(check_parallax(RecordingSurvey(turning))) == []
    (found,) = check_parallax(RecordingSurvey(turning, one_camera=True))
    assert (found.code, found.severity) == ("D18", Severity.WARN)
    assert found.fix.startswith("train with the stereo pairs (data.stereo=true)")
    assert list(check_parallax(RecordingSurvey(roadworld(), one_camera=True))) == []


def test_without_matches_nothing_is_measured() -> None:
    gray = Alone(roadworld(), image=lambda image: np.full_like(image, 90))
    with pytest.raises(NotChecked, match="too few frames with motion"):
        list(check_parallax(RecordingSurvey(gray)))
