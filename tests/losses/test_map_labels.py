"""Labels of a map in the self-supervised loss: what moves trains nothing, and points pull depth towards them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.losses.sparse_depth import point_depth_loss

NAMES = ("-1", "+1")
CONFIG = SelfSupervisedLossConfig(smoothness=0.0, auto_mask=False, points=0.5)


def test_pixels_that_move_have_no_gradient(make_scene):
    scene = make_scene(names=NAMES)
    height, width = scene.targets.image.shape[-2:]
    static = torch.ones(1, 1, height, width, dtype=torch.bool)
    static[..., : height // 2, :] = False
    inverse_depth = (scene.inverse_depth * 1.05).requires_grad_()
    prediction = scene.prediction(inverse_depth=inverse_depth)
    loss = SelfSupervisedLoss(CONFIG)
    report = loss(replace(scene.targets, static=static), prediction, NAMES)
    slope = torch.autograd.grad(report.total, inverse_depth)[0]
    assert not slope[..., : height // 2 - 2, :].any()
    assert slope[..., height // 2 + 2 :, :].any()
    everything = loss(replace(scene.targets, static=torch.ones_like(static)), prediction, NAMES)
    torch.testing.assert_close(everything.total, loss(scene.targets, prediction, NAMES).total)


def test_points_add_a_term_that_is_least_at_their_depth(make_scene):
    scene = make_scene(names=NAMES)
    point_depth = torch.zeros_like(scene.inverse_depth)
    point_depth[..., 5, 7] = 1 / scene.inverse_depth[..., 5, 7]
    targets, loss = replace(scene.targets, point_depth=point_depth), SelfSupervisedLoss(CONFIG)
    terms = {times: loss(targets, scene.prediction(depth_times=times), NAMES).terms for times in (0.8, 1.0, 1.25)}
    assert terms[1.0]["points"].item() == pytest.approx(0, abs=1e-9)
    assert terms[0.8]["points"].item() == pytest.approx(0.5 * 0.5 * torch.tensor(1.25).log().item() ** 2, rel=1e-4)
    assert terms[0.8]["points"].item() == pytest.approx(terms[1.25]["points"].item(), rel=1e-4)
    assert "points" not in loss(scene.targets, scene.prediction(), NAMES).terms


def test_a_wrong_point_has_a_bounded_gradient_and_no_points_none():
    inverse_depth = torch.full((1, 1, 2, 2), 0.1, dtype=torch.float64, requires_grad=True)
    point_depth = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    assert point_depth_loss(inverse_depth, point_depth).item() == 0
    slopes = []
    for z in (100.0, 1e6):
        point_depth[0, 0, 0, 0] = z
        slopes.append(torch.autograd.grad(point_depth_loss(inverse_depth, point_depth), inverse_depth)[0])
    torch.testing.assert_close(*slopes)
