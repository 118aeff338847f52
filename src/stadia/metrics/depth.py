"""Errors of a depth map against ground truth, one value per image.

Every function takes `predicted_m` and `true_m`, (..., H, W) z in metres, and `mask`, (..., H, W) bool, true where the
pixel is scored, and returns (...). Both depths must be positive under the mask; other values (0, NaN, infinity) are not
read. An image without a scored pixel gives NaN, so that it cannot pass for a perfect one: count it, and leave it out of
the mean.

The metrics are those of Eigen et al., "Depth map prediction from a single image using a multi-scale deep network",
NeurIPS 2014, arXiv 1406.2283, section 4.2. SILog and the metrics in other units are those of the KITTI depth benchmark
(Uhrig et al. 2017, arXiv 1708.06500, and its development kit).
"""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.align import scale_median


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average (..., H, W) over scored pixels to (...). `where`, not a product: NaN times 0 is NaN."""
    return torch.where(mask, values, 0.0).sum((-2, -1)) / mask.sum((-2, -1))


def _log_ratio(predicted_m: Tensor, true_m: Tensor) -> Tensor:
    return predicted_m.log() - true_m.log()


def abs_rel(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of |p - g| / g, no unit."""
    return _mean((predicted_m - true_m).abs() / true_m, mask)


def sq_rel(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of (p - g)^2 / g, metres. (KITTI's benchmark divides by g^2: `sq_error_rel_percent`.)"""
    return _mean((predicted_m - true_m).square() / true_m, mask)


def rmse(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the root of the mean of (p - g)^2, metres."""
    return _mean((predicted_m - true_m).square(), mask).sqrt()


def rmse_log(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the root of the mean of (ln p - ln g)^2, no unit."""
    return _mean(_log_ratio(predicted_m, true_m).square(), mask).sqrt()


def silog(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return 100 times the standard deviation of ln p - ln g: RMSE log with one free factor per image.

    The mean is subtracted first: mean(d^2) - mean(d)^2 may fall below 0 by rounding, and its root be NaN.
    """
    difference = _log_ratio(predicted_m, true_m)
    mean = _mean(difference, mask)[..., None, None]
    return 100 * _mean((difference - mean).square(), mask).sqrt()


def log10(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of |log10 p - log10 g|, no unit."""
    return _mean((predicted_m.log10() - true_m.log10()).abs(), mask)


def mae(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of |p - g|, metres."""
    return _mean((predicted_m - true_m).abs(), mask)


def _within(predicted_m: Tensor, true_m: Tensor, mask: Tensor, factor: float) -> Tensor:
    """Return the share of scored pixels with max(p / g, g / p) < factor."""
    ratio = torch.maximum(predicted_m / true_m, true_m / predicted_m)
    return _mean((ratio < factor).to(true_m.dtype), mask)


def d1(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share of pixels within a factor of 1.25."""
    return _within(predicted_m, true_m, mask, 1.25)


def d2(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share of pixels within a factor of 1.25^2."""
    return _within(predicted_m, true_m, mask, 1.25**2)


def d3(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share of pixels within a factor of 1.25^3."""
    return _within(predicted_m, true_m, mask, 1.25**3)


def abs_error_rel_percent(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's absErrorRel: 100 times AbsRel."""
    return 100 * abs_rel(predicted_m, true_m, mask)


def sq_error_rel_percent(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's sqErrorRel: 100 times the mean of (p - g)^2 / g^2, no unit, unlike SqRel."""
    return 100 * _mean(((predicted_m - true_m) / true_m).square(), mask)


def irmse_per_km(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's iRMSE: root of the mean of (1/p - 1/g)^2, in 1/km."""
    return 1000 * _mean((1 / predicted_m - 1 / true_m).square(), mask).sqrt()


def scale_ratio(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return median(g) / median(p), the factor of per-image median scaling: 1 where the scale is right.

    Zhou et al., "Unsupervised learning of depth and ego-motion from video", CVPR 2017, arXiv 1704.07813.
    """
    return scale_median(predicted_m.flatten(-2), true_m.flatten(-2), mask.flatten(-2))
