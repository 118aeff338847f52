"""How well one image explains another, per pixel, and which of several explains it best.

Godard et al., "Digging into self-supervised monocular depth estimation" (Monodepth2, arXiv 1806.01260), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import is_temporal

C1, C2 = 0.01**2, 0.03**2  # keep SSIM finite in flat, dark windows; for images in [0, 1] (Wang et al. 2004, eq. 13)


def _window_mean(x: Tensor) -> Tensor:
    """(B, C, H, W) means over 3x3 windows; the border is reflected."""
    return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def window_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over 3x3 windows, each (B, C, H, W)."""
    mean = _window_mean(x)
    return mean, _window_mean(x * x) - mean * mean


def ssim_distance(a: Tensor, b: Tensor) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2 over 3x3 windows, clamped to [0, 1].

    Args:
        a, b: (B, C, H, W) images in [0, 1]; H, W at least 2.

    Returns: (B, C, H, W), 0 where the windows are equal.
    Source: Wang et al., "Image quality assessment", IEEE TIP 2004, eq. 13; mean windows as in Monodepth2.
    """
    (mean_a, variance_a), (mean_b, variance_b) = window_statistics(a), window_statistics(b)
    covariance = _window_mean(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    similarity = similarity / ((mean_a * mean_a + mean_b * mean_b + C1) * (variance_a + variance_b + C2))
    return ((1 - similarity) / 2).clamp(0, 1)


def photometric_residual(a: Tensor, b: Tensor, ssim_weight: float = 0.85) -> Tensor:
    """`ssim_weight` parts structural dissimilarity and the rest absolute difference (Monodepth2, eq. 2).

    Args:
        a, b: (B, 3, H, W) images in [0, 1].

    Returns: (B, 1, H, W), the mean over the channels. Channels are averaged before candidates compete: a minimum over
        channels would let each color of a pixel come from another source.
    """
    distance = ssim_weight * ssim_distance(a, b) + (1 - ssim_weight) * (a - b).abs()
    return distance.mean(dim=1, keepdim=True)


def residual_to_beat(unwarped: Tensor, source_names: Sequence[str]) -> Tensor:
    """What a warped source has to beat at each pixel: the best unwarped source of its own kind, in time or of the rig.

    Monodepth2 holds the best unwarped source of all against each candidate. With a stereo rig that blanks the stereo
    source wherever the image does not change in time, a waiting car or one ahead at our own speed, although the pair
    measures just these well. For mono alone and for stereo alone the two rules are the same.

    Args:
        unwarped: (B, N, H, W) residuals of the sources as recorded.
        source_names: N names.

    Returns: (B, N, H, W).
    """
    least: dict[bool, Tensor] = {}
    for residual, name in zip(unwarped.unbind(1), source_names, strict=True):
        kind = is_temporal(name)
        least[kind] = torch.minimum(least[kind], residual) if kind in least else residual
    return torch.stack([least[is_temporal(name)] for name in source_names], dim=1)


@dataclass(frozen=True, slots=True)
class Minimum:
    """The per-pixel minimum over N candidates.

    residual: (B, 1, H, W), differentiable with respect to the residual of the winner alone.
    winner: (B, 1, H, W) int8: i < N for warped candidate i, N + i where unwarped i stands instead, -1 where none sees
        the pixel.
    nearest: (B, 1, H, W) int8: the seen candidate of least residual, masked or not; -1 where none sees the pixel.
    unmasked: (B, 1, H, W) the residual of `nearest`, and what the residual is where none sees the pixel; no gradient.
    """

    residual: Tensor
    winner: Tensor
    nearest: Tensor
    unmasked: Tensor


def minimum_reprojection(
    residuals: Tensor, seen: Tensor, unwarped: Tensor, to_beat: Tensor, *, auto_mask: bool = True
) -> Minimum:
    """Per pixel, the least residual of the candidates that see it and, with `auto_mask`, beat the unwarped sources.

    A candidate competes where it projects into its source's image and, with `auto_mask`, where its residual is *less*
    than `to_beat`. The strict rule settles ties (a camera at rest: warped equals unwarped) in favor of the mask, always
    and without the random noise that Monodepth2 adds; between equal candidates the first wins.

    Where none competes the pixel stands at `to_beat`, a constant: it trains nothing, and the mean is still over all
    pixels. So neither leaving the frame nor being masked lowers the loss, and a pixel weighs the same in any batch.
    (With several kinds it is the largest of their `to_beat`, which keeps the value non-decreasing in every residual.)
    Monodepth2 instead repeats the border: outside the frame each candidate is compared with a smear of edge pixels,
        which
    wins by chance and then trains depth on a match that is not there. It matters where one source is all there is: with
    neighbors in time beside the stereo partner, nearly every pixel is seen by some source.

    Args:
        residuals: (B, N, H, W) of the warped candidates.
        seen: (B, N, H, W) bool, the candidate projects inside its source's image.
        unwarped: (B, N, H, W) residuals of the sources as recorded; no gradient.
        to_beat: (B, N, H, W) from `residual_to_beat`; no gradient.
    """
    count = residuals.shape[1]
    nothing = torch.inf
    best_seen, nearest = residuals.detach().masked_fill(~seen, nothing).min(dim=1, keepdim=True)
    competes = seen & (residuals.detach() < to_beat) if auto_mask else seen
    best, winner = residuals.masked_fill(~competes, nothing).min(dim=1, keepdim=True)
    trains = competes.any(dim=1, keepdim=True)
    any_seen = best_seen < nothing
    fallback = to_beat.amax(dim=1, keepdim=True)
    stands = count + unwarped.argmin(dim=1, keepdim=True)
    return Minimum(
        residual=torch.where(trains, best, fallback),
        winner=torch.where(trains, winner, stands.masked_fill(~any_seen, -1)).to(torch.int8),
        nearest=nearest.masked_fill(~any_seen, -1).to(torch.int8),
        unmasked=torch.where(any_seen, best_seen, fallback),
    )
