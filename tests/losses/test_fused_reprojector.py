"""The compiled loops give the values and gradients of their readable twin."""

from typing import Any

import pytest
import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.poses import se3_exp
from stadia.losses.cpu.fused_reprojector import FusedReprojector
from stadia.losses.reprojection import Reprojection, ReprojectionInputs, TorchReprojector

pytestmark = pytest.mark.slow  # its fixtures train or compile

NAMES = ("-1", "+1", "stereo")


def disorder(
    batch: int, count: int, height: int, width: int, *, spread: float = 1.0, dtype: torch.dtype = torch.float64
) -> Any:
    """Images, inverse depth and transforms with everything in them: views that end, points behind, depths that are
    none.
    """
    generator = torch.Generator().manual_seed(batch + 10 * count + 100 * height)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    coarse = random(batch * (count + 1), 3, max(height // 3, 2), max(width // 3, 2))
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").view(
        batch, count + 1, 3, height, width
    )
    images[..., : height // 4, : width // 4] = 1.0  # an overexposed, flat corner
    K = torch.tensor(
        [[0.6 * width, 0.0, 0.48 * width], [0.0, 1.9 * height, 0.47 * height], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
    inverse_depth = 0.05 + 2 * random(batch, 1, height, width)
    inverse_depth[..., height // 2, : width // 3] = 0.0
    T_source_target = se3_exp(spread * (random(batch, count, 6) - 0.5) * torch.tensor([1.0, 1.0, 3.0, 0.1, 0.1, 0.1]))
    scene = ReprojectionInputs(
        images[:, 0].to(dtype),
        Camera(K.expand(batch, 3, 3).to(dtype), height, width),
        images[:, 1:].to(dtype),
        Camera((K * torch.tensor([[1.1], [0.9], [1.0]])).expand(batch, count, 3, 3).to(dtype), height, width),
        NAMES[3 - count :],
        saturation=(0.2, 0.8),
    )
    return scene, inverse_depth.to(dtype), T_source_target.to(dtype)


def exposures(scene: ReprojectionInputs) -> Tensor:
    """(B, N, 2): each source of each sample brighter or darker than the target, by its own gain and offset."""
    batch, count = scene.sources.shape[:2]
    steps = torch.linspace(-1, 1, batch * count, dtype=scene.target.dtype).view(batch, count)
    return torch.stack((1 - 0.4 * steps, 0.1 * steps.flip(-1) + 0.03), dim=-1)


def compare(
    reprojector: Any,
    scene: ReprojectionInputs,
    inverse_depth: Tensor,
    T_source_target: Tensor,
    *,
    auto_mask: bool = True,
    brightness: Tensor | None = None,
) -> tuple[Any, ...]:
    """The comparison, and what an uneven weighting of its residual sends back: to inverse depth, transforms, and
    brightness if there is.
    """
    leaves = [x.clone().requires_grad_() for x in (inverse_depth, T_source_target, brightness) if x is not None]
    brightness = None if brightness is None else leaves[2]
    result: Reprojection = reprojector(scene, ssim_weight=0.85, auto_mask=auto_mask, brightness=brightness)(*leaves[:2])
    weights = torch.linspace(0.5, 1.5, result.minimum.residual.numel(), dtype=inverse_depth.dtype).view_as(
        result.minimum.residual
    )
    gradients = torch.autograd.grad((weights * result.minimum.residual).mean(), leaves)
    return result, *gradients


@pytest.mark.parametrize("bright", [False, True], ids=["plain", "brightness"])
@pytest.mark.parametrize("auto_mask", [True, False])
@pytest.mark.parametrize("size", [(1, 1, 2, 2), (1, 2, 3, 5), (2, 3, 37, 53), (1, 3, 65, 33), (3, 2, 32, 64)], ids=str)
def test_same_values_and_gradients(size: tuple[int, int, int, int], auto_mask: bool, bright: bool) -> None:
    scene = disorder(*size)
    brightness = exposures(scene[0]) if bright else None
    fused, *fused_gradients = compare(FusedReprojector, *scene, auto_mask=auto_mask, brightness=brightness)
    readable, *gradients = compare(TorchReprojector, *scene, auto_mask=auto_mask, brightness=brightness)
    assert torch.equal(fused.minimum.winner, readable.minimum.winner)
    assert torch.equal(fused.minimum.nearest, readable.minimum.nearest)
    for a, b in (
        (fused.minimum.residual, readable.minimum.residual),
        (fused.minimum.unmasked, readable.minimum.unmasked),
        (fused.identity_residual, readable.identity_residual),
        (fused.views, readable.views),
        (fused.nearest_view(), readable.nearest_view()),
        *zip(fused_gradients, gradients, strict=True),
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * max(1.0, b.detach().abs().max().item()))


def test_saturated_pixels_train_no_brightness() -> None:
    scene, inverse_depth, T_source_target = disorder(1, 2, 12, 17)
    scene = ReprojectionInputs(
        torch.full_like(scene.target, 0.99), scene.camera, scene.sources, scene.source_camera, scene.source_names
    )
    for reprojector in (FusedReprojector, TorchReprojector):
        bright, *_, slope = compare(
            reprojector, scene, inverse_depth, T_source_target, auto_mask=False, brightness=exposures(scene)
        )
        plain, *_ = compare(reprojector, scene, inverse_depth, T_source_target, auto_mask=False)
        torch.testing.assert_close(bright.minimum.residual, plain.minimum.residual, rtol=1e-12, atol=1e-12)
        assert not slope.any()


def test_same_in_float32() -> None:
    scene = disorder(2, 3, 64, 96, spread=0.3, dtype=torch.float32)
    fused, fused_depth, fused_T = compare(FusedReprojector, *scene)
    readable, depth, T = compare(TorchReprojector, *scene)
    assert fused.minimum.residual.dtype == fused_depth.dtype == torch.float32
    assert (fused.minimum.winner != readable.minimum.winner).float().mean() < 1e-3
    assert ((fused.minimum.residual - readable.minimum.residual).abs() > 1e-5).float().mean() < 1e-3
    assert ((fused_depth - depth).abs() > 1e-5 * depth.abs().max()).float().mean() < 2e-3
    torch.testing.assert_close(fused_T, T, rtol=1e-3, atol=1e-3 * T.abs().max().item())


def test_gradient_of_compiled_loops() -> None:
    scene, inverse_depth, T_source_target = disorder(1, 2, 5, 6, spread=0.3)
    reprojector = FusedReprojector(scene, ssim_weight=0.85, auto_mask=True)
    inputs = ((inverse_depth + 0.01).requires_grad_(), T_source_target.requires_grad_())
    assert torch.autograd.gradcheck(lambda d, T: reprojector(d, T).minimum.residual, inputs, eps=1e-7, atol=1e-6)

    def bright(inverse_depth: Tensor, T_source_target: Tensor, brightness: Tensor) -> Tensor:
        reprojector = FusedReprojector(scene, ssim_weight=0.85, auto_mask=False, brightness=brightness)
        minimum = reprojector(inverse_depth, T_source_target).minimum
        return minimum.residual * (
            minimum.winner >= 0
        )  # what is not seen stands at its unwarped residual, a constant for the slope alone

    assert torch.autograd.gradcheck(bright, (*inputs, exposures(scene).requires_grad_()), eps=1e-7, atol=1e-6)


def test_gradient_reaches_the_intrinsics() -> None:
    scene, inverse_depth, T_source_target = disorder(1, 2, 12, 17)
    gradients = []
    for reprojector in (FusedReprojector, TorchReprojector):
        K = scene.source_camera.K.clone().requires_grad_()
        learnt = ReprojectionInputs(scene.target, scene.camera, scene.sources, Camera(K, 12, 17), scene.source_names)
        residual = reprojector(learnt, ssim_weight=0.85, auto_mask=True)(
            inverse_depth, T_source_target
        ).minimum.residual
        gradients += torch.autograd.grad(residual.mean(), K)
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)
    assert gradients[0].any()


def test_the_number_of_threads_changes_no_digit() -> None:
    scene = disorder(2, 3, 140, 40, dtype=torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            result, *gradients = compare(FusedReprojector, *scene, brightness=exposures(scene[0]))
            results.append((result.minimum.residual, *gradients))
    finally:
        torch.set_num_threads(threads)
    for one, several in zip(*results, strict=True):
        assert torch.equal(one, several)
