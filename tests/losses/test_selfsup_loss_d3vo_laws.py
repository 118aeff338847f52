"""What must hold of D3VO's losses on an exact scene, as laws. tests/mutations/losses.py has the known mistakes.

The scene is a wall seen through cameras of known exposure, so that depth, motion, brightness and the right view have a
truth.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction
from stadia.differentiable.view_synthesis import warp_image
from stadia.losses import SMOOTHNESS, affine_brightness
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.loss_report import LossReport
from stadia.losses.reprojection import TorchReprojector, ssim_distance, weight_by_uncertainty
from stadia.losses.selfsup_loss import SelfSupervisedLoss

MakeScene = Callable[..., Any]


def report(scene: Any, prediction: Prediction, **config: Any) -> LossReport:
    loss = SelfSupervisedLoss(SelfSupervisedLossConfig(**config), reprojector=TorchReprojector)
    return loss(scene.targets, prediction, scene.source_names)


def gradient(scene: Any, prediction: Prediction, name: str, **config: Any) -> Tensor:
    """Of the total, with respect to the finest map of a field, or to the field where it is one tensor."""
    value = getattr(prediction, name)
    leaf = (value[0] if isinstance(value, tuple) else value).clone().requires_grad_()
    changed = replace(prediction, **{name: (leaf, *value[1:]) if isinstance(value, tuple) else leaf})
    (slope,) = torch.autograd.grad(report(scene, changed, **config).total, leaf, allow_unused=True)
    return torch.zeros_like(leaf) if slope is None else slope


def rises_from(least: float, values: dict[float, float]) -> bool:
    """Whether values fall up to `least` and rise behind it."""
    below = [values[x] for x in sorted(values) if x <= least]
    above = [values[x] for x in sorted(values) if x >= least]
    return below == sorted(set(below), reverse=True) and above == sorted(set(above))


# -- laws: each takes a scene, and fails where the loss breaks it


def brightness_is_least_at_the_truth(scene: Any) -> None:
    """A source rendered as a0 I + b0: on the target, (a0, b0) is the least, and both ways from it the loss rises."""
    scene = scene.exposed()
    pred = scene.d3vo_prediction()
    for which, changes in ((0, (0.5, 0.8, 0.95, 1.0, 1.05, 1.25, 2.0)), (1, (-0.2, -0.05, 0.0, 0.05, 0.2))):
        for source in range(len(scene.source_names)):
            at = {}
            for change in changes:
                pairs = pred.brightness.clone()
                pairs[:, source, which] = (
                    pairs[:, source, which] * change if which == 0 else pairs[:, source, which] + change
                )
                alone = alone_with(scene, replace(pred, brightness=pairs), source)
                at[change] = report(*alone, brightness=0.0, auto_mask=False).terms["photometric"].item()
            assert rises_from(1.0 if which == 0 else 0.0, at), (source, which, at)


def alone_with(scene: Any, pred: Prediction, source: int) -> tuple[Any, Prediction]:
    """Return one of the sources and its prediction, without uncertainty and right view."""
    targets, one = scene.targets, slice(source, source + 1)
    camera = Camera(targets.source_camera.K[:, one], targets.source_camera.height, targets.source_camera.width)
    fewer = replace(
        targets,
        sources=targets.sources[:, one],
        source_camera=camera,
        T_source_target_true=targets.T_source_target_true[:, one],
    )
    alone = replace(scene, targets=fewer, source_names=scene.source_names[one])
    pairs = None if pred.brightness is None else pred.brightness[:, one]
    return alone, Prediction(pred.inverse_depth, pred.T_source_target[:, one], brightness=pairs)


def residual_is_the_least_candidate(scene: Any) -> None:
    """Each source by itself, channels averaged, the target as bright as it; then per pixel the least of those that see
    the pixel.
    """
    scene = scene.exposed()
    generator = torch.Generator().manual_seed(0)
    sources = scene.targets.sources.clone()
    sources[:, 0, :, :, :20] = torch.rand(
        sources[:, 0, :, :, :20].shape, generator=generator, dtype=sources.dtype
    )  # wins on one half
    sources[:, 1, 0] = torch.rand(
        sources[:, 1, 0].shape, generator=generator, dtype=sources.dtype
    )  # wrong in red alone
    sources[:, 2, 2] = torch.rand(
        sources[:, 2, 2].shape, generator=generator, dtype=sources.dtype
    )  # wrong in blue alone
    targets = replace(scene.targets, sources=sources)
    pred = scene.d3vo_prediction()
    T_source_target, depth_m = pred.T_source_target, 1 / pred.inverse_depth[0]
    residuals = []
    for i in range(3):
        camera = Camera(targets.source_camera.K[:, i], targets.camera.height, targets.camera.width)
        view, seen = warp_image(targets.sources[:, i], depth_m, targets.camera, camera, T_source_target[:, i])
        gain, offset = pred.brightness[:, i].T[..., None, None, None]
        ends = (view.amin(1, True) >= 0.98) | (view.amax(1, True) <= 0.02) | (targets.image.amin(1, True) >= 0.98)
        compared = torch.where(
            ends | (targets.image.amax(1, True) <= 0.02), targets.image, gain * targets.image + offset
        )
        residuals.append(photometric_residual_by_hand(view, compared).masked_fill(~seen, torch.inf))
    expected = torch.cat(residuals, 1).amin(1, keepdim=True)
    got = report(replace(scene, targets=targets), replace(pred, log_uncertainty=None), auto_mask=False).maps["residual"]
    known = expected.isfinite()
    assert known.all()  # the source behind sees everything
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def photometric_residual_by_hand(view: Tensor, target: Tensor) -> Tensor:
    return (0.85 * ssim_distance(view, target) + 0.15 * (view - target).abs()).sum(1, keepdim=True) / 3


def uncertainty_is_least_at_the_residual(_: Any) -> None:
    """R / Sigma + log Sigma is minimal at Sigma = r with value 1 + log r; the slope in r is 1 / Sigma."""
    for value in (0.003, 0.1, 0.3679, 1.5):
        residual = torch.full((1, 1, 1, 1), value, dtype=torch.float64, requires_grad=True)
        log_r = residual.detach().log()
        at = {c: weight_by_uncertainty(residual, log_r + c).item() for c in (-2.0, -0.5, -0.1, 0.0, 0.1, 0.5, 2.0)}
        assert rises_from(0.0, at)
        assert at[0.0] == pytest.approx(1 + float(log_r), rel=1e-12)
        (slope,) = torch.autograd.grad(weight_by_uncertainty(residual, log_r + 1).sum(), residual)
        assert float(slope) == pytest.approx(float((-log_r - 1).exp()), rel=1e-12)


def uncertainty_weighs_the_minimum(scene: Any) -> None:
    """Who wins does not depend on Sigma, which divides once, on the map, after the minimum; the residual that is shown
    stays plain.
    """
    scene = scene.exposed()
    pred = scene.d3vo_prediction(depth_times=1.1)
    log_uncertainty = torch.linspace(-4, 1, pred.inverse_depth[0].numel(), dtype=torch.float64).view_as(
        pred.inverse_depth[0]
    )
    weighed = report(scene, replace(pred, log_uncertainty=(log_uncertainty,)))
    plain = report(scene, replace(pred, log_uncertainty=None))
    assert torch.equal(weighed.maps["winner"], plain.maps["winner"])
    assert torch.equal(weighed.maps["residual"], plain.maps["residual"])
    expected = (plain.maps["residual"] / log_uncertainty.exp() + log_uncertainty).mean()
    torch.testing.assert_close(weighed.terms["photometric"], expected, rtol=1e-12, atol=0)


def right_view_is_a_loss_of_its_own(scene: Any) -> None:
    """The left loss has no slope towards the right view's depth, nor the right one towards Sigma and the left view's
    depth.
    """
    scene = scene.exposed()
    pred = scene.d3vo_prediction(depth_times=1.05, right_times=1.1)
    left_out, once, twice = (gradient(scene, pred, "inverse_depth_right", right_view=w) for w in (0.0, 1.0, 2.0))
    assert not left_out.any()
    assert once.any()
    torch.testing.assert_close(twice, 2 * once, rtol=1e-9, atol=1e-15)
    for name in ("log_uncertainty", "inverse_depth"):
        a, b = (gradient(scene, pred, name, right_view=w) for w in (0.0, 3.0))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def samples_do_not_mix(make_scene: Any) -> None:
    """The prediction of sample 1 does not affect the gradients of sample 0."""
    scene = make_scene(batch=2).exposed()
    pred = scene.d3vo_prediction(depth_times=1.1, right_times=0.9)
    other = torch.tensor([1.0, 0.7], dtype=torch.float64)
    changed = replace(
        pred,
        inverse_depth=tuple(m * other.view(2, 1, 1, 1) for m in pred.inverse_depth),
        inverse_depth_right=tuple(m * other.view(2, 1, 1, 1) for m in pred.inverse_depth_right),
        log_uncertainty=tuple(m * other.view(2, 1, 1, 1) for m in pred.log_uncertainty),
        brightness=pred.brightness * other.view(2, 1, 1),
    )
    for name in ("inverse_depth", "inverse_depth_right", "log_uncertainty", "brightness"):
        a, b = gradient(scene, pred, name), gradient(scene, changed, name)
        torch.testing.assert_close(a[0], b[0], rtol=1e-9, atol=1e-15)
        assert not torch.equal(a[1], b[1])


def scales_are_averaged(scene: Any) -> None:
    """Superscript s is an index: each term of all scales is the mean of what it is of each alone, lambda_s = lambda /
    2^s.
    """
    scene = scene.exposed()
    pred = scene.d3vo_prediction(scales=4, depth_times=1.1, right_times=0.9)
    full = report(scene, pred).terms
    expected = dict.fromkeys(full, 0.0)
    for s in range(4):
        one = {f: (getattr(pred, f)[s],) for f in ("inverse_depth", "inverse_depth_right", "log_uncertainty")}
        for name, value in report(scene, replace(pred, **one), smoothness=1e-3 / 2**s).terms.items():
            expected[name] += float(value) / 4
    assert {name: float(value) for name, value in full.items()} == pytest.approx(expected, rel=1e-9)
    away = (scene.brightness[0] - torch.tensor([1.0, 0.0], dtype=torch.float64)).square().sum()
    assert float(full["brightness"]) == pytest.approx(
        float(away) * 1e-2 * 1e-3 * (1 + 1 / 2 + 1 / 4 + 1 / 8) / 4, rel=1e-9
    )


def smoothness_has_no_unit(_: Any) -> None:
    """Of every kind but the plain slope: a thousand times as near is as smooth."""
    generator = torch.Generator().manual_seed(0)
    inverse_depth = 0.1 + torch.rand(2, 1, 6, 7, generator=generator, dtype=torch.float64)
    image = torch.rand(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    for name in SMOOTHNESS:
        if name != "slope":
            smooth = SelfSupervisedLoss(SelfSupervisedLossConfig(smoothness_type=name)).smoothness
            torch.testing.assert_close(
                smooth(1e3 * inverse_depth, image), smooth(inverse_depth, image), rtol=1e-9, atol=0
            )


def saturation_is_of_all_channels(_: Any) -> None:
    """A test card: black and white are at the end of the range; pure colors, with two channels there, and grays are
    not.
    """
    colors = {
        "white": (1, 1, 1),
        "black": (0, 0, 0),
        "red": (1, 0, 0),
        "green": (0, 1, 0),
        "blue": (0, 0, 1),
        "yellow": (1, 1, 0),
    }
    card = torch.tensor([*colors.values(), (0.5, 0.5, 0.5), (0.97, 1, 1), (0.03, 0, 0)], dtype=torch.float64).T[
        None, :, None
    ]
    assert affine_brightness.find_saturated_pixels(card)[0, 0, 0].tolist() == [
        name in ("white", "black") for name in (*colors, "gray", "light", "dark")
    ]
    with_shadows = affine_brightness.find_saturated_pixels(card, (0.1, 1.0))[0, 0, 0].tolist()
    assert with_shadows == [name in ("white", "black", "dark") for name in (*colors, "gray", "light", "dark")]


LAWS: list[Callable[[Any], None]] = [
    brightness_is_least_at_the_truth,
    residual_is_the_least_candidate,
    uncertainty_is_least_at_the_residual,
    uncertainty_weighs_the_minimum,
    right_view_is_a_loss_of_its_own,
    scales_are_averaged,
    smoothness_has_no_unit,
    saturation_is_of_all_channels,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(make_scene: MakeScene, law: Callable[[Any], None]) -> None:
    law(make_scene())


def test_samples_do_not_mix(make_scene: MakeScene) -> None:
    samples_do_not_mix(make_scene)
