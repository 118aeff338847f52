"""The horizon and the camera's height from boxes, with many heights wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.geometry.ground.horizon import fit_object_horizon

F64 = torch.float64
HORIZON = torch.tensor([math.sin(0.04), -math.cos(0.04), 90.0], dtype=F64)
CAMERA_M = 1.65


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def boxes(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Feet (count, 2), heights in pixels and in metres that agree with HORIZON and CAMERA_M exactly."""
    foot = torch.rand(count, 2, dtype=F64) * torch.tensor([640.0, 70.0], dtype=F64) + torch.tensor(
        [0, 120.0], dtype=F64
    )
    height_m = 1 + torch.rand(count, dtype=F64)
    below = -(foot @ HORIZON[:2] + HORIZON[2])
    return foot, below * height_m / CAMERA_M, height_m


def test_exact_boxes_give_the_exact_horizon_and_height():
    found = fit_object_horizon(*boxes(5), generator=chance())
    assert_close(found.horizon, HORIZON)
    assert_close(found.camera_height_m.item(), CAMERA_M)
    assert found.inlier_mask.all()
    assert_close(found.log_height_ratio, torch.zeros(5, dtype=F64))


@pytest.mark.parametrize("sample", [3, 4, 6])
def test_larger_samples_of_exact_boxes_give_the_same(sample):
    found = fit_object_horizon(*boxes(9), generator=chance(), sample=sample)
    assert_close(found.horizon, HORIZON)
    assert_close(found.camera_height_m.item(), CAMERA_M)


def test_the_cross_ratio_of_each_pair_is_on_that_horizon():
    """Feet, tops moved to one height, and the meeting of the two lines: written out as in the plane."""
    foot, height_px, height_m = boxes(6)
    for i in range(6):
        for j in range(i):
            moved = height_px[i] * height_m[j] / height_m[i]  # i's top, where it would be as high as j
            share = moved / (moved - height_px[j])  # of the way from foot to foot, where both heights are 0
            meeting = foot[i] + share * (foot[j] - foot[i])
            assert abs(float(meeting @ HORIZON[:2] + HORIZON[2])) < 1e-6 * float(1 + meeting.abs().max())


def test_four_in_ten_with_a_wrong_height_are_found():
    foot, height_px, height_m = boxes(60)
    wrong = torch.arange(60) % 5 < 2
    noisy = height_px * (1 + 0.03 * torch.randn(60, dtype=F64))
    labeled_m = torch.where(wrong, height_m * torch.tensor([2.0, 0.55, 1.5]).repeat(20), height_m)
    found = fit_object_horizon(foot, noisy, labeled_m, generator=chance())
    assert torch.equal(found.inlier_mask, ~wrong)
    assert_close(found.camera_height_m.item(), CAMERA_M, rtol=0.03, atol=0)
    edges = torch.tensor([[0.0, 90.0], [640.0, 90.0]], dtype=F64)
    assert (edges @ (found.horizon - HORIZON)[:2] + (found.horizon - HORIZON)[2]).abs().max() < 4
    assert found.log_height_ratio[labeled_m > height_m].min() > 0.2  # it is too low for its labeled height
    again = fit_object_horizon(foot, noisy, labeled_m, generator=chance())
    assert_close(again.horizon, found.horizon, rtol=1e-12, atol=1e-12)


def test_an_object_above_the_horizon_is_never_an_inlier():
    foot, height_px, height_m = boxes(12)
    foot[3, 1] = 20
    found = fit_object_horizon(foot, height_px, height_m, generator=chance())
    assert found.log_height_ratio[3] == math.inf
    assert found.inlier_mask.sum() == 11


def test_feet_on_one_line_leave_the_horizon_open():
    for at in ("row", "slope", "almost a row"):
        foot, height_px, height_m = boxes(8)
        foot[:, 1] = 150 + {"row": 0, "slope": foot[:, 0] / 20, "almost a row": torch.rand(8, dtype=F64)}[at]
        height_px = -(foot @ HORIZON[:2] + HORIZON[2]) * height_m / CAMERA_M
        with pytest.raises(GeometryError, match=r"of 8 that agree.*expected at least 3, near and far"):
            fit_object_horizon(foot, height_px, height_m, generator=chance())


def test_what_agrees_only_on_one_line_is_refused():
    foot, height_px, height_m = boxes(20)
    foot[1:, 1] = 150 + 3 * torch.rand(19, dtype=F64)
    foot[0] = torch.tensor([300.0, 190.0])
    height_px = -(foot @ HORIZON[:2] + HORIZON[2]) * height_m / CAMERA_M
    with pytest.raises(GeometryError, match="20 of 20 that agree, with feet on one line"):
        fit_object_horizon(foot * 0.2, height_px, height_m, generator=chance())


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_heights_that_are_none_are_named(bad):
    foot, height_px, height_m = boxes(5)
    for heights in ((height_px.clone(), height_m), (height_px, height_m.clone())):
        heights[0 if heights[1] is height_m else 1][2] = bad
        with pytest.raises(GeometryError, match="heights above 0"):
            fit_object_horizon(foot, *heights, generator=chance())


def test_two_objects_are_too_few():
    with pytest.raises(GeometryError, match="N at least 3"):
        fit_object_horizon(*boxes(2), generator=chance())
