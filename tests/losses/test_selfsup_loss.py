"""The whole loss on an exact scene: least at the truth, and independent of what it must not depend on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction, Targets
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.cpu.fused_reprojector import FusedReprojector
from stadia.losses.loss_report import LossReport
from stadia.losses.reprojection import Reprojection, TorchReprojector, photometric_residual
from stadia.losses.selfsup_loss import SelfSupervisedLoss, edge_aware_smoothness

MakeScene = Callable[..., Any]
REPROJECTORS = pytest.mark.parametrize("reprojector", [TorchReprojector, FusedReprojector])
SETS = pytest.mark.parametrize("names", [("-1", "+1"), ("stereo",), ("-1", "+1", "stereo")], ids="+".join)


def report(
    scene: Any, prediction: Prediction | None = None, *, step: int = 0, reprojector: Any = None, **config: Any
) -> LossReport:
    loss = SelfSupervisedLoss(SelfSupervisedLossConfig(**config), reprojector=reprojector)
    return loss(scene.targets, scene.prediction() if prediction is None else prediction, scene.source_names, step)


@SETS
def test_least_at_the_true_depth_and_rising_away_from_it(make_scene: MakeScene, names: tuple[str, ...]) -> None:
    scene = make_scene(names=names, height=48, width=80)
    at = {k: report(scene, scene.prediction(depth_times=k)).total.item() for k in (0.5, 0.9, 0.97, 1.0, 1.03, 1.1, 2.0)}
    assert at[0.5] > at[0.9] > at[0.97] > at[1.0] < at[1.03] < at[1.1] < at[2.0]
    assert at[1.0] < 0.6 * at[0.9]  # pixels that no source sees stand at their unwarped residual


def test_leaving_the_frame_never_pays(make_scene: MakeScene) -> None:
    scene = make_scene(names=("stereo",))
    inverse_depth = torch.full_like(scene.inverse_depth, 200.0).requires_grad_()
    lost = report(scene, scene.prediction(inverse_depth=inverse_depth), smoothness=0.0)
    lost.total.backward()
    assert (lost.maps["winner"] == -1).all()
    assert not lost.maps["warped"].any()
    assert lost.total > report(scene).total
    assert inverse_depth.grad is not None
    assert not inverse_depth.grad.any()


def test_residual_equals_scipy(make_scene: MakeScene) -> None:
    scene = make_scene(names=("-1", "+1"))
    prediction = scene.prediction(depth_times=1.1)
    target, sources = scene.targets.image[0].numpy(), scene.targets.sources[0].numpy()
    K, depth_m = scene.targets.camera.K[0].numpy(), 1 / prediction.inverse_depth[0][0, 0].numpy()
    height, width = depth_m.shape
    y, x = np.mgrid[:height, :width]
    points = depth_m * np.einsum("ij,jhw->ihw", np.linalg.inv(K), np.stack([x, y, np.ones_like(x)]))

    def residual(picture: np.ndarray) -> np.ndarray:
        def mean(values: np.ndarray) -> np.ndarray:
            return scipy.ndimage.uniform_filter(values, size=(1, 3, 3), mode="mirror")

        mean_a, mean_b = mean(picture), mean(target)
        covariance = mean(picture * target) - mean_a * mean_b
        variances = mean(picture**2) - mean_a**2 + mean(target**2) - mean_b**2
        ssim = (
            (2 * mean_a * mean_b + 1e-4)
            * (2 * covariance + 9e-4)
            / ((mean_a**2 + mean_b**2 + 1e-4) * (variances + 9e-4))
        )
        return (0.85 * np.clip((1 - ssim) / 2, 0, 1) + 0.15 * np.abs(picture - target)).mean(0)

    candidates, seen_by_all = [residual(source) for source in sources], np.ones((height, width), bool)
    for source, T in zip(sources, prediction.T_source_target[0].numpy(), strict=True):
        moved = np.einsum("ij,jhw->ihw", K, np.einsum("ij,jhw->ihw", T[:3, :3], points) + T[:3, 3, None, None])
        u, v = moved[:2] / moved[2]
        view = np.stack([scipy.ndimage.map_coordinates(channel, [v, u], order=1, mode="nearest") for channel in source])
        candidates.append(residual(view))
        seen_by_all &= (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5)
    assert seen_by_all.mean() > 0.8
    ours = report(scene, prediction).maps["residual"][0, 0].numpy()
    np.testing.assert_allclose(ours[seen_by_all], np.min(candidates, axis=0)[seen_by_all], rtol=1e-9, atol=1e-9)


def test_terms_add_up_with_the_published_weights(make_scene: MakeScene) -> None:
    scene = make_scene(height=32, width=48)
    prediction = scene.prediction(depth_times=1.1, scales=4)
    full = report(scene, prediction)
    torch.testing.assert_close(sum(full.terms.values()), full.total.detach())
    assert set(full.terms) == {"photometric", "smoothness"}
    assert not any(value.requires_grad for value in (*full.terms.values(), *full.maps.values()))

    smoothness = 0.0
    for scale, inverse_depth in enumerate(prediction.inverse_depth):
        image = torch.nn.functional.avg_pool2d(scene.targets.image, 2**scale)
        smoothness += 1e-3 / 2**scale / 4 * edge_aware_smoothness(inverse_depth, image).item()
    assert full.terms["smoothness"].item() == pytest.approx(smoothness, rel=1e-9)
    each = [
        report(scene, replace(prediction, inverse_depth=(m,))).terms["photometric"].item()
        for m in prediction.inverse_depth
    ]
    assert full.terms["photometric"].item() == pytest.approx(sum(each) / 4, rel=1e-9)


@REPROJECTORS
def test_a_pixel_of_depth_touches_its_window_alone(make_scene: MakeScene, reprojector: Any) -> None:
    scene = make_scene()
    changed = scene.inverse_depth.clone()
    changed[..., 12, 20] *= 1.05
    a, b = (
        report(scene, scene.prediction(inverse_depth=d), reprojector=reprojector).maps["residual"]
        for d in (scene.inverse_depth, changed)
    )
    rows, columns = torch.nonzero((a - b)[0, 0], as_tuple=True)
    assert rows.min() >= 11
    assert rows.max() <= 13
    assert columns.min() >= 19
    assert columns.max() <= 21


def test_sources_that_train_depth_by_step() -> None:
    both, mono, stereo = ("-1", "+1", "stereo"), ("-1", "+1"), ("stereo",)
    later, never, always = (
        SelfSupervisedLoss(SelfSupervisedLossConfig(temporal_from_step=step)) for step in (100, None, 0)
    )
    assert later.split_sources(both, 99) == ([2], [0, 1])
    assert later.split_sources(both, 100) == ([0, 1, 2], [])
    assert never.split_sources(both, 10**9) == ([2], [0, 1])
    assert always.split_sources(both, 0) == ([0, 1, 2], [])
    for loss in (later, never):
        assert loss.split_sources(mono, 0) == ([0, 1], [])  # nothing else could train depth
        assert loss.split_sources(stereo, 0) == ([0], [])


@REPROJECTORS
def test_before_its_turn_time_trains_motion_but_not_depth(make_scene: MakeScene, reprojector: Any) -> None:
    scene, alone = make_scene(), make_scene(names=("stereo",))
    inverse_depth = (scene.inverse_depth * 0.9).requires_grad_()
    twist = (scene.twist * 1.1).requires_grad_()
    early = report(
        scene,
        scene.prediction(inverse_depth=inverse_depth, twist=twist),
        reprojector=reprojector,
        temporal_from_step=10,
        step=9,
    )
    depth_gradient, twist_gradient = torch.autograd.grad(early.total, (inverse_depth, twist))

    inverse_depth_alone = (alone.inverse_depth * 0.9).requires_grad_()
    twist_alone = scene.twist[:, 2:] * 1.1
    stereo = report(
        alone, alone.prediction(inverse_depth=inverse_depth_alone, twist=twist_alone), reprojector=reprojector
    )
    (expected,) = torch.autograd.grad(stereo.total, inverse_depth_alone)
    torch.testing.assert_close(depth_gradient, expected, rtol=1e-12, atol=1e-15)
    assert twist_gradient[:, :2].abs().amin() > 0
    torch.testing.assert_close(sum(early.terms.values()), early.total.detach())
    assert set(early.terms) == {"photometric", "motion", "smoothness"}
    assert early.terms["photometric"] == stereo.terms["photometric"]
    assert set(early.maps["winner"].unique().tolist()) <= {2, 5, -1}


@REPROJECTORS
def test_one_camera_trains_without_auto_mask_before_its_step(make_scene: MakeScene, reprojector: Any) -> None:
    scene = make_scene(names=("-1", "+1"))
    moved_little = scene.prediction(twist=scene.twist * 0.01)
    kwargs: dict[str, Any] = {"reprojector": reprojector, "pyramid": 2}

    def compare(step: int, **config: Any) -> LossReport:
        return report(scene, moved_little, step=step, **kwargs, **config)

    without, masked = compare(0, auto_mask=False), compare(0)
    assert compare(9, auto_mask_from_step=10).total == without.total != masked.total
    assert compare(10, auto_mask_from_step=10).total == masked.total
    assert compare(10, auto_mask_from_step=10, auto_mask=False).total == without.total
    early = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=2, auto_mask_from_step=10), reprojector=reprojector)
    road = torch.zeros_like(scene.targets.image[:, :1], dtype=torch.bool)
    assert early(scene.targets, moved_little, scene.source_names, 9, road=road).total == without.total


def test_runs_in_float32_under_autocast(make_scene: MakeScene) -> None:
    scene = make_scene(dtype=torch.float32)
    prediction = replace(scene.prediction(), inverse_depth=(scene.inverse_depth.bfloat16(),))
    plain = report(scene, replace(prediction, inverse_depth=(prediction.inverse_depth[0].float(),)))
    under_autocast = []

    class Watched(FusedReprojector):
        def bind_motion(self, T_source_target: Tensor) -> Callable[[Tensor], Reprojection]:
            under_autocast.append(torch.is_autocast_enabled("cpu"))
            return super().bind_motion(T_source_target)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = report(scene, prediction, reprojector=Watched)
    assert under_autocast == [False]
    assert mixed.total.dtype == torch.float32
    assert mixed.total == plain.total
    half = replace(scene, targets=scene.targets.to(torch.bfloat16))
    assert report(half, scene.prediction().to(torch.bfloat16)).total.dtype == torch.float32


def test_unwarped_residual_is_the_images_own(make_scene: MakeScene) -> None:
    scene = make_scene(names=("stereo",))
    lost = report(scene, scene.prediction(inverse_depth=torch.full_like(scene.inverse_depth, 200.0)))
    expected = photometric_residual(scene.targets.sources[:, 0], scene.targets.image)
    torch.testing.assert_close(lost.maps["residual"], expected, rtol=1e-12, atol=1e-14)


# -- why a pyramid: the loss at full size has no slope towards a match that is far away; at smaller sizes the match is


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
