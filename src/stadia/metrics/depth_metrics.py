"""Compute depth errors of each image or of all pixels of a dataset, and score an uncertainty by the errors it orders.

Unless stated otherwise, a metric takes predicted depth p as `predicted_m` and true depth g as `true_m`, both (..., H,
W) z coordinates in metres. `mask`, (..., H, W) bool, is true for the scored pixels. It returns one value per image,
(...). Both depths must be positive at scored pixels. An image without a scored pixel gives NaN.

Sources: Eigen et al., NeurIPS 2014, arXiv 1406.2283, section 4.2; KITTI depth benchmark (arXiv 1708.06500).

Examples:
    >>> predicted, true, mask = np.array([[1.0, 4.0]]), np.array([[1.0, 2.0]]), np.array([[True, True]])
    >>> abs_rel(predicted, true, mask).item(), sq_rel(predicted, true, mask).item(), mae(predicted, true, mask).item()
    (0.5, 1.0, 1.0)
    >>> round(rmse(predicted, true, mask).item(), 4), round(rmse_log(predicted, true, mask).item(), 4)
    (1.4142, 0.4901)
    >>> round(log10(predicted, true, mask).item(), 4), d1(predicted, true, mask).item()
    (0.1505, 0.5)
    >>> silog(2 * true, true, mask).item()  # one factor is free
    0.0
    >>> sq_error_rel_percent(predicted, true, mask).item(), round(irmse_per_km(predicted, true, mask).item(), 2)
    (50.0, 176.78)
    >>> round(scale_ratio(predicted, true, mask).item(), 4)
    0.6
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.align import fit_scale_median

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


def _mean(values: Array, mask: Mask) -> Array:
    """Average (..., H, W) over scored pixels to (...), with `where`, because NaN times 0 is NaN."""
    with np.errstate(invalid="ignore"):  # an image without a scored pixel
        return np.asarray(np.where(mask, values, 0.0).sum((-2, -1)) / mask.sum((-2, -1)))


def _log_ratio(predicted_m: Array, true_m: Array) -> Array:
    return np.log(predicted_m) - np.log(true_m)


def abs_rel(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the absolute relative error AbsRel of each image: the mean of |p - g| / g over scored pixels (no unit).

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean(np.abs(predicted_m - true_m) / true_m, mask)


def sq_rel(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the squared relative error SqRel of each image: the mean of (p - g)^2 / g over scored pixels, in metres.

    KITTI's `sq_error_rel_percent`, which divides by g^2, is a different metric.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean(np.square(predicted_m - true_m) / true_m, mask)


def rmse(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the root mean square depth error of each image: the root of the mean of (p - g)^2, in metres.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return np.sqrt(_mean(np.square(predicted_m - true_m), mask))


def rmse_log(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the root mean square log error of each image: the root of the mean of (ln p - ln g)^2, without unit.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return np.sqrt(_mean(np.square(_log_ratio(predicted_m, true_m)), mask))


def silog(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the scale-invariant log error SILog of each image: 100 times the standard deviation of ln p - ln g.

    It does not change if all predicted depths of an image are multiplied by one factor.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    difference = _log_ratio(predicted_m, true_m)
    mean = _mean(difference, mask)[..., None, None]
    return 100 * np.sqrt(_mean(np.square(difference - mean), mask))


def log10(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the mean log10 error of each image: the mean of |log10 p - log10 g| over scored pixels, without unit.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean(np.abs(np.log10(predicted_m) - np.log10(true_m)), mask)


def mae(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the mean absolute depth error of each image: the mean of |p - g| over scored pixels, in metres.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean(np.abs(predicted_m - true_m), mask)


def _within(predicted_m: Array, true_m: Array, mask: Mask, factor: float) -> Array:
    ratio = np.maximum(predicted_m / true_m, true_m / predicted_m)
    return _mean((ratio < factor).astype(true_m.dtype), mask)


def d1(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the share of scored pixels of each image whose prediction is within a factor of 1.25 of the truth.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _within(predicted_m, true_m, mask, 1.25)


def d2(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the share of scored pixels of each image whose prediction is within a factor of 1.25^2 of the truth.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _within(predicted_m, true_m, mask, 1.25**2)


def d3(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return the share of scored pixels of each image whose prediction is within a factor of 1.25^3 of the truth.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _within(predicted_m, true_m, mask, 1.25**3)


def abs_error_rel_percent(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return KITTI's absErrorRel of each image in percent: 100 times the mean of |p - g| / g over scored pixels.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return 100 * abs_rel(predicted_m, true_m, mask)


def sq_error_rel_percent(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return KITTI's sqErrorRel of each image in percent: 100 times the mean of (p - g)^2 / g^2 over scored pixels.

    The usual SqRel (`sq_rel`) divides by g instead of g^2.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return 100 * _mean(np.square((predicted_m - true_m) / true_m), mask)


def irmse_per_km(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return KITTI's iRMSE of each image: the root of the mean of (1/p - 1/g)^2 over scored pixels, in 1/km.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return 1000 * np.sqrt(_mean(np.square(1 / predicted_m - 1 / true_m), mask))


def scale_ratio(predicted_m: Array, true_m: Array, mask: Mask) -> Array:
    """Return median(g) / median(p) of each image: the factor that gives predicted depths the true median.

    Evaluations with median scaling multiply predictions by this factor (arXiv 1704.07813). It is 1 if the predicted
    scale is right.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    flat = (*mask.shape[:-2], -1)
    return fit_scale_median(predicted_m.reshape(flat), true_m.reshape(flat), mask.reshape(flat))


# -- depth errors over all scored pixels of a set: each pixel counts the same, and not each image as for METRICS

_MEANS = {"abs_rel": abs_rel, "mae": mae, "log10": log10, "d1": d1, "d2": d2, "d3": d3}


def depth_error_sums(predicted: Array, true: Array, mask: Mask) -> dict[str, NDArray[np.float64]]:
    """Return the sums of depth errors over the scored pixels of each image, as (B,) float64 arrays by name.

    `depth_pixels` is the number of scored pixels of each image. The other entries (`abs_rel`, `mae`, `log10`, `d1`,
    `d2`, `d3`, and `mse` for squared errors) are sums over these pixels, which `pooled_depth_scores` divides by their
    number. For an image with a prediction that is not finite at a scored pixel, error sums are infinite, and sums of
    `d1` to `d3` are 0.

    predicted: (B, H, W) predicted depths in metres, positive under the mask.
    true: (B, H, W) true depths in metres, positive under the mask.
    mask: (B, H, W) bool, true for scored pixels.

    Examples:
        >>> predicted, true = np.array([[[1.0, 4.0]]]), np.array([[[1.0, 2.0]]])
        >>> sums = depth_error_sums(predicted, true, np.ones((1, 1, 2), np.bool_))
        >>> sums["depth_pixels"].tolist(), sums["mse"].round(6).tolist()
        ([2.0], [4.0])
    """
    predicted, true, count = predicted.astype(np.float64), true.astype(np.float64), mask.sum((-2, -1), dtype=np.float64)
    broken: Mask = np.asarray((mask & ~np.isfinite(predicted)).any((-2, -1), keepdims=True))
    known = mask & ~broken
    with np.errstate(divide="ignore", invalid="ignore"):  # pixels outside the mask may be 0
        means = {name: np.nan_to_num(error(predicted, true, known)) for name, error in _MEANS.items()}
        means["mse"] = np.nan_to_num(np.square(rmse(predicted, true, known)))
    worst = {name: 0.0 if name in ("d1", "d2", "d3") else np.inf for name in means}
    return {
        "depth_pixels": count,
        **{name: np.where(broken[:, 0, 0], worst[name], mean * count) for name, mean in means.items()},
    }


def pooled_depth_scores(sums: Mapping[str, float]) -> dict[str, float]:
    """Compute depth scores that weight each pixel of a dataset equally, from error sums over all pixels.

    Return `rmse` and `mae` in metres, `mse` in square metres, `abs_rel`, `log10`, and the shares `d1`, `d2`, `d3`, by
    name. The result is empty if no pixel was scored.

    sums: the sums of `depth_error_sums`, added over all images (see `sum_over_images`).

    Examples:
        >>> pooled_depth_scores({})  # no scored pixel
        {}
    """
    if not (pixels := sums.get("depth_pixels")):
        return {}
    scores = {name: sums[name] / pixels for name in ("abs_rel", "mse", "mae", "log10", "d1", "d2", "d3")}
    return {"rmse": scores["mse"] ** 0.5, **scores}


def sum_over_images(images: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add up named values over images, and return the sum for each name.

    The sums are exact before the final rounding, so the order of the images does not matter. An image without a value
    of some name adds nothing to that sum.

    images: for each image, its values by name.

    Examples:
        >>> sum_over_images([{"mse": 1.0}, {"mse": 2.0}])
        {'mse': 3.0}
    """
    each = list(images)
    names = dict.fromkeys(name for one in each for name in one)
    return {name: fsum(one[name] for one in each if name in one) for name in names}


INTERVALS = 50
"""Number of steps of a sparsification curve. As in Poggi et al. (CVPR 2020), each step removes 2 % of the pixels."""


@dataclass(frozen=True, slots=True)
class DepthError:
    """Define a depth error as a function of the mean of a per-pixel quantity, as RMSE is of squared errors.

    of_pixel: function (predicted_m, true_m) of depths of equal shape in metres, to the quantity at each pixel,
        with the same shape.
    of_mean: increasing function from the mean of this quantity over pixels to the depth error.
    """

    of_pixel: Callable[[Array, Array], Array]
    of_mean: Callable[[Array], Array]


DEPTH_ERRORS: Mapping[str, DepthError] = {
    "abs_rel": DepthError(lambda p, g: np.abs(p - g) / g, lambda mean: mean),
    "rmse": DepthError(lambda p, g: np.square(p - g), np.sqrt),
    "d1": DepthError(lambda p, g: (np.maximum(p / g, g / p) >= 1.25).astype(g.dtype), lambda mean: mean),
}
"""Depth errors that sparsification can use, by the name of their metric: "abs_rel", "rmse" and "d1".

"d1" stands for 1 - d1, the share of pixels whose predicted depth is wrong by a factor of 1.25 or more.
"""


@dataclass(frozen=True, slots=True)
class Sparsification:
    """Hold sparsification curves: errors of the remaining pixels while pixels are removed in 50 steps, (..., 51) each.

    by_uncertainty: error if the pixels of largest predicted uncertainty are removed first.
    oracle: error if the pixels of largest true error are removed first, which is the best order.
    random: expected error if pixels are removed in random order. It stays constant until the last step.

    Entry k is the error after the share k / 50 of the pixels was removed. After the last step no pixel is left, and
    the error is set to 0.
    """

    by_uncertainty: Array
    oracle: Array
    random: Array

    @property
    def ause(self) -> Array:
        """Return AUSE, the area between the curves by_uncertainty and oracle, (...), one value per image.

        It has the unit of the depth error, because the removed share is from 0 to 1. It is 0 for the best order of
        pixels.
        """
        return _area(self.by_uncertainty - self.oracle)

    @property
    def aurg(self) -> Array:
        """Return AURG, the area between the curves random and by_uncertainty, (...), one value per image.

        It has the unit of the depth error. It is positive if the uncertainty orders pixels by error better than a
        random order, 0 if it is equal, and negative if it is worse.
        """
        return _area(self.random - self.by_uncertainty)

    @property
    def ause_of_random(self) -> Array:
        """Return the area between the curves random and oracle, (...): the AUSE of a random order of pixels.

        It is the sum of `ause` and `aurg`, in the unit of the depth error.
        """
        return _area(self.random - self.oracle)

    @property
    def below_random(self) -> Array:
        """Return the relative reduction of AUSE compared with a random order of pixels, (...): 1 is best, 0 is random.

        It is negative for an uncertainty worse than random, and NaN if all pixels have the same error.
        """
        return self.aurg / self.ause_of_random


def sparsification(
    predicted_m: Array, true_m: Array, uncertainty: Array, mask: Mask, error: str = "abs_rel"
) -> Sparsification:
    """Compute how a depth error falls while the pixels of largest uncertainty are removed from each image.

    predicted_m: (..., H, W) positive predicted depths in metres, already aligned with the true scale if that is
        wanted.
    true_m: (..., H, W) positive true depths in metres.
    uncertainty: (..., H, W) predicted uncertainty in any unit; only the order of its values matters.
    mask: (..., H, W) bool, true for scored pixels.
    error: name of the depth error, a key of DEPTH_ERRORS: "abs_rel", "rmse" or "d1" (for 1 - d1).

    Examples:
        >>> true = np.full((1, 4), 10.0)
        >>> predicted = np.array([[10.0, 11.0, 12.0, 15.0]])
        >>> error = np.abs(predicted - true)
        >>> found = sparsification(predicted, true, error, np.ones((1, 4), np.bool_))
        >>> found.ause.item()  # the error itself is the perfect uncertainty
        0.0
    """
    chosen = DEPTH_ERRORS[error]
    with np.errstate(divide="ignore", invalid="ignore"):  # pixels outside the mask may be 0
        each = np.where(mask, chosen.of_pixel(predicted_m, true_m), 0.0)
    by_uncertainty, oracle = (sparsification_curve(each, order, mask) for order in (uncertainty, each))
    random = np.repeat(by_uncertainty[..., :1], INTERVALS + 1, axis=-1)
    random[..., -1] = 0
    return Sparsification(*(chosen.of_mean(curve) for curve in (by_uncertainty, oracle, random)))


def sparsification_curve(error: Array, uncertainty: Array, mask: Mask) -> NDArray[np.float64]:
    """Return the mean error, (..., 51), of the pixels that remain as the most uncertain ones are removed in 50 steps.

    Entry k of the last dimension belongs to the share k / 50, k from 0 to 50. Of n scored pixels, ceil(k (n - 1) /
    50) are removed (Poggi et al., CVPR 2020). Pixels of equal uncertainty all count with their mean error, so that
    their order does not matter. The last entry is set to 0. The curve of an image with fewer than two scored pixels
    is NaN.

    error: (..., H, W) error of each pixel.
    uncertainty: (..., H, W) predicted uncertainty of each pixel; only the order of its values matters.
    mask: (..., H, W) bool, true for scored pixels.
    """
    curves = np.full((*mask.shape[:-2], INTERVALS + 1), np.nan)
    for image in np.ndindex(*mask.shape[:-2]):
        scored = mask[image]
        if (count := int(scored.sum())) < 2:
            continue
        _, group, members = np.unique(uncertainty[image][scored], return_inverse=True, return_counts=True)
        means = np.bincount(group, weights=error[image][scored].astype(np.float64)) / members
        total = np.repeat(means, members).cumsum()
        left = count - (np.arange(INTERVALS) * (count - 1) + INTERVALS - 1) // INTERVALS
        curves[image] = [*(total[left - 1] / left), 0.0]
    return curves


def _area(curve: Array) -> Array:
    return np.asarray(np.trapezoid(curve, dx=1 / INTERVALS, axis=-1))


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation of the values of two maps, from -1 to 1; NaN if one of them is constant.

    a: map of any shape, e.g. the predicted uncertainty of each pixel.
    b: map of the same shape, e.g. the error of each pixel.

    Examples:
        >>> a = np.array([[1.0, 2.0, 3.0]])
        >>> round(spearman(a, a**2), 4)  # the same order
        1.0
    """
    from scipy.stats import spearmanr  # slow to import

    x, y = (values.ravel().astype(np.float64) for values in (a, b))
    if len(x) < 2 or (x == x[0]).all() or (y == y[0]).all():
        return math.nan
    return float(spearmanr(x, y).statistic)


def laplace_width(share: float) -> float:
    """Return w so that [-w, w] has a given probability under a Laplace distribution of mean 0 and scale 1.

    share: probability of the interval, in [0, 1).
    """
    return -math.log1p(-share)


LEVELS = tuple(percent / 100 for percent in range(5, 100, 5))
"""Nominal coverages at which calibration is evaluated: the intervals should hold 5 %, 10 %, ..., 95 % of residuals."""


def calibration_curve(
    residual: Array, sigma: Array, mask: Mask, levels: Sequence[float] = LEVELS
) -> NDArray[np.float64]:
    """Return the share of residuals that are inside the predicted interval of each nominal coverage, (..., L).

    The interval of a coverage is symmetric around 0 and belongs to a Laplace distribution with scale sigma. The share
    equals the nominal coverage if sigma is right. It is smaller if sigma is too small (overconfident). The loss r /
    Sigma + log Sigma is the negative log-likelihood of this distribution.

    residual: (..., H, W) residuals of either sign.
    sigma: (..., H, W) predicted scale of the Laplace distribution at each pixel, in the unit of the residual.
    mask: (..., H, W) bool, true for scored pixels.
    levels: L nominal coverages in (0, 1).
    """
    widths = [laplace_width(level) for level in levels]
    shares = np.full((*mask.shape[:-2], len(widths)), np.nan)
    for image in np.ndindex(*mask.shape[:-2]):
        scored = mask[image]
        if scored.any():
            ratio = np.abs(residual[image][scored].astype(np.float64)) / sigma[image][scored].astype(np.float64)
            shares[image] = np.searchsorted(np.sort(ratio), widths, side="right") / len(ratio)
    return shares
