"""The road and the auto-mask: a road that moves past is compared, however well the unwarped image explains it.

A road has little texture, so where its depth is wrong the unwarped image explains it better, the auto-mask takes it
out, and nothing is left to correct it (FUMET, arXiv 2312.04530; its code unmasks the road unless three quarters of the
image are masked).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stadia.losses.photometric import Minimum

AT_REST = 0.75
"""Of an image's pixels masked, and the camera stands: then the road is masked as well."""


def masked_but_for_the_road(minimum: Minimum, to_beat: Tensor, best_unwarped: Tensor, road: Tensor) -> Minimum:
    """The auto-mask put over a minimum that was taken without it, and lifted from the road of images that move.

    Args:
        minimum: of candidates of one kind, all in time or all of a rig (`minimum_reprojection(..., auto_mask=False)`).
        to_beat: (B, 1, H, W) what the unwarped images leave.
        best_unwarped: (B, 1, H, W) which of them leaves it, as a winner.
        road: (B, 1, H, W) bool.

    Of candidates of one kind the one with the least residual competes if any does, so that the order of mask and
    minimum is one.
    """
    unseen = minimum.winner < 0
    masked = unseen | (minimum.residual.detach() >= to_beat)
    moves = masked.flatten(1).float().mean(1) < AT_REST
    stands = masked & ~(road & moves[:, None, None, None])
    winner = torch.where(stands & ~unseen, best_unwarped.to(minimum.winner.dtype), minimum.winner)
    return replace(minimum, residual=torch.where(stands, to_beat, minimum.residual), winner=winner)
