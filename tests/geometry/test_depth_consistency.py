"""Depth of neighboring frames: the truth does not flicker, scale and noise do, and a window makes both steady."""

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.evaluation.steady_depth import DepthView, measure_flicker, steady_depth
from stadia.geometry.cameras import centered_K, focal_px_from_fov

K = centered_K(focal_px_from_fov(80, 48), 24, 48)
STEP_M = 0.5


def render(position_m: float) -> NDArray[np.float32]:
    """Return the depth (24, 48) of a road 1.5 m below the camera, up to a wall 20 m ahead of the start."""
    rows = (np.arange(24) - K[1, 2]) / K[1, 1]
    road = np.where(rows > 0, 1.5 / np.maximum(rows, 1e-6), np.inf)
    return np.repeat(np.minimum(road, 20.0 - position_m)[:, None], 48, axis=1).astype(np.float32)


def move(step_m: float) -> NDArray[np.float64]:
    """Return T_following_now (4, 4) of a camera that moves ahead."""
    T = np.eye(4)
    T[2, 3] = -step_m
    return T


def view(number: int, factor: float = 1.0, noise: float = 0.0) -> DepthView:
    random = np.random.default_rng(number)
    depth = factor * render(number * STEP_M) * np.exp(noise * random.standard_normal((24, 48)))
    return DepthView(depth.astype(np.float32), K)


def test_true_depth_does_not_flicker() -> None:
    error, change = measure_flicker(view(0), view(1), move(STEP_M)) or (math.nan, math.nan)
    assert error < 0.01
    assert abs(change) < 0.01


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_change_of_scale_is_measured(factor: float) -> None:
    error, change = measure_flicker(view(0), view(1, factor), move(STEP_M)) or (math.nan, math.nan)
    assert change == pytest.approx(math.log(factor), abs=0.01)
    assert error == pytest.approx(abs(math.log(factor)), abs=0.01)


def test_a_window_averages_scale_and_noise() -> None:
    frames = [view(number, math.exp(0.1 * (-1) ** number), 0.05) for number in range(8)]

    def steady(number: int) -> DepthView:
        others = [other for other in range(number - 2, number + 3) if other != number and 0 <= other < len(frames)]
        neighbors = [(frames[other], move((other - number) * STEP_M)) for other in others]
        return DepthView(steady_depth(frames[number], neighbors), K)

    def flicker(views: list[DepthView]) -> float:
        found = [measure_flicker(now, then, move(STEP_M)) for now, then in pairwise(views)]
        return sum(error for error, _ in filter(None, found)) / len(found)

    assert flicker([steady(number) for number in range(2, 6)]) < 0.4 * flicker(frames[2:6])
