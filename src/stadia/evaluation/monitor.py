"""What validates a depth network while it trains: a few scores of a batch, no benchmark's rules."""

from __future__ import annotations

import math

from torch import Tensor

from stadia.core.types import Claim
from stadia.geometry.align import scale_median, scale_shift
from stadia.geometry.depth_maps import depth_from_inverse, inverse_from_depth
from stadia.metrics.depth import abs_rel, d1, rmse

CAP_M = 80.0


def depth_scores(inverse_depth: Tensor, true_m: Tensor, claim: Claim) -> dict[str, Tensor]:
    """`abs_rel`, `rmse` and `d1` of each sample, (B,). Of as much as its claim says:

    metres as they are, up to scale by the ratio of medians, affine-inverse by least squares in inverse depth, nowhere beyond CAP_M.
    NaN for a sample without ground truth, which is no score; infinite errors where a prediction is not finite, which is the worst one.

    Args:
        inverse_depth: (B, 1, H, W), as `claim` says.
        true_m: (B, 1, H, W) metres, 0 = none; scored below CAP_M.
        claim: of the prediction.
    """
    mask = (true_m > 0) & (true_m < CAP_M)
    if claim is Claim.AFFINE_INVERSE:
        scale, shift = scale_shift(inverse_depth.flatten(1), inverse_from_depth(true_m).flatten(1), mask.flatten(1))
        inverse_depth = (scale.view(-1, 1, 1, 1) * inverse_depth + shift.view(-1, 1, 1, 1)).clamp(min=1 / CAP_M)
    depth = depth_from_inverse(inverse_depth)
    if claim is Claim.UP_TO_SCALE:
        depth = depth * scale_median(depth.flatten(1), true_m.flatten(1), mask.flatten(1))[:, None, None, None]
    errors = {name: metric(depth[:, 0], true_m[:, 0], mask[:, 0]) for name, metric in (("abs_rel", abs_rel), ("rmse", rmse))}
    broken = (mask & ~inverse_depth.isfinite()).flatten(1).any(1)  # a depth of NaN would pass for 0
    worst = {name: value.where(~broken, math.inf) for name, value in errors.items()}
    return {**worst, "d1": d1(depth[:, 0], true_m[:, 0], mask[:, 0])}
