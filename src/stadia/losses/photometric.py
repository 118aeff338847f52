"""Photometric residual, minimum reprojection, auto-mask, uncertainty weighting and affine brightness.

Godard et al., "Digging into self-supervised monocular depth estimation" (Monodepth2, arXiv 1806.01260), section 3;
D3VO, arXiv 2003.01060.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import GeometryError
from stadia.core.types import Prediction, is_temporal

# Keep SSIM finite in flat, dark windows; for images in [0, 1] (Wang et al. 2004, eq. 13).
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def _window_mean(x: Tensor) -> Tensor:
    """Average 3x3 windows of (B, C, H, W); the border is reflected."""
    return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def window_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance over 3x3 windows, each (B, C, H, W)."""
    mean = _window_mean(x)
    return mean, _window_mean(x * x) - mean * mean


def ssim_distance(a: Tensor, b: Tensor) -> Tensor:
    """Compute (1 - SSIM) / 2 over 3x3 windows, clamped to [0, 1].

    Args:
        a, b: (B, C, H, W) images in [0, 1]; H, W at least 2.

    Returns: (B, C, H, W), 0 for equal windows.
    Source: Wang et al., "Image quality assessment", IEEE TIP 2004, eq. 13; mean windows as in Monodepth2.
    """
    (mean_a, variance_a), (mean_b, variance_b) = window_statistics(a), window_statistics(b)
    covariance = _window_mean(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity = similarity / ((mean_a * mean_a + mean_b * mean_b + SSIM_C1) * (variance_a + variance_b + SSIM_C2))
    return ((1 - similarity) / 2).clamp(0, 1)


def photometric_residual(a: Tensor, b: Tensor, ssim_weight: float = 0.85) -> Tensor:
    """Combine `ssim_weight` of the SSIM distance with the rest of the absolute difference (Monodepth2, eq. 2).

    Args:
        a, b: (B, 3, H, W) images in [0, 1].

    Returns: (B, 1, H, W), the mean over channels. Channels are averaged before the minimum over sources, since
        otherwise each channel of a pixel could come from another source.
    """
    distance = ssim_weight * ssim_distance(a, b) + (1 - ssim_weight) * (a - b).abs()
    return distance.mean(dim=1, keepdim=True)


def identity_reprojection(unwarped: Tensor, source_names: Sequence[str]) -> Tensor:
    """Return the residual that a warped source must beat: the least unwarped one of its own kind, temporal or rig.

    Monodepth2 takes the least over all sources. With a stereo rig this masks the stereo source wherever the image is
    constant in time (a waiting car, or one ahead at equal speed), although the pair measures depth there. For mono or
    stereo alone both rules are the same.

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
class MinimumReprojection:
    """The per-pixel minimum over N candidates.

    residual: (B, 1, H, W), differentiable with respect to the winner's residual only.
    winner: (B, 1, H, W) int8: i < N for warped source i, N + i for unwarped source i, -1 if no source sees the pixel.
    nearest: (B, 1, H, W) int8: the visible candidate of least residual, masked or not; -1 if no source sees the pixel.
    unmasked: (B, 1, H, W) residual of `nearest`, or `residual` if no source sees the pixel; no gradient.
    """

    residual: Tensor
    winner: Tensor
    nearest: Tensor
    unmasked: Tensor


def minimum_reprojection(
    residuals: Tensor, seen: Tensor, unwarped: Tensor, identity_residual: Tensor, *, auto_mask: bool = True
) -> MinimumReprojection:
    """Take the per-pixel minimum over visible candidates that, with `auto_mask`, beat the unwarped sources.

    A candidate competes where it projects into its source's image and, with `auto_mask`, where its residual is *less*
    than `identity_residual`. So ties (a camera at rest) are always masked, without the random noise of Monodepth2.
    Between equal candidates the first wins.

    Pixels without a competing candidate get the constant `identity_residual` and no gradient, and the mean stays over
    all pixels. So neither leaving the frame nor masking lowers the loss, and a pixel weighs the same in any batch.
    (With several kinds it is the largest `identity_residual`, so that the value never decreases in a residual.)
    Monodepth2 pads with the border instead: outside the frame it compares edge pixels, which can win by chance and
    train depth on a false match. This matters for a single source; with temporal neighbors and stereo almost every
    pixel is visible.

    Args:
        residuals: (B, N, H, W) of the warped candidates.
        seen: (B, N, H, W) bool, true where the candidate projects into its source's image.
        unwarped: (B, N, H, W) residuals of the sources as recorded; no gradient.
        identity_residual: (B, N, H, W) from `identity_reprojection`; no gradient.
    """
    count = residuals.shape[1]
    nothing = torch.inf
    best_seen, nearest = residuals.detach().masked_fill(~seen, nothing).min(dim=1, keepdim=True)
    competes = seen & (residuals.detach() < identity_residual) if auto_mask else seen
    best, winner = residuals.masked_fill(~competes, nothing).min(dim=1, keepdim=True)
    trains = competes.any(dim=1, keepdim=True)
    any_seen = best_seen < nothing
    fallback = identity_residual.amax(dim=1, keepdim=True)
    identity_winner = count + unwarped.argmin(dim=1, keepdim=True)
    return MinimumReprojection(
        residual=torch.where(trains, best, fallback),
        winner=torch.where(trains, winner, identity_winner.masked_fill(~any_seen, -1)).to(torch.int8),
        nearest=nearest.masked_fill(~any_seen, -1).to(torch.int8),
        unmasked=torch.where(any_seen, best_seen, fallback),
    )


# -- auto-mask exception for the road: while the camera moves, road pixels always train
#
# A road has little texture. Where its depth is wrong, the unwarped image explains it better, the auto-mask removes it,
# and nothing corrects it (FUMET, arXiv 2312.04530; its code unmasks the road unless 3/4 of the image are masked).

MIN_MASKED_SHARE_AT_REST = 0.75
"""Share of masked pixels from which the camera is at rest; the road is then masked too."""


def lift_auto_mask_from_road(
    minimum: MinimumReprojection, identity_residual: Tensor, best_identity: Tensor, road: Tensor
) -> MinimumReprojection:
    """Apply the auto-mask to a minimum computed without it, except on the road of moving images.

    Args:
        minimum: of candidates of one kind, temporal or rig (`minimum_reprojection(..., auto_mask=False)`).
        identity_residual: (B, 1, H, W) residual of the unwarped images.
        best_identity: (B, 1, H, W) index of the best unwarped image, as a winner.
        road: (B, 1, H, W) bool.

    For candidates of one kind, mask and minimum can be applied in either order.
    """
    unseen = minimum.winner < 0
    masked = unseen | (minimum.residual.detach() >= identity_residual)
    moves = masked.flatten(1).float().mean(1) < MIN_MASKED_SHARE_AT_REST
    masked_out = masked & ~(road & moves[:, None, None, None])
    winner = torch.where(masked_out & ~unseen, best_identity.to(minimum.winner.dtype), minimum.winner)
    return replace(minimum, residual=torch.where(masked_out, identity_residual, minimum.residual), winner=winner)


def weight_by_uncertainty(residual: Tensor, log_uncertainty: Tensor) -> Tensor:
    """Compute r / Sigma + log Sigma at each pixel (D3VO, arXiv 2003.01060, eq. 7; Kendall and Gal, arXiv 1703.04977).

    For a fixed residual the minimum is at Sigma = r, where it is 1 + log r: *below 0 for r < 1 / e*, which is correct.
    The slope in the residual is 1 / Sigma, so well explained pixels count more. Sigma belongs to the target pixel: it
    weights the minimum over the sources, not its candidates.

    Args:
        residual: (B, 1, H, W).
        log_uncertainty: (B, 1, H, W) log Sigma, which needs no floor and has bounded slopes.

    Returns: (B, 1, H, W). Raises GeometryError if the shapes differ, since (B, H, W) would broadcast over sample pairs.
    """
    if residual.shape != log_uncertainty.shape:
        found, expected = f"shape {tuple(log_uncertainty.shape)}", f"{tuple(residual.shape)}, the residual's"
        fix = "pass one map of one channel for each sample"
        raise GeometryError("log uncertainty", found=found, expected=expected, fix=fix)
    return residual * (-log_uncertainty).exp() + log_uncertainty


# -- affine brightness between images of one scene: exposure changes that no depth explains
#
# Here and in `Prediction.brightness` a source has a pair (a, b) for which a * target + b matches its brightness. It
# changes the *target*, never the warped view (D3VO, arXiv 2003.01060, eq. 3 to 5): a view could be faded out by a = 0
# until its residual vanishes. Values are not clamped to [0, 1]; (a, b) does not hold for saturated pixels.

MAX_DARK, MIN_BRIGHT = 0.02, 0.98
"""Pixels with all channels at most MAX_DARK, or all at least MIN_BRIGHT, are saturated."""


def find_saturated_pixels(images: Tensor) -> Tensor:
    """Map (..., 3, H, W) in [0, 1] to (..., 1, H, W) bool: all channels at one end, so pure colors do not count."""
    return (images.amin(dim=-3, keepdim=True) >= MIN_BRIGHT) | (images.amax(dim=-3, keepdim=True) <= MAX_DARK)


def apply_brightness(images: Tensor, target: Tensor, brightness: Tensor) -> Tensor:
    """Return the target with the brightness of each image that it is compared with.

    Pixels that are saturated in either image keep the target's value, since gain and offset do not hold there.

    Args:
        images: (B, N, 3, H, W), views or sources.
        target: (B, 3, H, W).
        brightness: (B, N, 2) gain and offset.

    Returns: (B, N, 3, H, W), differentiable with respect to the brightness.
    """
    gain, offset = brightness[..., None, None, None].unbind(dim=2)
    target = target[:, None]
    return torch.where(find_saturated_pixels(target) | find_saturated_pixels(images), target, gain * target + offset)


def brightness_penalty(brightness: Tensor) -> Tensor:
    """Mean over samples of the sum over sources of (a - 1)^2 + b^2, for brightness (B, N, 2) (D3VO, supplement)."""
    gain, offset = brightness.unbind(-1)
    return ((gain - 1).square() + offset.square()).sum(dim=1).mean()


class BrightnessGate(nn.Module):
    """Keep brightness at (1, 0) until warped sources beat unwarped ones, then pass it for good.

    While depth and motion are wrong, view and target are unrelated, and the best gain between unrelated images is near
    0. A network that learns it fades the target out, and depth never trains. So the gate opens only when the ratio of
    warped to unwarped residual, averaged over about the last `STEPS` steps, falls below `BEATEN`.

    Its state is in buffers, so that checkpoints hold it, resumed runs continue it, and all processes share it.

    Args:
        from_step: open at this step at the latest; None: only by the ratio.
    """

    BEATEN, STEPS = 0.8, 100

    ratio: Tensor  # () running mean of the warped residual over the unwarped one; 1 at the start
    is_open: Tensor  # () bool
    unchanged: Tensor  # (2,) no change of brightness

    def __init__(self, from_step: int | None = None) -> None:
        super().__init__()
        self.from_step = from_step
        self.register_buffer("ratio", torch.ones(()))
        self.register_buffer("is_open", torch.zeros((), dtype=torch.bool))
        self.register_buffer("unchanged", torch.tensor([1.0, 0.0]), persistent=False)

    def forward(self, prediction: Prediction, step: int) -> Prediction:
        """Return the prediction, with brightness (1, 0) and no gradient while the gate is closed."""
        if prediction.brightness is None or (self.from_step is not None and step >= self.from_step):
            return prediction
        unchanged = self.unchanged.to(prediction.brightness.dtype)
        is_open = self.is_open.clone()  # `update` may change the buffer before the backward pass
        return replace(prediction, brightness=torch.where(is_open, prediction.brightness, unchanged))

    @torch.no_grad()
    def update(self, warped_over_unwarped: Tensor) -> None:
        """Update the ratio with a training step's `LossReport.logged["warped_over_unwarped"]`."""
        self.ratio.lerp_(warped_over_unwarped.to(self.ratio.dtype), 1 / self.STEPS)
        self.is_open |= self.ratio < self.BEATEN
