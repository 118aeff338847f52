"""Auto-mask exception for the road: while the camera moves, road pixels always train.

A road has little texture. Where its depth is wrong, the unwarped image explains it better, the auto-mask removes it,
and nothing corrects it (FUMET, arXiv 2312.04530; its code unmasks the road unless 3/4 of the image are masked).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stadia.losses.photometric import Minimum

MIN_MASKED_SHARE_AT_REST = 0.75
"""Share of masked pixels from which the camera is at rest; the road is then masked too."""


def lift_auto_mask_from_road(
    minimum: Minimum, identity_residual: Tensor, best_identity: Tensor, road: Tensor
) -> Minimum:
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
