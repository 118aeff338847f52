"""Day and night of a fixed camera: edges keep their place, whatever their sign, and light is no motion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from benchmarks.fixed_cameras import View, make_photo_view
from numpy.typing import NDArray
from tests.judge.rigs.test_fixed_cameras import draw_photo

from stadia.geometry.image_features import gray
from stadia.geometry.poses import so3_exp
from stadia.judge.rigs.edge_matches import find_edge_directions, match_edges
from stadia.judge.rigs.fixed_cameras import make_background, measure_view
from stadia.judge.rigs.pinned_rig import PinnedCamera, judge_camera

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def view() -> View:
    return make_photo_view("gate", draw_photo(0))


def make_night(image: Image, seed: int = 0) -> Image:
    """Return an image whose areas have other brightnesses: dark walls, bright windows, and noise."""
    random = np.random.default_rng(seed)
    lit = random.permutation(256).astype(np.float32)  # each gray level gets another one
    night = cv2.GaussianBlur(lit[gray(image) // 16 * 16], (0, 0), 1.0) * 0.5 + random.normal(size=image.shape[:2]) * 3
    return np.repeat(night.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def test_the_direction_of_an_edge_has_no_sign() -> None:
    image = np.zeros((20, 20), np.uint8)
    image[:, 10:] = 200
    np.testing.assert_allclose(find_edge_directions(image), find_edge_directions(200 - image), atol=1e-5)
    assert find_edge_directions(image)[10, 10, 0] > 0.9


@pytest.mark.parametrize("turn_deg", [(0.0, 0, 0), (0.5, -1.0, 0.7), (-2.0, 1.5, -1.0)])
def test_a_turn_is_measured_between_day_and_night(view: View, turn_deg: tuple[float, float, float]) -> None:
    day = make_background([view.render(np.eye(3), 1.0)])
    night = make_background([make_night(view.render(so3_exp(np.radians(turn_deg)), 1.0))])
    verdict = judge_camera(PinnedCamera("gate", day, view.K, True), night)
    change = verdict.change
    assert change.is_by_edges
    assert change.rotation_deg is not None
    for measured, true in zip(change.rotation_deg, turn_deg, strict=True):
        assert measured.value == pytest.approx(true, abs=3 * measured.deviation)
        assert measured.deviation < 0.1
    assert ("moved" in [cause.name for cause in verdict.causes]) == any(turn_deg)
    assert change.covered_share is None


def test_a_frame_of_another_size_counts_as_the_same_camera(view: View) -> None:
    day = make_background([view.render(np.eye(3), 1.0)])
    night = make_night(view.render(np.eye(3), 1.0))
    change = measure_view(day, make_background([cv2.resize(night, None, fx=1.5, fy=1.5)]), view.K)
    assert change.shift_px is not None
    assert change.shift_px.value < 4 * change.shift_px.deviation


@pytest.mark.parametrize("seed", range(4))
def test_two_places_do_not_match(view: View, seed: int) -> None:
    other = make_photo_view("other", draw_photo(10 + seed)).render(np.eye(3), 1.0)
    assert match_edges(gray(view.render(np.eye(3), 1.0)), gray(make_night(other))) is None


def test_light_that_changes_is_no_motion(view: View) -> None:
    image = view.render(np.eye(3), 1.0).astype(np.float32)
    x = np.linspace(0, 1, image.shape[1])[None, :, None]
    hours = [image * (0.4 + 0.6 * np.abs(x - hour)) + 20 * hour for hour in np.linspace(0, 1, 5)]
    lit = [hour.clip(0, 255).astype(np.uint8) for hour in hours]
    assert make_background(lit).moving.mean() < 0.05
    passing = [frame.copy() for frame in lit]
    for number, frame in enumerate(passing):
        frame[100:160, 60 + 80 * number : 140 + 80 * number] = 255
    moving = make_background(passing).moving
    assert moving[100:160, 60:440].mean() > 0.2
    assert moving[200:].mean() < 0.05
