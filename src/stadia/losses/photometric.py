"""Photometric residual of two images: SSIM and absolute difference (Monodepth2, arXiv 1806.01260, section 3)."""

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import GeometryError

# Keep SSIM finite in flat, dark windows; for images in [0, 1] (Wang et al. 2004, eq. 13).
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def _window_mean(x: Tensor) -> Tensor:
    return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def window_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of images x (B, C, H, W) over 3x3 windows, each (B, C, H, W).

    Examples:
        >>> mean, variance = window_statistics(torch.full((1, 1, 4, 4), 0.5))
        >>> (mean.unique().tolist(), variance.abs().max().item())
        ([0.5], 0.0)
    """
    mean = _window_mean(x)
    return mean, _window_mean(x * x) - mean * mean


def ssim_distance(a: Tensor, b: Tensor, statistics_b: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Return (1 - SSIM) / 2 over 3x3 windows, clamped to [0, 1], (B, C, H, W). It is 0 for equal windows.

    a, b: (B, C, H, W) images in [0, 1], with H and W at least 2.
    statistics_b: `window_statistics(b)`, if already computed.

    Source: Wang et al., IEEE TIP 2004, eq. 13, with mean windows as in Monodepth2.

    Examples:
        >>> image = torch.rand(1, 3, 8, 8)
        >>> ssim_distance(image, image).abs().max().item() < 1e-6
        True
    """
    mean_a, variance_a = window_statistics(a)
    mean_b, variance_b = statistics_b or window_statistics(b)
    covariance = _window_mean(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity = similarity / ((mean_a * mean_a + mean_b * mean_b + SSIM_C1) * (variance_a + variance_b + SSIM_C2))
    return ((1 - similarity) / 2).clamp(0, 1)


def photometric_residual(
    a: Tensor, b: Tensor, ssim_weight: float = 0.85, statistics_b: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return the weighted sum of SSIM distance and absolute difference, averaged over channels, (B, 1, H, W).

    a, b: (B, 3, H, W) images in [0, 1].
    ssim_weight: weight of the SSIM distance; the absolute difference has the rest.
    statistics_b: `window_statistics(b)`, if already computed.

    Examples:
        >>> image = torch.rand(1, 3, 8, 8)
        >>> photometric_residual(image, image).abs().max().item()
        0.0
    """
    distance = ssim_weight * ssim_distance(a, b, statistics_b) + (1 - ssim_weight) * (a - b).abs()
    return distance.mean(dim=1, keepdim=True)


def squared_residual(
    a: Tensor, b: Tensor, ssim_weight: float = 0.0, statistics_b: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return the squared difference of images (B, 3, H, W), averaged over channels, (B, 1, H, W).

    Examples:
        >>> squared_residual(torch.full((1, 3, 4, 4), 0.7), torch.full((1, 3, 4, 4), 0.2)).mean().item()
        0.25
    """
    return (a - b).square().mean(dim=1, keepdim=True)


PATCH = ((0, -2), (-1, -1), (1, -1), (-2, 0), (0, 0), (2, 0), (-1, 1), (0, 2))
"""Offsets (x, y) of the eight pixels of a patch (DSO, arXiv 1607.02565, figure 4)."""

HUBER = 9 / 255
"""Difference at which DSO's Huber norm becomes linear."""


def patch_residual(
    a: Tensor, b: Tensor, ssim_weight: float = 0.0, statistics_b: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return Huber's norm of a - b, two images (B, 3, H, W), averaged over patches of eight pixels, (B, 1, H, W).

    Borders are repeated. The norm is divided by HUBER, so that its slope is 1 (DSO, arXiv 1607.02565, eq. 4).

    Examples:
        >>> round(patch_residual(torch.full((1, 3, 9, 9), 0.7), torch.full((1, 3, 9, 9), 0.2)).mean().item(), 4)
        0.4824
    """
    values = functional.huber_loss(a, b, reduction="none", delta=HUBER).mean(dim=1, keepdim=True) / HUBER
    height, width = values.shape[-2:]
    padded = functional.pad(values, (2, 2, 2, 2), mode="replicate")
    shifted = [padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dx, dy in PATCH]
    return torch.stack(shifted).mean(dim=0)


# -- uncertainty of the residual (D3VO)


def weight_by_uncertainty(residual: Tensor, log_uncertainty: Tensor) -> Tensor:
    """Return r / Sigma + log Sigma at each pixel, (B, 1, H, W), for a residual r and log Sigma.

    For a fixed residual the minimum is 1 + log r at Sigma = r. It is correct that it is *below 0 for r < 1 / e*. Sigma
    weights the minimum over the sources.

    residual, log_uncertainty: (B, 1, H, W).

    Raises GeometryError if the shapes differ. Source: D3VO, arXiv 2003.01060, eq. 7; Kendall and Gal, arXiv 1703.04977.

    Examples:
        >>> r = torch.full((1, 1, 1, 1), 0.5)
        >>> round(weight_by_uncertainty(r, r.log()).item(), 4)  # 1 + ln r, the minimum for this residual
        0.3069
    """
    if residual.shape != log_uncertainty.shape:
        found, expected = f"shape {tuple(log_uncertainty.shape)}", f"{tuple(residual.shape)}, the residual's"
        fix = "pass one map of one channel for each sample"
        raise GeometryError("log uncertainty", found=found, expected=expected, fix=fix)
    return residual * (-log_uncertainty).exp() + log_uncertainty
