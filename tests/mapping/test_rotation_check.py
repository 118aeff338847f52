"""A camera that turns on the spot is found with its focal length; parallax, or a wall along the way, is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.mapping.camera_search import find_rotation_focal

HEIGHT, WIDTH, FOCAL_PX = 200, 320, 260.0

Pairs = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def make_pairs(step_deg: float, step: float, *, size: int = 1, is_wall: bool = False, noise_px: float = 0.2) -> Pairs:
    """Return the matches of frames that turn by step_deg and move to the right by `step`."""
    random = np.random.default_rng(0)
    depth = np.full(400, 8.0) if is_wall else random.uniform(3, 20, 400)
    points = np.column_stack((depth * random.uniform(-1, 1, 400), depth * random.uniform(-0.4, 0.4, 400), depth))
    views = list[NDArray[np.float64]]()
    for frame in range(8):
        R = cv2.Rodrigues(np.radians([0.3 * step_deg * frame, step_deg * frame, 0]))[0]
        inside = (points - (step * frame, 0, 0)) @ R.T
        xy = FOCAL_PX * inside[:, :2] / inside[:, 2:] + ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
        views.append(xy + random.normal(0, noise_px, xy.shape))
    pairs: Pairs = []
    for first, second in ((views[a], views[b]) for a in range(8) for b in range(a + 3, 8)):
        seen = ((first > 0) & (second > 0) & (first < (WIDTH, HEIGHT)) & (second < (WIDTH, HEIGHT))).all(1)
        pairs.append((size * (first[seen] + 0.5) - 0.5, size * (second[seen] + 0.5) - 0.5))
    return pairs


@pytest.mark.parametrize("size", [1, 2])
def test_a_turn_on_the_spot_gives_its_focal_length_at_any_size(size):
    pairs = make_pairs(4, 0, size=size, noise_px=0.1)
    found = find_rotation_focal(pairs, size * HEIGHT, size * WIDTH)
    assert found == pytest.approx(size * FOCAL_PX, rel=0.01)


@pytest.mark.parametrize(
    ("step_deg", "step", "is_wall"),
    [(0, 0.4, False), (4, 0.4, False), (0, 0.4, True), (0.5, 0.4, True), (0.1, 0, False)],
    ids=["moves", "turns and moves", "along a wall", "along a wall, turning", "hardly turns"],
)
def test_parallax_or_too_little_motion_is_no_turn_on_the_spot(step_deg, step, is_wall):
    assert find_rotation_focal(make_pairs(step_deg, step, is_wall=is_wall), HEIGHT, WIDTH) is None


def test_few_matches_are_no_turn_on_the_spot():
    assert find_rotation_focal([], HEIGHT, WIDTH) is None
    few = [(first[:9], second[:9]) for first, second in make_pairs(4, 0)]
    assert find_rotation_focal(few, HEIGHT, WIDTH) is None
