"""The compiled loss is one region without a graph break, with the values and gradients of the loss that is not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.combinations import mark_others

from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.reprojection import TorchReprojector
from stadia.losses.selfsup_loss import SelfSupervisedLoss

CONFIGS: dict[str, dict[str, Any]] = {
    "pyramid": {"pyramid": 2},
    "motion alone": {"temporal_from_step": 10},
    "d3vo": {"left_right_consistency": 0.1, "uncertainty_from_step": 0},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("name", mark_others(list(CONFIGS), ["pyramid"]))
def test_the_compiled_loss_equals_the_loss(make_scene: Callable[..., Any], name: str) -> None:
    scene, config = make_scene(batch=2, names=("-1", "stereo")), SelfSupervisedLossConfig(**CONFIGS[name])
    scene = scene.exposed() if name == "d3vo" else scene
    plain = SelfSupervisedLoss(config, reprojector=TorchReprojector)
    compiled = SelfSupervisedLoss(config)
    torch.compiler.reset()
    compiled.compile(backend="aot_eager", dynamic=False, fullgraph=True)
    found = []
    for loss in (plain, compiled):
        inverse_depth = (scene.inverse_depth / 1.05).requires_grad_()
        twist = (0.9 * scene.twist).requires_grad_()
        prediction = scene.prediction(scales=2, inverse_depth=inverse_depth, twist=twist)
        if name == "d3vo":
            prediction = scene.d3vo_prediction(scales=2, depth_times=1.1)
            inverse_depth = prediction.inverse_depth[0].requires_grad_()
        report = loss(scene.targets, prediction, scene.source_names, 3)
        report.total.backward()
        found.append((report, inverse_depth.grad))
    (report, gradient), (other, other_gradient) = found
    assert report.terms.keys() == other.terms.keys()
    assert report.least == other.least
    for term, value in report.terms.items():
        torch.testing.assert_close(other.terms[term], value, rtol=1e-9, atol=1e-12)
    for label, values in report.maps.items():
        torch.testing.assert_close(other.maps[label], values, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("step", "last_change"), [(0, 0), (4, 0), (5, 5), (9, 5), (10, 10), (99, 10)])
def test_the_code_depends_on_the_step_only_where_the_schedule_changes(step: int, last_change: int) -> None:
    config = SelfSupervisedLossConfig(auto_mask_from_step=5, temporal_from_step=10)
    assert SelfSupervisedLoss(config)._last_change(step) == last_change
