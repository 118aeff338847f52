"""The ratio against the horizon, and which objects it makes odd."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from stadia.geometry.ground import horizon as hr
from stadia.geometry.segments import segments_from_instances

F64 = torch.float64
NAN, INF = math.nan, math.inf


def test_the_ratio_counts_pixels_to_the_horizon():
    """Horizon between rows 10 and 11, at 10.5; a mask of rows 8 to 20, another above the horizon, another below it."""
    objects = torch.zeros(2, 30, 40, dtype=torch.int16)
    objects[0, 8:21, 3:9], objects[0, 2:7, 20:30], objects[1, 15:21, 4:5] = 1, 2, 5
    horizon = torch.tensor([[0, -1, 10.5], [0, -1, 10.5]], dtype=F64)
    found = hr.compute_horizon_ratios(horizon, segments_from_instances(objects), 30, 40)
    assert_close(found.foot_below, torch.tensor([9.5, -4.5, 9.5], dtype=F64))
    assert_close(found.top_above, torch.tensor([2.5, 8.5, -4.5], dtype=F64))
    assert_close(found.ratio, torch.tensor([13 / 9.5, INF, 6 / 9.5], dtype=F64))


def test_distances_are_perpendicular_to_a_rolled_horizon():
    objects = torch.zeros(1, 30, 40, dtype=torch.int16)
    objects[0, 20:23, 10:31] = 1
    a, b = math.sin(0.3), -math.cos(0.3)
    found = hr.compute_horizon_ratios(torch.tensor([[a, b, 8.0]], dtype=F64), segments_from_instances(objects), 30, 40)
    assert_close(found.foot_below.item(), -(10 * a + 22 * b + 8))  # its left corner
    assert_close(found.top_above.item(), 30 * a + 20 * b + 8)


def test_an_image_without_a_horizon_gives_nan():
    objects = torch.ones(2, 8, 8, dtype=torch.long)
    found = hr.compute_horizon_ratios(
        torch.tensor([[NAN, NAN, NAN], [0, -1, 3]], dtype=F64), segments_from_instances(objects), 8, 8
    )
    assert found.ratio.isnan().tolist() == [True, False]
    implied = hr.implied_camera_height(torch.tensor([1.5, 1.5], dtype=F64), found.ratio)
    assert (hr.log_height_ratio(implied, implied[1]).abs() < 0.2).tolist() == [False, True]


def test_each_object_implies_a_camera_height():
    implied = hr.implied_camera_height(torch.tensor([1.5, 1.5, 1.5, NAN]), torch.tensor([0.75, 1.5, INF, 1.0]))
    assert_close(implied, torch.tensor([2.0, 1.0, 0.0, NAN]), equal_nan=True)


def test_odd_is_the_same_factor_up_or_down():
    odd = hr.log_height_ratio(
        torch.tensor([1.65, 1.65 * 1.21, 1.65 / 1.21, 1.65 * 1.23, 1.65 / 1.23, 0.0, NAN]), torch.tensor(1.65)
    )
    assert (odd.abs() < 0.2).tolist() == [True, True, True, False, False, False, False]
    assert (odd.abs() < 0.1).sum() == 1
    assert odd[1] > 0 > odd[2]
    assert odd[5] == -INF


@pytest.mark.parametrize("factor", [0.6, 2.0, 3.0])
def test_centered_a_wrong_prior_of_all_changes_nobody(factor):
    implied = torch.rand(40, dtype=F64) + 1
    kept = [(hr.log_height_ratio(x, x.median()).abs() < 0.2) for x in (implied, factor * implied)]
    assert torch.equal(*kept)
    assert 0 < kept[0].sum() < 40
