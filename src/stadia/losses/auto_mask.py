"""Per-pixel minimum reprojection and the auto-mask (Monodepth2, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stadia.core.types import is_temporal


def identity_reprojection(unwarped: Tensor, source_names: Sequence[str]) -> Tensor:
    """Return for each source the least unwarped residual among sources of its kind, temporal or stereo, (B, N, H, W).

    A warped source must be better than this. Monodepth2 takes the least residual over all sources instead, which masks
    a stereo source if the camera is at rest.

    unwarped: (B, N, H, W) residuals of the unwarped sources.
    source_names: N names, which give the kind of each source.

    Examples:
        >>> unwarped = torch.tensor([0.3, 0.2]).view(1, 2, 1, 1)
        >>> identity_reprojection(unwarped, ["-1", "+1"]).flatten()
        tensor([0.2000, 0.2000])
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
    winner: (B, 1, H, W) int8: i < N if warped source i wins, N + i if unwarped source i wins, -1 if no source sees the
        pixel.
    nearest: (B, 1, H, W) int8: the visible candidate with the least residual, whether masked or not, or -1.
    unmasked: (B, 1, H, W) residual of `nearest`, or `residual` if no source sees the pixel. It has no gradient.
    """

    residual: Tensor
    winner: Tensor
    nearest: Tensor
    unmasked: Tensor


def minimum_reprojection(
    residuals: Tensor, seen: Tensor, unwarped: Tensor, identity_residual: Tensor, *, auto_mask: bool = True
) -> MinimumReprojection:
    """Take the per-pixel minimum over visible candidates; with `auto_mask`, only over those better than unwarped
    sources.

    A candidate is better if its residual is *less* than `identity_residual`, so a camera at rest is masked. The other
    pixels get the constant `identity_residual`. The mean is taken over all pixels, so that masking never lowers the
    loss.

    residuals: (B, N, H, W) of the warped candidates.
    seen: (B, N, H, W) bool, true if the candidate projects into its source's image.
    unwarped: (B, N, H, W) residuals of the unwarped sources, without gradient.
    identity_residual: (B, N, H, W) from `identity_reprojection`, without gradient.

    Examples:
        >>> residuals, unwarped = torch.tensor([0.1, 0.4]).view(1, 2, 1, 1), torch.tensor([0.3, 0.2]).view(1, 2, 1, 1)
        >>> identity = identity_reprojection(unwarped, ["-1", "+1"])
        >>> found = minimum_reprojection(residuals, torch.ones(1, 2, 1, 1, dtype=torch.bool), unwarped, identity)
        >>> (round(found.residual.item(), 3), found.winner.item())
        (0.1, 0)
    """
    count = residuals.shape[1]
    nothing = torch.inf
    best_seen, nearest = residuals.detach().masked_fill(~seen, nothing).min(dim=1, keepdim=True)
    competes = seen & (residuals.detach() < identity_residual) if auto_mask else seen
    best, winner = residuals.masked_fill(~competes, nothing).min(dim=1, keepdim=True)
    trains = competes.any(dim=1, keepdim=True)
    any_seen = best_seen < nothing
    fallback = identity_residual.amax(dim=1, keepdim=True)
    identity_winner = count + unwarped.min(dim=1, keepdim=True).indices
    return MinimumReprojection(
        residual=torch.where(trains, best, fallback),
        winner=torch.where(trains, winner, identity_winner.masked_fill(~any_seen, -1)).to(torch.int8),
        nearest=nearest.masked_fill(~any_seen, -1).to(torch.int8),
        unmasked=torch.where(any_seen, best_seen, fallback),
    )


def find_masked_pixels(winner: Tensor, sources: int) -> Tensor:
    """Return the auto-mask, with the shape of `winner` (B, 1, H, W).

    A pixel is masked if an unwarped source explains it better, or if no source sees it.

    winner: (B, 1, H, W) of `MinimumReprojection`.
    sources: number of sources N.

    Examples:
        >>> find_masked_pixels(torch.tensor([[0, 2, -1]]), sources=2).tolist()
        [[False, True, True]]
    """
    return (winner < 0) | (winner >= sources)


# -- auto-mask exception for the road: while the camera moves, road pixels always train
#
# A road has little texture. If its depth is wrong, the unwarped image explains it better, the auto-mask removes it,
# and nothing corrects it (FUMET, arXiv 2312.04530; its code unmasks the road unless 3/4 of the image are masked).

MIN_MASKED_SHARE_AT_REST = 0.75
"""A camera is at rest if a larger share of its pixels is masked. Then the road is masked too."""


def lift_auto_mask_from_road(
    minimum: MinimumReprojection, identity_residual: Tensor, best_identity: Tensor, road: Tensor
) -> MinimumReprojection:
    """Apply the auto-mask to a minimum that was computed without it, except on the road while the camera moves.

    minimum: minimum over candidates of one kind, temporal or stereo.
    identity_residual: (B, 1, H, W) residual of the unwarped images.
    best_identity: (B, 1, H, W) index of the best unwarped image, coded as in `MinimumReprojection.winner`.
    road: (B, 1, H, W) bool.
    """
    unseen = minimum.winner < 0
    masked = unseen | (minimum.residual.detach() >= identity_residual)
    moves = masked.flatten(1).float().mean(1) < MIN_MASKED_SHARE_AT_REST
    masked_out = masked & ~(road & moves[:, None, None, None])
    winner = torch.where(masked_out & ~unseen, best_identity.to(minimum.winner.dtype), minimum.winner)
    return replace(minimum, residual=torch.where(masked_out, identity_residual, minimum.residual), winner=winner)
