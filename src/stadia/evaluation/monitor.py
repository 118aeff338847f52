"""What validates a depth network while it trains: a few scores of a batch, no benchmark's rules."""

from __future__ import annotations

from torch import Tensor

from stadia.core.types import Claim
from stadia.geometry.align import scale_median
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.metrics.depth import abs_rel, d1, rmse

CAP_M = 80.0


def depth_scores(inverse_depth: Tensor, true_m: Tensor, claim: Claim) -> dict[str, Tensor]:
    """`abs_rel`, `rmse` and `d1` of each sample, (B,); NaN for one without ground truth. Median-scaled unless in metres.

    Args:
        inverse_depth: (B, 1, H, W), in 1/m or up to scale by `claim`.
        true_m: (B, 1, H, W) metres, 0 = none; scored below CAP_M.
        claim: metres or up to scale.
    """
    mask = (true_m > 0) & (true_m < CAP_M)
    depth = depth_from_inverse(inverse_depth)
    if claim is not Claim.METRES:
        depth = depth * scale_median(depth.flatten(1), true_m.flatten(1), mask.flatten(1))[:, None, None, None]
    return {name: metric(depth[:, 0], true_m[:, 0], mask[:, 0]) for name, metric in (("abs_rel", abs_rel), ("rmse", rmse), ("d1", d1))}
