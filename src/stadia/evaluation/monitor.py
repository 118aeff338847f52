"""Compute validation metrics of a depth network: a few scores of a batch, without the rules of a benchmark."""

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
"""Percentages of the intervals about 0 that calibration is checked at."""


def depth_scores(
    inverse_depth: Tensor, true_m: Tensor, claim: Claim, log_uncertainty: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute `abs_rel`, `rmse` and `d1` of each sample, (B,), and `ause` and `ause_of_random` of an uncertainty.

    Metres are scored as they are, depth up to scale by the ratio of medians, affine-inverse depth by least squares in
    inverse depth. Depth is capped at CAP_M. A sample without ground truth has NaN. A prediction that is not finite has
    infinite errors.

    Args:
        inverse_depth: (B, 1, H, W), with the scale of `claim`.
        true_m: (B, 1, H, W) metres, 0 = none; scored below CAP_M.
        claim: scale of the prediction.
        log_uncertainty: (B, 1, H, W), larger for less certain depth.
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
    broken = (mask & ~inverse_depth.isfinite()).flatten(1).any(1)  # a NaN depth would count as 0
    worst = {name: value.where(~broken, math.inf) for name, value in errors.items()}
    return {**worst, "d1": d1(depth[:, 0], true_m[:, 0], mask[:, 0])}


def uncertainty_scores(residual: Tensor, log_uncertainty: Tensor) -> dict[str, Tensor]:
    """Compute the calibration of Sigma as the scale of its residuals, (B,) per sample, over every fourth row and
    column.

    r / Sigma + log Sigma is the likelihood of a Laplace distribution of scale Sigma.
    `inside_10` to `inside_90`: share of residuals in the interval about 0 that holds this percentage of the
    distribution.
    `residual_over_sigma`: mean ratio, 1 for a calibrated Sigma.
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
