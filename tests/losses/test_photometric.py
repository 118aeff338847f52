"""The residual against independent implementations, and the rules of the minimum, by hand."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from stadia.losses.reprojection import identity_reprojection, minimum_reprojection, photometric_residual, ssim_distance


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scipy_ssim_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One channel; scipy's "mirror" is the reflection that does not repeat the edge pixel."""

    def mean(x: np.ndarray) -> np.ndarray:
        return scipy.ndimage.uniform_filter(x, size=3, mode="mirror")

    covariance = mean(a * b) - mean(a) * mean(b)
    variance_a, variance_b = mean(a**2) - mean(a) ** 2, mean(b**2) - mean(b) ** 2
    luminance = (2 * mean(a) * mean(b) + 0.01**2) / (mean(a) ** 2 + mean(b) ** 2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return np.clip((1 - luminance * structure) / 2, 0, 1)


def test_ssim_distance_equals_scipy() -> None:
    a, b = images(2, 3, 7, 9, seed=1), images(2, 3, 7, 9, seed=2)
    expected = np.stack(
        [
            [scipy_ssim_distance(x, y) for x, y in zip(p, q, strict=True)]
            for p, q in zip(a.numpy(), b.numpy(), strict=True)
        ]
    )
    np.testing.assert_allclose(ssim_distance(a, b).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_ssim_distance_of_flat_windows_by_hand() -> None:
    a, b = torch.full((1, 1, 3, 3), 0.2, dtype=torch.float64), torch.full((1, 1, 3, 3), 0.6, dtype=torch.float64)
    similarity = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)  # no variance: structure is C2 / C2
    torch.testing.assert_close(ssim_distance(a, b), torch.full_like(a, (1 - similarity) / 2), rtol=1e-12, atol=1e-12)


def test_residual_weighs_ssim_and_difference_and_averages_channels() -> None:
    a, b = images(1, 3, 5, 6, seed=3), images(1, 3, 5, 6, seed=4)
    expected = (0.85 * ssim_distance(a, b) + 0.15 * (a - b).abs()).sum(1, keepdim=True) / 3
    torch.testing.assert_close(photometric_residual(a, b), expected)
    torch.testing.assert_close(photometric_residual(a, b, 0.0), (a - b).abs().mean(1, keepdim=True))


def test_residual_of_equal_images_is_zero_and_of_negatives_is_large() -> None:
    a = images(1, 3, 5, 6)
    assert photometric_residual(a, a).abs().max() < 1e-12
    assert photometric_residual(a, 1 - a).mean() > 0.5


def test_residual_is_local_to_its_window() -> None:
    a, b = images(1, 3, 9, 9, seed=5), images(1, 3, 9, 9, seed=6)
    changed = b.clone()
    changed[0, :, 4, 4] += 0.1
    difference = (photometric_residual(a, b) != photometric_residual(a, changed))[0, 0]
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[3:6, 3:6] = True
    assert torch.equal(difference, expected)


@pytest.mark.parametrize("ssim_weight", [0.0, 0.85, 1.0])
def test_residual_gradient(ssim_weight: float) -> None:
    a, b = images(1, 3, 4, 5, seed=7).requires_grad_(), images(1, 3, 4, 5, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: photometric_residual(x, y, ssim_weight), (a, b))


def maps(*values: list[float]) -> Tensor:
    """One row of pixels for each candidate: (1, N, 1, W)."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None]


EVERYWHERE = torch.ones(1, 2, 1, 4, dtype=torch.bool)


def test_minimum_is_per_pixel_and_over_candidates() -> None:
    residuals = maps([0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2])
    far = torch.ones_like(residuals)
    minimum = minimum_reprojection(residuals, EVERYWHERE, far, far)
    torch.testing.assert_close(minimum.residual[0, 0, 0], torch.tensor([0.1, 0.1, 0.2, 0.2], dtype=torch.float64))
    assert minimum.winner.flatten().tolist() == [0, 0, 1, 1]


def test_without_auto_mask_it_equals_monodepth2() -> None:
    residuals, unwarped = images(2, 2, 6, 7, seed=12), images(2, 2, 6, 7, seed=13)
    minimum = minimum_reprojection(
        residuals, torch.ones_like(residuals, dtype=torch.bool), unwarped, identity_reprojection(unwarped, ("-1", "+1"))
    )
    torch.testing.assert_close(
        minimum.residual, torch.cat([unwarped, residuals], dim=1).amin(1, keepdim=True), rtol=0, atol=0
    )
    masked = minimum.winner >= 2
    assert torch.equal(masked, unwarped.amin(1, keepdim=True) <= residuals.amin(1, keepdim=True))


def test_a_camera_at_rest_is_masked_and_trains_nothing() -> None:
    residuals = maps([0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3]).requires_grad_()
    minimum = minimum_reprojection(residuals, EVERYWHERE, residuals.detach(), residuals.detach())
    minimum.residual.sum().backward()
    assert minimum.winner.min() >= 2
    assert residuals.grad is not None
    assert not residuals.grad.any()


def test_a_camera_at_rest_does_not_blank_the_stereo_source() -> None:
    residuals = maps([0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.3, 0.1]).requires_grad_()
    unwarped = maps([0.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2])
    minimum = minimum_reprojection(residuals, EVERYWHERE, unwarped, identity_reprojection(unwarped, ("+1", "stereo")))
    minimum.residual.sum().backward()
    assert minimum.winner.flatten().tolist() == [
        1,
        1,
        2,
        1,
    ]  # pixel 2: nothing beats its own kind; the still frame stands
    torch.testing.assert_close(
        minimum.residual.flatten().detach(), torch.tensor([0.1, 0.1, 0.2, 0.1], dtype=torch.float64)
    )
    assert residuals.grad is not None
    assert residuals.grad[0, 1, 0].tolist() == [1, 1, 0, 1]


def test_a_candidate_out_of_view_leaves_the_pixel_to_the_others() -> None:
    residuals = maps([0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2]).requires_grad_()
    seen = torch.tensor([[True, False, True, False], [True, True, False, False]])[None, :, None]
    unwarped = torch.full_like(residuals, 0.5).detach()
    minimum = minimum_reprojection(residuals, seen, unwarped, unwarped)
    minimum.residual.sum().backward()
    assert minimum.winner.flatten().tolist() == [0, 1, 0, -1]
    assert minimum.nearest.flatten().tolist() == [0, 1, 0, -1]
    torch.testing.assert_close(
        minimum.residual.flatten().detach(), torch.tensor([0.1, 0.2, 0.1, 0.5], dtype=torch.float64)
    )
    assert residuals.grad is not None
    assert residuals.grad[0, :, 0].tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]


def test_without_auto_mask_the_best_visible_candidate_always_trains() -> None:
    residuals = maps([0.9, 0.9, 0.9, 0.9], [0.8, 0.8, 0.8, 0.8])
    unwarped = torch.full_like(residuals, 0.1)
    minimum = minimum_reprojection(residuals, EVERYWHERE, unwarped, unwarped, auto_mask=False)
    assert minimum.winner.flatten().tolist() == [1, 1, 1, 1]
    assert minimum.residual.flatten().tolist() == [0.8] * 4
