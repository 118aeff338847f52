"""Logged statistics of depth, motion and minimum reprojection, for outputs with known values."""

import math

import pytest
import torch

from stadia.geometry.poses import se3_exp
from stadia.training.recipes.base.self_supervised import depth_stats, motion_stats

NAMES = ("-1", "+1", "stereo")


LIMITS_M = torch.tensor(0.5).reshape(1, 1, 1, 1), torch.tensor(100.0).reshape(1, 1, 1, 1)


def test_depth_stats_are_median_spread_and_bounds() -> None:
    depth = torch.full((2, 1, 64, 64), 10.0)
    assert {name: float(value) for name, value in depth_stats(1 / depth, LIMITS_M).items()} == pytest.approx(
        {"depth/median": 10.0, "depth/spread": 0.0, "depth/at_nearest": 0.0, "depth/at_farthest": 0.0}, abs=1e-6
    )
    depth[:, :, :16], depth[:, :, 16:24] = 100.0, 0.5
    seen = depth_stats(1 / depth, LIMITS_M)
    assert (float(seen["depth/at_farthest"]), float(seen["depth/at_nearest"])) == (0.25, 0.125)
    assert float(seen["depth/spread"]) > 1
    assert depth_stats(1 / depth, None).keys() == {"depth/median", "depth/spread"}, "a network without bounds"


@pytest.mark.slow
def test_motion_stats_are_over_depth_in_degrees_and_by_side() -> None:
    ahead = se3_exp(torch.tensor([[0.0, 0.0, -0.5, 0.0, math.radians(2.0), 0.0]]))
    back = torch.linalg.inv(ahead)
    T = torch.stack([back, ahead, torch.eye(4).expand(1, 4, 4)], dim=1)
    seen = {name: float(value) for name, value in motion_stats(T, NAMES, torch.tensor(10.0)).items()}
    assert seen == pytest.approx(
        {
            "motion/over_depth/-1": 0.05,
            "motion/over_depth/+1": 0.05,
            "motion/turn_deg/-1": 2.0,
            "motion/turn_deg/+1": 2.0,
            "motion/same_side": -1.0,
        },
        abs=1e-3,
    )
    same = torch.stack([ahead, ahead], dim=1)
    assert float(motion_stats(same, ("-1", "+1"), torch.tensor(10.0))["motion/same_side"]) == pytest.approx(1)
    assert motion_stats(T[:, 2:], ("stereo",), torch.tensor(10.0)) == {}
    assert "motion/same_side" not in motion_stats(T[:, 1:2], ("+1",), torch.tensor(10.0))
