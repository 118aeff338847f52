"""D3VO's losses as a whole on an exact scene: least at the truth, right slopes, and independent of what they must not
depend on.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.combinations import mark_others
from tests.refusals import refuses
from torch import Tensor

from stadia.core.errors import ConfigError, GeometryError
from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction
from stadia.geometry.poses import invert_pose, se3_exp
from stadia.judge.depth.training_record import PHOTOMETRIC_TERMS
from stadia.losses import SMOOTHNESS
from stadia.losses.affine_brightness import BrightnessGate
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.cpu.fused_reprojector import FusedReprojector
from stadia.losses.loss_report import LossReport
from stadia.losses.reprojection import TorchReprojector, left_right_consistency, weight_by_uncertainty
from stadia.losses.selfsup_loss import SelfSupervisedLoss

MakeScene = Callable[..., Any]
FIELDS = ("inverse_depth", "inverse_depth_right", "log_uncertainty")
REPROJECTORS = pytest.mark.parametrize("reprojector", [TorchReprojector, FusedReprojector])
TERMS = {"photometric", "smoothness", "right_view", "brightness"}


def report(scene: Any, prediction: Prediction, *, reprojector: Any = None, step: int = 0, **config: Any) -> LossReport:
    return SelfSupervisedLoss(SelfSupervisedLossConfig(**config), reprojector=reprojector)(
        scene.targets, prediction, scene.source_names, step
    )


@pytest.mark.slow
def test_least_at_the_true_depth_of_either_view_and_rising_away_from_it(make_scene: MakeScene) -> None:
    scene = make_scene(height=48, width=80).exposed()
    for changed in ("depth_times", "right_times"):
        at = {k: report(scene, scene.d3vo_prediction(**{changed: k})).total.item() for k in (0.5, 0.9, 1.0, 1.1, 2.0)}
        assert at[0.5] > at[0.9] > at[1.0] < at[1.1] < at[2.0], (changed, at)


@pytest.mark.slow
def test_without_brightness_the_exposures_cost_and_depth_is_explained_worse(make_scene: MakeScene) -> None:
    scene = make_scene(height=48, width=80).exposed()
    pred = scene.d3vo_prediction(right=False)
    with_it, without = report(scene, pred), report(scene, replace(pred, brightness=None))
    assert with_it.maps["residual"].mean() < 0.5 * without.maps["residual"].mean()
    assert with_it.logged["warped_over_unwarped"] < 0.35
    assert with_it.logged["saturated"] == 0
    assert "saturated" not in without.logged


def test_the_ratio_of_wrong_depth_is_near_one_and_of_equal_images_one(make_scene: MakeScene) -> None:
    scene = make_scene(height=48, width=80)
    assert report(scene, scene.prediction()).logged["warped_over_unwarped"] < 0.35
    assert report(scene, scene.prediction(depth_times=0.05)).logged["warped_over_unwarped"] > 0.8
    same = replace(
        scene, targets=replace(scene.targets, sources=scene.targets.image[:, None].expand_as(scene.targets.sources))
    )
    still = scene.prediction(twist=torch.zeros_like(scene.twist))
    assert float(report(same, still).logged["warped_over_unwarped"]) == pytest.approx(1)
    right = report(scene.exposed(), scene.d3vo_prediction()).logged["warped_over_unwarped_right"]
    assert right < 0.35


@pytest.mark.slow
@pytest.mark.parametrize("reprojector", mark_others([FusedReprojector, TorchReprojector], [FusedReprojector]))
def test_finite_differences(make_scene: MakeScene, reprojector: Any) -> None:
    scene = make_scene(height=8, width=10, names=("-1", "+1", "stereo")).exposed()
    torch.manual_seed(0)
    pred = scene.d3vo_prediction()
    rough = [m * (1 + 0.02 * torch.rand_like(m)) for m in (pred.inverse_depth[0], pred.inverse_depth_right[0])]  # type: ignore[index]
    leaves = (*rough, scene.twist + 0.003, pred.log_uncertainty[0] + torch.rand_like(rough[0]), pred.brightness + 0.01)  # type: ignore[index, operator]

    def total(depth: Tensor, right: Tensor, twist: Tensor, s: Tensor, ab: Tensor) -> Tensor:
        maps = Prediction((depth,), se3_exp(twist), (right,), (s,), ab)
        weight = {"right_view": 0.0} if ab.requires_grad else {}
        return report(
            scene,
            maps,
            reprojector=reprojector,
            auto_mask=False,
            left_right_consistency=0.1,
            brightness=100.0,
            **weight,
        ).total

    for of in ((0, 2, 3, 4), (0, 1, 2, 3)):  # parts of the right view are invisible: test it with constant brightness
        given = tuple(x.clone().requires_grad_(i in of) for i, x in enumerate(leaves))
        assert torch.autograd.gradcheck(total, given, eps=1e-7, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(
    "levels", [{}, {"pyramid": 2, "temporal_from_step": 1, "residual_threshold": 0.2, "left_right_consistency": 0.1}]
)
def test_the_compiled_loops_give_the_same_loss_and_slopes(make_scene: MakeScene, levels: Any) -> None:
    scene = make_scene(height=24, width=40, batch=2).exposed()
    found = []
    for reprojector in (TorchReprojector, FusedReprojector):
        pred = scene.d3vo_prediction(depth_times=1.1, right_times=0.9, scales=3)
        flat = [*(m for f in FIELDS for m in getattr(pred, f)), pred.T_source_target, pred.brightness]
        leaves = [x.clone().requires_grad_() for x in flat]
        prediction = Prediction(tuple(leaves[:3]), leaves[9], tuple(leaves[3:6]), tuple(leaves[6:9]), leaves[10])
        result = report(scene, prediction, reprojector=reprojector, **levels)
        found.append((result, torch.autograd.grad(result.total, leaves)))
    (readable, slopes), (fused, fused_slopes) = found
    assert set(readable.terms) == TERMS | ({"motion", "left_right_consistency"} if levels else set())
    assert set(readable.terms) <= set(PHOTOMETRIC_TERMS), "no others are of a user's class"
    for name, value in (readable.terms | dict(readable.logged) | readable.maps).items():
        torch.testing.assert_close((fused.terms | dict(fused.logged) | fused.maps)[name], value, rtol=1e-11, atol=1e-12)
    for a, b in zip(fused_slopes, slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert b.any()


@pytest.mark.slow
def test_a_residual_above_the_threshold_stands_there_and_trains_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    inverse_depth = (scene.inverse_depth * 0.8).requires_grad_()
    pred = scene.prediction(inverse_depth=inverse_depth)
    free = report(scene, pred, smoothness=0.0)
    limit = float(free.maps["residual"].median())
    held = report(scene, pred, smoothness=0.0, residual_threshold=limit)
    assert float(held.terms["photometric"]) == pytest.approx(
        float(free.maps["residual"].clamp(max=limit).mean()), rel=1e-12
    )
    assert torch.equal(held.maps["residual"], free.maps["residual"])
    assert not torch.autograd.grad(report(scene, pred, smoothness=0.0, residual_threshold=1e-9).total, inverse_depth)[
        0
    ].any()


def test_uncertainty_waits_for_its_step(make_scene: MakeScene) -> None:
    scene = make_scene().exposed()
    pred = scene.d3vo_prediction(depth_times=1.1)
    before, after = (report(scene, pred, step=step, uncertainty_from_step=10) for step in (9, 10))
    assert before.terms["photometric"] == report(scene, replace(pred, log_uncertainty=None)).terms["photometric"]
    assert after.terms["photometric"] == report(scene, pred).terms["photometric"]
    assert after.terms["photometric"] < 0 < before.terms["photometric"]  # below 0 is no error: Sigma is 0.14


def test_weights_of_scales(make_scene: MakeScene) -> None:
    scene = make_scene().exposed()
    pred = scene.d3vo_prediction(depth_times=1.1, right_times=0.9, scales=3)

    def total(*weights: float) -> float:
        return report(scene, pred, scale_weights=weights).total.item()

    assert total(1, 1, 1) == report(scene, pred).total.item()
    assert total(3, 1, 1) - total(1, 1, 1) == pytest.approx(2 * total(1, 0, 0), rel=1e-9)
    assert total(1, 0, 0) + total(0, 1, 0) + total(0, 0, 1) == pytest.approx(total(1, 1, 1), rel=1e-9)
    with refuses(GeometryError, where="loss.scale_weights", found="2", expected="3"):
        total(1, 1)


def test_shapes_and_sources_that_do_not_fit_are_refused(make_scene: MakeScene) -> None:
    scene = make_scene(names=("-1", "+1"))
    pred = scene.prediction(scales=2)
    with refuses(GeometryError, expected="stereo"):
        report(scene, replace(pred, inverse_depth_right=pred.inverse_depth))
    with refuses(GeometryError, found="1", expected="2"):
        report(scene, replace(pred, log_uncertainty=pred.inverse_depth[:1]))
    with refuses(GeometryError, found=("2", "5", "6"), expected="1"):
        weight_by_uncertainty(torch.zeros(2, 1, 5, 6), torch.zeros(2, 5, 6))


# -- the right view


def test_two_views_of_one_wall_agree_and_others_do_not(make_scene: MakeScene) -> None:
    scene = make_scene(names=("stereo",), height=48, width=80)
    left, right, targets = scene.inverse_depth, scene.inverse_depth_of_sources[:, 0], scene.targets
    right_camera = Camera(targets.source_camera.K[:, 0], 48, 80)
    T_right_left = targets.T_source_target_true[:, 0]
    there = [
        left_right_consistency(left, k * right, targets.camera, right_camera, T_right_left).item()
        for k in (0.5, 0.9, 1.0, 1.1, 2.0)
    ]
    back = left_right_consistency(right, left, right_camera, targets.camera, invert_pose(T_right_left)).item()
    assert there[0] > there[1] > there[2] < there[3] < there[4]
    assert max(there[2], back) < 1e-3
    assert there[1] == pytest.approx(0.1, rel=0.15)  # relative to the mean, where it is seen
    in_cm = T_right_left.clone()
    in_cm[:, :3, 3] *= 100
    same = left_right_consistency(left / 100, 0.9 * right / 100, targets.camera, right_camera, in_cm).item()
    assert same == pytest.approx(there[1], rel=1e-6)


# -- smoothness


def test_each_kind_of_smoothness_by_what_costs_it_nothing() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    image = torch.full((1, 3, 8, 9), 0.5)
    smooth = {name: SMOOTHNESS.load(name) for name in SMOOTHNESS}
    flat, slanted = torch.full((1, 1, 8, 9), 0.3), (0.3 + 0.01 * x + 0.02 * y)[None, None]
    assert all(float(function(flat, image)) == 0 for function in smooth.values())
    assert float(smooth["bend"](slanted, image)) < 1e-6 < 1e-3 < float(smooth["slope_over_mean"](slanted, image))
    assert float(smooth["slope"](slanted, image)) == pytest.approx(0.03, rel=1e-4)
    assert float(smooth["slope"](slanted / 2, image)) == pytest.approx(
        0.015, rel=1e-4
    )  # pays for pushing everything away
    bent, edge = slanted.clone(), image.clone()
    bent[..., 4:] += 0.2
    edge[..., 4:] = 1.0
    assert float(smooth["bend"](bent, edge)) < 0.7 * float(smooth["bend"](bent, image))


def test_smoothness_is_chosen_by_name_and_known_mistakes_are_refused(make_scene: MakeScene) -> None:
    scene = make_scene()
    kinds = {
        name: float(report(scene, scene.prediction(), smoothness_type=name).terms["smoothness"]) for name in SMOOTHNESS
    }
    assert len(set(kinds.values())) == len(SMOOTHNESS) == 3
    for name, why in (("sum", "flattens depth"), ("metric_depth", "far, uncertain depth")):
        with pytest.raises(ConfigError) as refused:
            SMOOTHNESS.check(name)
        assert why in refused.value.fix


# -- the gate


def predict_brightness(brightness: Tensor) -> Prediction:
    return Prediction((torch.ones(1, 1, 2, 2),), torch.eye(4).expand(1, 1, 4, 4), brightness=brightness)


def passed(gate: BrightnessGate, step: int = 0) -> tuple[list[float], bool]:
    """What comes through, and whether a slope goes back."""
    brightness = torch.tensor([[[1.5, 0.2]]], requires_grad=True)
    through = gate(predict_brightness(brightness), step).brightness
    gate.update(gate.ratio)  # between forward and backward, as in a training step
    through.sum().backward()
    return through.flatten().tolist(), bool(brightness.grad.any())  # type: ignore[union-attr]


def test_brightness_waits_until_the_warp_beats_the_unwarped_image_for_long_enough() -> None:
    gate = BrightnessGate()
    assert passed(gate) == ([1.0, 0.0], False)
    for ratio in (1.0, 0.85, 0.1, 0.1):  # a lucky batch is not enough
        gate.update(torch.tensor(ratio))
    assert passed(gate) == ([1.0, 0.0], False)
    for _ in range(200):
        gate.update(torch.tensor(0.6))
    assert passed(gate) == ([1.5, pytest.approx(0.2)], True)
    for _ in range(1000):
        gate.update(torch.tensor(1.0))
    assert passed(gate)[1], "once open it stays: a, b are learnt by then"
