"""Rotation is taken away exactly, and D18 tells a camera that turns from one that moves little."""

from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tests.mutations.all_mutations import roadworld
from tests.mutations.mutated_recording import Turning

from stadia.geometry.image_features import FeatureMatches
from stadia.geometry.two_views import estimate_motion, parallax_px, rotation_residuals_px
from stadia.judge.catalog import NotChecked
from stadia.judge.finding import Severity
from stadia.judge.recordings.pose_checks import check_parallax, estimate_rotation, find_rotation
from stadia.judge.recordings.recording_survey import RecordingSurvey

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


def survey_homography(K: np.ndarray, second_px: Callable[[np.ndarray], np.ndarray]) -> SimpleNamespace:
    """Three steps of a camera, whose matches one homography explains, with their noise."""
    random = np.random.default_rng(0)
    steps = []
    for first in range(3):
        pixels = random.uniform((0, 0), (320, 180), (200, 2))
        matches = FeatureMatches(np.arange(200), pixels, second_px(pixels) + random.normal(0, 0.07, (200, 2)))
        motion = SimpleNamespace(planar=True)
        steps.append(
            SimpleNamespace(first=first, second=first + 1, matches=matches, by_matches=motion, T_second_first=None)
        )
    recording = SimpleNamespace(
        camera=lambda index: SimpleNamespace(width=320),
        number=lambda index: index,
        has_stride=True,
        map_points=lambda index: None,
    )
    survey = {"stereo": False, "length": 4, "steps": steps, "K": lambda index: K, "recording": recording}
    return SimpleNamespace(**survey, depth=lambda index: None, see_by_first=lambda pixels, *cameras: pixels)


@pytest.mark.parametrize("fov_deg", [10, 80])
@pytest.mark.parametrize("shift", [(12.0, 0.0), (0.0, -12.0)])
def test_a_flight_above_a_plane_is_no_turn_in_a_narrow_view(fov_deg: float, shift: tuple[float, float]) -> None:
    focal = 160 / np.tan(np.radians(fov_deg) / 2)
    narrow = np.array([[focal, 0, 159.5], [0, focal, 89.5], [0, 0, 1]])
    with pytest.raises(NotChecked):
        list(check_parallax(survey_homography(narrow, lambda pixels: pixels + shift)))


@pytest.mark.slow
def test_the_rotation_is_not_that_of_a_wall_along_the_street() -> None:
    """Most matches lie on a facade that is parallel to the motion; a rotation explains them, and is wrong."""
    generator = np.random.default_rng(0)
    K = np.array([[186.0, 0, 160], [0, 186, 48], [0, 0, 1]])
    wall = np.stack([np.full(300, 6.0), generator.uniform(-2, 2, 300), generator.uniform(8, 40, 300)])
    around = np.stack([generator.uniform(-6, 0, 60), generator.uniform(-2, 2, 60), generator.uniform(8, 40, 60)])
    points = np.concatenate([wall, around], axis=1)
    first, second = (K @ moved for moved in (points, points - np.array([[0.0], [0], [2]])))
    pixels = [(projected[:2] / projected[2]).T for projected in (first, second)]
    step = SimpleNamespace(matches=SimpleNamespace(first_px=pixels[0], second_px=pixels[1]))
    step.by_matches = estimate_motion(*pixels, K)
    left = [parallax_px(*pixels, K, R) for R in (np.eye(3), find_rotation(step, K), estimate_rotation(*pixels, K))]
    assert left[1] == pytest.approx(left[0], rel=0.02)
    assert left[2] < 0.8 * left[0], "what most matches follow"


def survey_drive(height: int, kept: int, **about: bool) -> SimpleNamespace:
    """Six steps down a facing slope of boxes at 320 px, of which each `kept`-th frame of the source is kept.

    about: `has_stride` of the recording, true by default; `stereo` and `one_camera` of the survey.
    """
    K = np.array([[280.0, 0, 159.5], [0, 280 * height / 240, (height - 1) / 2], [0, 0, 1]])
    random = np.random.default_rng(1)
    points = random.uniform((-2, -2, 4), (2, 2, 9), (400, 3))
    steps = []
    for first in range(6):
        there = points + np.array([0, 0.006 * kept, 0])
        pixels = [(placed @ K.T)[:, :2] / placed[:, 2:] for placed in (points, there)]
        matches = FeatureMatches(np.arange(400), *pixels)
        motion = SimpleNamespace(planar=False, R=np.eye(3))
        steps.append(SimpleNamespace(first=first, second=first + 1, matches=matches, by_matches=motion))
    recording = SimpleNamespace(
        camera=lambda index: SimpleNamespace(width=320),
        number=lambda index: kept * index + 7,
        is_part=False,
        map_points=lambda index: None,
        has_stride=about.pop("has_stride", True),
    )
    survey = {"stereo": False, **about, "steps": steps, "K": lambda index: K, "recording": recording, "length": 300}
    return SimpleNamespace(**survey, depth=lambda index: None, see_by_first=lambda pixels, *cameras: pixels)


def test_frames_are_named_by_their_number_in_the_source() -> None:
    """Of a video of which selection by motion kept each second frame, neighbors are two frames apart."""
    (every,), (second,) = (check_parallax(survey_drive(240, kept)) for kept in (1, 2))
    parallax = [np.median(finding.evidence["pairs"]["parallax_px_per_frame"]) for finding in (every, second)]
    assert parallax[1] == pytest.approx(2 * parallax[0], rel=1e-3), "of neighboring kept frames"
    assert [finding.evidence["frame_distance"] for finding in (every, second)] == [1, 2]
    assert every.measured.endswith("(6 pairs between frames 7 and 13)")
    assert second.measured.endswith("(6 pairs between frames 7 and 19)")


def test_a_video_is_mapped_first_and_no_stride_is_advised() -> None:
    """With four times the distance of its frames, depth of a highway got worse."""
    (video,) = check_parallax(survey_drive(240, 1))
    assert "stadia map VIDEO" in video.fix
    (images,) = check_parallax(survey_drive(240, 1, has_stride=False))
    (pairs,) = check_parallax(survey_drive(240, 1, has_stride=False, stereo=True, one_camera=True))
    assert pairs.fix.startswith("train with the stereo pairs (data.stereo=true)")
    assert not any("stride" in finding.fix for finding in (video, images, pairs))


def test_a_video_with_its_map_has_pairs_of_measured_parallax() -> None:
    survey = survey_drive(240, 1)
    survey.recording.map_points = lambda index: np.zeros((12, 3))
    assert list(check_parallax(survey)) == []


def test_a_camera_that_turns_has_another_cause() -> None:
    survey = survey_drive(240, 1)
    R = cv2.Rodrigues(np.radians([0.0, 1.0, 0.0]))[0]
    for step in survey.steps:
        K = survey.K(step.first)
        rays = np.column_stack([step.matches.second_px, np.ones(400)]) @ np.linalg.inv(K).T @ R.T @ K.T
        step.matches = FeatureMatches(np.arange(400), step.matches.first_px, rays[:, :2] / rays[:, 2:])
        step.by_matches = SimpleNamespace(planar=False, R=R)
    (found,) = check_parallax(survey)
    assert found.cause.startswith("the camera mostly turns")
    assert found.fix == "record with a camera that moves, or train with stereo pairs or ground truth"


@pytest.mark.slow
def test_one_camera_of_a_pair_that_trains_alone_needs_parallax() -> None:
    """`data.stereo=false`: the stereo partner is there, and no source of the training."""
    turning = Turning(roadworld(), alone=False)
    assert list(check_parallax(RecordingSurvey(turning))) == []
    (found,) = check_parallax(RecordingSurvey(turning, one_camera=True))
    assert (found.code, found.severity) == ("D18", Severity.WARN)
    assert found.fix.startswith("train with the stereo pairs (data.stereo=true)")
    assert list(check_parallax(RecordingSurvey(roadworld(), one_camera=True))) == []
