"""What validates a depth network while it trains: a few scores of a batch, no benchmark's rules."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stadia.core.types import Claim
from stadia.geometry.align import scale_median, scale_shift
from stadia.geometry.depth_maps import depth_from_inverse, inverse_from_depth
from stadia.metrics.depth import abs_rel, d1, rmse
from stadia.metrics.uncertainty import calibration_curve, sparsification, spearman

CAP_M = 80.0

INSIDE = tuple(range(10, 100, 10))
"""Percent that intervals about 0 are asked to hold of the residuals."""


def depth_scores(
    inverse_depth: Tensor, true_m: Tensor, claim: Claim, log_uncertainty: Tensor | None = None
) -> dict[str, Tensor]:
    """`abs_rel`, `rmse` and `d1` of each sample, (B,); `ause` and `ause_of_random` of an uncertainty. Of as much as its
    claim says:

    metres as they are, up to scale by the ratio of medians, affine-inverse by least squares in inverse depth, nowhere
    beyond CAP_M. NaN for a sample without ground truth, which is no score; infinite errors where a prediction is not
    finite, which is the worst one.

    Args:
        inverse_depth: (B, 1, H, W), as `claim` says.
        true_m: (B, 1, H, W) metres, 0 = none; scored below CAP_M.
        claim: of the prediction.
        log_uncertainty: (B, 1, H, W), larger where depth is trusted less.
    """
    mask = (true_m > 0) & (true_m < CAP_M)
    if claim is Claim.AFFINE_INVERSE:
        scale, shift = scale_shift(inverse_depth.flatten(1), inverse_from_depth(true_m).flatten(1), mask.flatten(1))
        inverse_depth = (scale.view(-1, 1, 1, 1) * inverse_depth + shift.view(-1, 1, 1, 1)).clamp(min=1 / CAP_M)
    depth = depth_from_inverse(inverse_depth)
    if claim is Claim.UP_TO_SCALE:
        depth = depth * scale_median(depth.flatten(1), true_m.flatten(1), mask.flatten(1))[:, None, None, None]
    errors = {
        name: metric(depth[:, 0], true_m[:, 0], mask[:, 0]) for name, metric in (("abs_rel", abs_rel), ("rmse", rmse))
    }
    if log_uncertainty is not None:
        order = sparsification(depth[:, 0], true_m[:, 0], log_uncertainty[:, 0], mask[:, 0])
        errors |= {"ause": order.ause, "ause_of_random": order.ause_of_random}
    broken = (mask & ~inverse_depth.isfinite()).flatten(1).any(1)  # a depth of NaN would pass for 0
    worst = {name: value.where(~broken, math.inf) for name, value in errors.items()}
    return {**worst, "d1": d1(depth[:, 0], true_m[:, 0], mask[:, 0])}


def uncertainty_scores(residual: Tensor, log_uncertainty: Tensor) -> dict[str, Tensor]:
    """Whether Sigma is the scale of its residuals, of each sample, (B,), over every fourth pixel of every fourth row.

    `inside_10` to `inside_90`: the share of residuals in the interval about 0 that holds so many percent of a Laplace
        distribution of
    scale Sigma, which is the one that r / Sigma + log Sigma is the likelihood of. `residual_over_sigma`: its mean, 1
    where Sigma is right.
    `residual_spearman`: rank correlation of Sigma and residual, 0 where one of them is constant.

    Args:
        residual: (B, 1, H, W), photometric.
        log_uncertainty: (B, 1, H, W).
    """
    r, log_sigma = residual[:, 0, ::4, ::4], log_uncertainty[:, 0, ::4, ::4]
    sigma, every = log_sigma.exp(), torch.ones_like(r, dtype=torch.bool)
    shares = calibration_curve(r, sigma, every, levels=[percent / 100 for percent in INSIDE])
    return {
        "residual_over_sigma": (r / sigma).mean(dim=(-2, -1)),
        "residual_spearman": spearman(sigma, r, every).nan_to_num(0),
        **{f"inside_{percent}": share for percent, share in zip(INSIDE, shares.unbind(-1), strict=True)},
    }
