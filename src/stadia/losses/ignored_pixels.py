"""Leave pixels out of a comparison: the ignored region, and pixels that a source explains by its own ignored region."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.warp import reproject
from stadia.losses.auto_mask import MinimumReprojection
from stadia.losses.reprojection import Reprojection, ReprojectionInputs


def widen_region(ignored: Tensor) -> Tensor:
    """Return (B, 1, H, W) bool, one pixel wider: a window of SSIM beside the region sees into it.

    Examples:
        >>> ignored = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
        >>> ignored[..., 2, 2] = True
        >>> widen_region(ignored).sum().item()
        9
    """
    return functional.max_pool2d(ignored.float(), kernel_size=3, stride=1, padding=1) > 0


@torch.no_grad()
def find_left_out(
    ignored: Tensor, winner: Tensor, inverse_depth: Tensor, images: ReprojectionInputs, T_source_target: Tensor
) -> Tensor:
    """Return (B, 1, H, W) bool: ignored pixels, and those whose winning source shows its own ignored region there.

    Args:
        ignored: (B, 1, H, W) bool, of target and sources alike.
        winner: of `MinimumReprojection`, (B, 1, H, W).
        inverse_depth: (B, 1, H, W).
        images: target, sources and cameras.
        T_source_target: (B, N, 4, 4).
    """
    camera = Camera(images.camera.K[:, None], images.camera.height, images.camera.width)
    depth_m = depth_from_inverse(inverse_depth)[:, None]
    pixels, _ = reproject(depth_m, camera, images.source_camera, T_source_target)
    height, width = ignored.shape[-2:]
    column = pixels[:, :, 0].round().clamp(0, width - 1).long()
    row = pixels[:, :, 1].round().clamp(0, height - 1).long()
    shown = ignored.flatten(1).gather(1, (row * width + column).flatten(1)).view_as(row)  # (B, N, H, W)
    count = shown.shape[1]
    own = shown.gather(1, winner.long().clamp(0, count - 1)) & (winner >= 0) & (winner < count)
    return ignored | own


def leave_out(comparison: Reprojection, left_out: Tensor) -> Reprojection:
    """Return the comparison without these pixels (B, 1, H, W): their residuals are 0, and they have no winner.

    The other residuals of an image grow by the share that is left, so that the mean over its pixels is the mean over
    those that count.
    """
    counted = (~left_out).to(comparison.identity_residual.dtype)
    factor = counted / counted.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1 / counted[0].numel())
    minimum = comparison.minimum
    kept = MinimumReprojection(
        residual=minimum.residual * factor,
        winner=minimum.winner.masked_fill(left_out, -1),
        nearest=minimum.nearest.masked_fill(left_out, -1),
        unmasked=minimum.unmasked * factor,
    )
    return replace(
        comparison, minimum=kept, mean=kept.residual.mean(), identity_residual=comparison.identity_residual * factor
    )
