"""Unit of ground truth: known factors, whole metres, and the camera height above the road."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.mutations.recordings import Mutated

from stadia.core.types import Recording
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.judge.recordings.stereo_checks import (
    MAX_WHOLE_SHARE,
    MIN_WHOLE_LEVELS,
    _share_of_whole_metres,
    fit_camera_height,
)

K = np.array([[100.0, 0, 79.5], [0, 100, 47.5], [0, 0, 1]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "cause"), [(1000 / 256, "millimetres were read as KITTI's"), (0.256, "was read as millimetres")]
)
def test_the_two_png_units_taken_for_each_other_are_named(recording: Recording, factor: float, cause: str) -> None:
    found = run_preflight([Mutated(recording, depth=lambda d: d * np.float32(factor))], checks=["ground_truth"])
    (finding,) = [finding for finding in found if finding.code == "D06"]
    assert cause in finding.cause
    assert "3.906" in finding.fix


def test_share_of_whole_metres() -> None:
    depth = np.random.default_rng(0).uniform(2, 60, 5000).astype(np.float32)
    assert _share_of_whole_metres(np.rint(depth * 256) / np.float32(256)) < 0.02
    assert _share_of_whole_metres(np.floor(depth)) == 1
    mixed = np.where(np.arange(5000) % 2, np.floor(depth), depth).astype(np.float32)
    assert 0.4 < _share_of_whole_metres(mixed) < MAX_WHOLE_SHARE
    walls = np.repeat(np.arange(4, 3 + MIN_WHOLE_LEVELS, dtype=np.float32), 500)
    assert _share_of_whole_metres(walls) == 0  # a few walls at whole metres
    assert _share_of_whole_metres(np.rint(1000 * depth)) == 0  # millimetres: another finding's
    assert _share_of_whole_metres(depth[:0]) == 0


def road(height_m: float, tilt_deg: float = 0.0) -> NDArray[np.float32]:
    """Return (96, 160) depth of an endless plane below a camera tilted down by `tilt_deg`; 0 above the horizon."""
    y = (np.arange(96)[:, None] - K[1, 2]) / K[1, 1] + 0 * np.arange(160)
    down = np.cos(np.radians(tilt_deg)) * y + np.sin(np.radians(tilt_deg))
    return np.where(down > 0.01, height_m / np.maximum(down, 0.01), 0).astype(np.float32)


@pytest.mark.parametrize("height_m", [0.4, 1.65, 6.4, 1650.0])
@pytest.mark.parametrize("tilt_deg", [0.0, 10.0])
def test_the_camera_height_is_that_of_the_plane(height_m: float, tilt_deg: float) -> None:
    depth = road(height_m, tilt_deg)
    assert fit_camera_height(depth, K) == pytest.approx(height_m, rel=1e-3)
    sparse = np.where(np.random.default_rng(0).random(depth.shape) < 0.1, depth, 0).astype(np.float32)
    assert fit_camera_height(sparse, K) == pytest.approx(height_m, rel=1e-3)


def test_no_camera_height_without_a_road() -> None:
    assert fit_camera_height(road(1.65, 30.0), K) is None  # a floor that a hand-held camera looks down at
    assert fit_camera_height(np.full((96, 160), 5, np.float32), K) is None  # a wall
    assert fit_camera_height(np.random.default_rng(0).uniform(2, 60, (96, 160)).astype(np.float32), K) is None
    bushes = np.random.default_rng(0).uniform(2, 60, (96, 160))
    quarter = np.random.default_rng(1).random((96, 160)) < 0.25
    assert fit_camera_height(np.where(quarter, road(1.65), bushes).astype(np.float32), K) is None  # too little of it
    assert fit_camera_height(np.zeros((96, 160), np.float32), K) is None


@pytest.mark.slow
def test_filled_holes_are_named_on_a_recording(recording: Recording) -> None:
    def fill(depth: NDArray[np.float32]) -> NDArray[np.float32]:
        filled = depth.copy()
        filled[: len(filled) // 4] = 5000
        return filled

    found = run_preflight([Mutated(recording, depth=fill)], checks=["ground_truth"])
    (finding,) = [finding for finding in found if finding.code == "D21"]
    assert "exactly 5000 m" in finding.measured
    assert "write 0" in finding.fix
    assert not [one for one in run_preflight([recording], checks=["ground_truth"]) if one.code == "D21"]
