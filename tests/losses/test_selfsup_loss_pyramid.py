"""Why a pyramid: the loss at full size has no slope towards a match that is far away; at smaller sizes the match is
near.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera, Prediction, Targets
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss

HEIGHT, WIDTH, FOCAL_PX, BASELINE_M, DISPARITY_PX = 64, 128, 100.0, 0.5, 24


def wall() -> Targets:
    """A wall of detail of every size, whose right image is the left one shifted by DISPARITY_PX."""
    noise = torch.Generator().manual_seed(0)
    size = (HEIGHT, WIDTH + DISPARITY_PX)
    octaves = [torch.rand(1, 3, HEIGHT >> k, (WIDTH + DISPARITY_PX) >> k, generator=noise) for k in range(6)]
    canvas = torch.stack([functional.interpolate(o, size, mode="bilinear", align_corners=False) for o in octaves]).mean(
        0
    )
    left, right = canvas[..., :WIDTH], canvas[..., DISPARITY_PX:]
    K = torch.tensor([[FOCAL_PX, 0, (WIDTH - 1) / 2], [0, FOCAL_PX, (HEIGHT - 1) / 2], [0, 0, 1.0]])
    cameras = Camera(K[None], HEIGHT, WIDTH), Camera(K[None, None], HEIGHT, WIDTH)
    return Targets(left, right[:, None], *cameras, torch.full((1, 1, 4, 4), torch.nan))


def at(disparity_px: Tensor, spread_px: float = 0.0) -> Prediction:
    """The same disparity everywhere, give or take `spread_px` from pixel to pixel."""
    spread = spread_px * (torch.rand(1, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) - 0.5)
    T_right_left = torch.eye(4)[None, None].clone()
    T_right_left[..., 0, 3] = -BASELINE_M
    inverse_depth = (disparity_px + spread) / (FOCAL_PX * BASELINE_M)
    return Prediction((inverse_depth,), T_right_left)


def descend(pyramid: int, start_px: float) -> float:
    """Where steps of half a pixel down the slope lead, from `start_px` of disparity.

    Pixels are spread over a pixel: at the same fraction everywhere, the blur of sampling between pixels is a minimum of
        its own.
    """
    loss, targets = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=pyramid, auto_mask=False)), wall()
    disparity_px = torch.tensor(start_px, requires_grad=True)
    for _ in range(60):
        (slope,) = torch.autograd.grad(loss(targets, at(disparity_px, spread_px=1.0), ("stereo",)).total, disparity_px)
        disparity_px = (disparity_px - 0.5 * slope.sign()).detach().requires_grad_()
    return float(disparity_px.detach())


@pytest.mark.slow
@pytest.mark.parametrize("start_px", [18.3, 30.3])
def test_a_match_six_pixels_away_is_found_with_a_pyramid_and_not_without(start_px: float) -> None:
    assert abs(descend(4, start_px) - DISPARITY_PX) < 1
    assert abs(descend(1, start_px) - DISPARITY_PX) > 3


def test_the_truth_is_the_least_at_any_number_of_levels() -> None:
    targets = wall()
    for pyramid in (1, 2, 4):
        loss = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=pyramid))
        values = [float(loss(targets, at(torch.tensor(float(d))), ("stereo",)).total) for d in (20, 23, 24, 25, 28)]
        assert min(values) == values[2]


def test_levels_are_averaged() -> None:
    targets, prediction = wall(), at(torch.tensor(20.0))
    alone = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=1))(targets, prediction, ("stereo",))
    three = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=3))(targets, prediction, ("stereo",))
    assert 0.5 < float(three.terms["photometric"] / alone.terms["photometric"]) < 2
    torch.testing.assert_close(sum(three.terms.values()), three.total.detach())
    assert three.maps["residual"].shape == (1, 1, HEIGHT, WIDTH)
