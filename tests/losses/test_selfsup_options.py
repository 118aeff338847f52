"""Options of the self-supervised loss: residuals, weights of terms by scale, the gradient of the translation."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.refusals import refuses

from stadia.core.errors import GeometryError
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.loss_report import LossReport
from stadia.losses.reprojection import HUBER, PATCH, patch_residual, squared_residual
from stadia.losses.selfsup_loss import SelfSupervisedLoss

MakeScene = Callable[..., Any]


def report(scene: Any, prediction: Any = None, *, step: int = 0, **config: Any) -> LossReport:
    loss = SelfSupervisedLoss(SelfSupervisedLossConfig(**config))
    return loss(scene.targets, scene.prediction() if prediction is None else prediction, scene.source_names, step)


@pytest.mark.parametrize("residual", ["mse", "patch"])
def test_each_residual_is_least_at_the_true_depth(make_scene: MakeScene, residual: str) -> None:
    scene = make_scene(names=("-1", "+1"), height=48, width=80)
    at = {
        k: report(scene, scene.prediction(depth_times=k), residual=residual).total.item() for k in (0.5, 0.9, 1, 1.1, 2)
    }
    assert at[0.5] > at[0.9] > at[1] < at[1.1] < at[2]


def test_residuals_by_hand() -> None:
    a, b = torch.rand(2, 1, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(squared_residual(a, b)[0, 0], ((a - b) ** 2)[0].mean(0))
    difference = (a - b).abs()[0, :, 4, 4]
    at = [(a - b).abs()[0, :, 4 + dy, 4 + dx] for dx, dy in PATCH]
    norms = [torch.where(d < HUBER, d * d / 2 / HUBER, d - HUBER / 2).mean() for d in at]
    assert patch_residual(a, b)[0, 0, 4, 4].item() == pytest.approx(sum(norms).item() / 8)
    assert len(set(PATCH)) == 8
    assert (0, 0) in PATCH
    assert difference.numel() == 3


def test_a_term_has_weights_of_its_own_for_each_scale(make_scene: MakeScene) -> None:
    scene = make_scene(names=("-1", "+1"), height=48, width=80)
    prediction = scene.prediction(depth_times=1.1)
    coarse = torch.nn.functional.avg_pool2d(prediction.inverse_depth[0], 2)
    prediction = replace(prediction, inverse_depth=(prediction.inverse_depth[0], coarse))
    plain = report(scene, prediction).terms
    fine = report(scene, prediction, term_scale_weights={"smoothness": (1, 0)}).terms
    rough = report(scene, prediction, term_scale_weights={"smoothness": (0, 1)}).terms
    assert fine["photometric"] == plain["photometric"]
    torch.testing.assert_close(fine["smoothness"] + rough["smoothness"], plain["smoothness"])
    with refuses(GeometryError, where="term_scale_weights.smoothness", found="3", expected="2"):
        report(scene, prediction, term_scale_weights={"smoothness": (1, 0, 0)})
    with pytest.raises(ValidationError, match="photometric"):
        SelfSupervisedLossConfig(term_scale_weights={"smoothnes": (1, 0)})


def test_the_gradient_of_the_translation_is_multiplied_and_decays(make_scene: MakeScene) -> None:
    scene = make_scene(names=("-1", "stereo"), height=48, width=80)

    def find_gradient(step: int = 0, **config: Any) -> torch.Tensor:
        prediction = scene.prediction(depth_times=1.1)
        T = prediction.T_source_target.clone().requires_grad_()
        result = report(scene, replace(prediction, T_source_target=T), step=step, **config)
        return torch.autograd.grad(result.total, T)[0]

    plain, scaled = find_gradient(), find_gradient(translation_gradient=100)
    torch.testing.assert_close(scaled[:, 0, :3, 3], 100 * plain[:, 0, :3, 3])
    torch.testing.assert_close(scaled[:, 0, :3, :3], plain[:, 0, :3, :3])
    torch.testing.assert_close(scaled[:, 1], plain[:, 1])
    later = find_gradient(20, translation_gradient=100, translation_gradient_steps=10)
    torch.testing.assert_close(later[:, 0, :3, 3], (1 + 99 * math.exp(-2)) * plain[:, 0, :3, 3])
