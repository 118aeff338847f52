"""Compute depth errors of each image or of all pixels of a dataset, and signs that the depth of road video has failed.

Unless stated otherwise, a metric takes predicted depth p as `predicted_m` and true depth g as `true_m`, both (..., H,
W) z coordinates in metres. `mask`, (..., H, W) bool, is true for the scored pixels. It returns one value per image,
(...). Both depths must be positive at scored pixels. An image without a scored pixel gives NaN.

Sources: Eigen et al., NeurIPS 2014, arXiv 1406.2283, section 4.2; KITTI depth benchmark (arXiv 1708.06500).

Examples:
    >>> predicted, true, mask = torch.tensor([[1.0, 4.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]])
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

import torch
from torch import Tensor
from torch.nn import functional

from stadia.geometry.align import fit_scale_median
from stadia.geometry.segments import Segments, segment_quantiles


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average (..., H, W) over scored pixels to (...), with `where`, because NaN times 0 is NaN."""
    return torch.where(mask, values, 0.0).sum((-2, -1)) / mask.sum((-2, -1))


def _log_ratio(predicted_m: Tensor, true_m: Tensor) -> Tensor:
    return predicted_m.log() - true_m.log()


def abs_rel(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the absolute relative error AbsRel of each image: the mean of |p - g| / g over scored pixels (no unit).

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean((predicted_m - true_m).abs() / true_m, mask)


def sq_rel(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the squared relative error SqRel of each image: the mean of (p - g)^2 / g over scored pixels, in metres.

    KITTI's `sq_error_rel_percent`, which divides by g^2, is a different metric.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean((predicted_m - true_m).square() / true_m, mask)


def rmse(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the root mean square depth error of each image: the root of the mean of (p - g)^2, in metres.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean((predicted_m - true_m).square(), mask).sqrt()


def rmse_log(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the root mean square log error of each image: the root of the mean of (ln p - ln g)^2, without unit.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean(_log_ratio(predicted_m, true_m).square(), mask).sqrt()


def silog(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the scale-invariant log error SILog of each image: 100 times the standard deviation of ln p - ln g.

    It does not change if all predicted depths of an image are multiplied by one factor.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    difference = _log_ratio(predicted_m, true_m)
    mean = _mean(difference, mask)[..., None, None]
    return 100 * _mean((difference - mean).square(), mask).sqrt()


def log10(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean log10 error of each image: the mean of |log10 p - log10 g| over scored pixels, without unit.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean((predicted_m.log10() - true_m.log10()).abs(), mask)


def mae(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute depth error of each image: the mean of |p - g| over scored pixels, in metres.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _mean((predicted_m - true_m).abs(), mask)


def _within(predicted_m: Tensor, true_m: Tensor, mask: Tensor, factor: float) -> Tensor:
    ratio = torch.maximum(predicted_m / true_m, true_m / predicted_m)
    return _mean((ratio < factor).to(true_m.dtype), mask)


def d1(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share of scored pixels of each image whose prediction is within a factor of 1.25 of the truth.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _within(predicted_m, true_m, mask, 1.25)


def d2(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share of scored pixels of each image whose prediction is within a factor of 1.25^2 of the truth.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _within(predicted_m, true_m, mask, 1.25**2)


def d3(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share of scored pixels of each image whose prediction is within a factor of 1.25^3 of the truth.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return _within(predicted_m, true_m, mask, 1.25**3)


def abs_error_rel_percent(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's absErrorRel of each image in percent: 100 times the mean of |p - g| / g over scored pixels.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return 100 * abs_rel(predicted_m, true_m, mask)


def sq_error_rel_percent(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's sqErrorRel of each image in percent: 100 times the mean of (p - g)^2 / g^2 over scored pixels.

    The usual SqRel (`sq_rel`) divides by g instead of g^2.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return 100 * _mean(((predicted_m - true_m) / true_m).square(), mask)


def irmse_per_km(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's iRMSE of each image: the root of the mean of (1/p - 1/g)^2 over scored pixels, in 1/km.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return 1000 * _mean((1 / predicted_m - 1 / true_m).square(), mask).sqrt()


def scale_ratio(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return median(g) / median(p) of each image: the factor that gives predicted depths the true median.

    Evaluations with median scaling multiply predictions by this factor (arXiv 1704.07813). It is 1 if the predicted
    scale is right.

    predicted_m: (..., H, W) predicted depths p in metres, positive at scored pixels.
    true_m: (..., H, W) true depths g in metres, positive at scored pixels.
    mask: (..., H, W) bool, true for scored pixels.

    The result has shape (...), one value per image, and is NaN for an image without a scored pixel.
    """
    return fit_scale_median(predicted_m.flatten(-2), true_m.flatten(-2), mask.flatten(-2))


# -- depth errors over all scored pixels of a set, from sums over images
# batches.
# METRICS are means over an image's pixels, then over images, so that each image counts the same. Here each pixel counts
# the same.
# alike.


_MEANS = {"abs_rel": abs_rel, "mae": mae, "log10": log10, "d1": d1, "d2": d2, "d3": d3}


def depth_error_sums(predicted: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return the sums of depth errors over the scored pixels of each image, as (B,) float64 tensors by name.

    `depth_pixels` is the number of scored pixels of each image. The other entries (`abs_rel`, `mae`, `log10`, `d1`,
    `d2`, `d3`, and `mse` for squared errors) are sums over these pixels, which `pooled_depth_scores` divides by their
    number. For an image with a prediction that is not finite at a scored pixel, error sums are infinite, and sums of
    `d1` to `d3` are 0.

    predicted: (B, H, W) predicted depths in metres, positive under the mask.
    true: (B, H, W) true depths in metres, positive under the mask.
    mask: (B, H, W) bool, true for scored pixels.

    Examples:
        >>> predicted, true = torch.tensor([[[1.0, 4.0]]]), torch.tensor([[[1.0, 2.0]]])
        >>> sums = depth_error_sums(predicted, true, torch.ones(1, 1, 2, dtype=torch.bool))
        >>> sums["depth_pixels"].tolist(), sums["mse"].numpy().round(6).tolist()
        ([2.0], [4.0])
    """
    predicted, true, count = predicted.double(), true.double(), mask.flatten(1).sum(1).double()
    broken = (mask & ~predicted.isfinite()).flatten(1).any(1)
    known = mask & ~broken[:, None, None]
    means = {name: error(predicted, true, known).nan_to_num(0.0) for name, error in _MEANS.items()}
    means["mse"] = rmse(predicted, true, known).square().nan_to_num(0.0)
    worst = {name: 0.0 if name in ("d1", "d2", "d3") else torch.inf for name in means}
    return {"depth_pixels": count, **{name: (mean * count).where(~broken, worst[name]) for name, mean in means.items()}}


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


# -- signs of failed depth of road video: ratios that need no ground truth

MIN_ROW_PIXELS = 8
"""Smallest number of road pixels of an image row whose mean depth is used; an object needs the square of this number.
"""

MAX_ROW_RATIO = 0.99
"""An image row of road is out of order if its mean depth is below this share of the mean depth of the row below it."""

LIMIT_SHARE = 0.95
"""Depth beyond this share of the largest depth that the network can predict counts as being at that limit."""


def object_extent(depth: Tensor, objects: Segments) -> Tensor:
    """Return how deep each object is along the camera's z axis, relative to its distance, (M,) without unit.

    It is the 90 % quantile minus the 10 % quantile of the depths of the object's pixels, divided by their median. It
    is 0 for a plane that faces the camera, and NaN for an object with fewer than MIN_ROW_PIXELS^2 pixels.

    depth: (B, 1, H, W) predicted z in any unit.
    objects: the pixels of the M objects in the B images.

    Examples:
        >>> from stadia.geometry.segments import segments_from_instances
        >>> depth = torch.full((1, 1, 20, 20), 10.0)  # a flat object
        >>> object_extent(depth, segments_from_instances(torch.ones(1, 20, 20, dtype=torch.long))).item()
        0.0
    """
    if objects.count == 0:
        return depth.new_zeros(0)
    low, middle, high = segment_quantiles(objects.gather(depth)[:, 0], objects.segment, objects.count, (0.1, 0.5, 0.9))
    pixels = torch.bincount(objects.segment, minlength=objects.count)
    return ((high - low) / middle).where(pixels >= MIN_ROW_PIXELS**2, torch.nan)


def rows_out_of_order(depth: Tensor, road: Tensor) -> Tensor:
    """Return the share of road rows of each image, (B,), that are wrongly nearer to the camera than the row below.

    On a road, depth grows from the bottom of the image upwards. The mean depths of the road pixels of neighboring
    image rows are compared, where both rows have at least MIN_ROW_PIXELS of them. The share is NaN for an image
    without such a pair of rows.

    depth: (B, 1, H, W) predicted z in any unit.
    road: (B, 1, H, W) bool, true for pixels that show road.

    Examples:
        >>> depth = torch.tensor([30.0, 20.0, 10.0]).view(1, 1, 3, 1).expand(1, 1, 3, 40)  # deeper upwards
        >>> rows_out_of_order(depth, torch.ones(1, 1, 3, 40, dtype=torch.bool)).item()
        0.0
    """
    count = road.sum(-1)[:, 0]
    mean = (depth * road).sum(-1)[:, 0] / count.clamp(min=1)
    both = (count[:, 1:] >= MIN_ROW_PIXELS) & (count[:, :-1] >= MIN_ROW_PIXELS)
    wrong = both & (mean[:, :-1] < MAX_ROW_RATIO * mean[:, 1:])
    return wrong.sum(-1) / both.sum(-1)


def share_at_max_depth(depth: Tensor, pixels: Tensor, max_depth: float | Tensor) -> Tensor:
    """Return the share of given pixels whose depth is at the largest depth that the network can predict, as a scalar.

    A depth beyond LIMIT_SHARE of the largest depth is at it. The share is NaN if no pixels are given.

    depth: (B, 1, H, W) predicted depth.
    pixels: (B, 1, H, W) bool, true for the pixels that are counted.
    max_depth: largest depth that the network can predict, in the unit of depth; a number, or a tensor that broadcasts
        to the shape of depth.

    Examples:
        >>> depth = torch.tensor([1.0, 100.0]).view(1, 1, 1, 2)
        >>> share_at_max_depth(depth, torch.ones(1, 1, 1, 2, dtype=torch.bool), 100.0).item()
        0.5
    """
    return ((depth > LIMIT_SHARE * max_depth) & pixels).sum() / pixels.sum()


INTERVALS = 50
"""Number of steps of a sparsification curve. As in Poggi et al. (CVPR 2020), each step removes 2 % of the pixels."""


@dataclass(frozen=True, slots=True)
class DepthError:
    """Define a depth error as a function of the mean of a per-pixel quantity, as RMSE is of squared errors.

    of_pixel: function (predicted_m, true_m) of depth tensors of equal shape in metres, to the quantity at each pixel,
        with the same shape.
    of_mean: increasing function from the mean of this quantity over pixels to the depth error.
    """

    of_pixel: Callable[[Tensor, Tensor], Tensor]
    of_mean: Callable[[Tensor], Tensor]


DEPTH_ERRORS: Mapping[str, DepthError] = {
    "abs_rel": DepthError(lambda p, g: (p - g).abs() / g, lambda mean: mean),
    "rmse": DepthError(lambda p, g: (p - g).square(), torch.sqrt),
    "d1": DepthError(lambda p, g: (torch.maximum(p / g, g / p) >= 1.25).to(g.dtype), lambda mean: mean),
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

    by_uncertainty: Tensor
    oracle: Tensor
    random: Tensor

    @property
    def ause(self) -> Tensor:
        """Return AUSE, the area between the curves by_uncertainty and oracle, (...), one value per image.

        It has the unit of the depth error, because the removed share is from 0 to 1. It is 0 for the best order of
        pixels.
        """
        return _area(self.by_uncertainty - self.oracle)

    @property
    def aurg(self) -> Tensor:
        """Return AURG, the area between the curves random and by_uncertainty, (...), one value per image.

        It has the unit of the depth error. It is positive if the uncertainty orders pixels by error better than a
        random order, 0 if it is equal, and negative if it is worse.
        """
        return _area(self.random - self.by_uncertainty)

    @property
    def ause_of_random(self) -> Tensor:
        """Return the area between the curves random and oracle, (...): the AUSE of a random order of pixels.

        It is the sum of `ause` and `aurg`, in the unit of the depth error.
        """
        return _area(self.random - self.oracle)

    @property
    def below_random(self) -> Tensor:
        """Return the relative reduction of AUSE compared with a random order of pixels, (...): 1 is best, 0 is random.

        It is negative for an uncertainty worse than random, and NaN if all pixels have the same error.
        """
        return self.aurg / self.ause_of_random


def sparsification(
    predicted_m: Tensor, true_m: Tensor, uncertainty: Tensor, mask: Tensor, error: str = "abs_rel"
) -> Sparsification:
    """Compute how a depth error falls while the pixels of largest uncertainty are removed from each image.

    predicted_m: (..., H, W) positive predicted depths in metres, already aligned with the true scale if that is
        wanted.
    true_m: (..., H, W) positive true depths in metres.
    uncertainty: (..., H, W) predicted uncertainty in any unit; only the order of its values matters.
    mask: (..., H, W) bool, true for scored pixels.
    error: name of the depth error, a key of DEPTH_ERRORS: "abs_rel", "rmse" or "d1" (for 1 - d1).

    Examples:
        >>> true = torch.full((1, 4), 10.0)
        >>> predicted = torch.tensor([[10.0, 11.0, 12.0, 15.0]])
        >>> error = (predicted - true).abs()
        >>> found = sparsification(predicted, true, error, torch.ones(1, 4, dtype=torch.bool))
        >>> found.ause.item()  # the error itself is the perfect uncertainty
        0.0
    """
    chosen = DEPTH_ERRORS[error]
    each = torch.where(mask, chosen.of_pixel(predicted_m, true_m), 0.0)
    by_uncertainty, oracle = (sparsification_curve(each, order, mask) for order in (uncertainty, each))
    random = functional.pad(by_uncertainty[..., :1].expand(*mask.shape[:-2], INTERVALS), (0, 1))
    return Sparsification(*(chosen.of_mean(curve) for curve in (by_uncertainty, oracle, random)))


def sparsification_curve(error: Tensor, uncertainty: Tensor, mask: Tensor) -> Tensor:
    """Return the mean error, (..., 51), of the pixels that remain as the most uncertain ones are removed in 50 steps.

    Entry k of the last dimension belongs to the share k / 50, k from 0 to 50. Of n scored pixels, ceil(k (n - 1) /
    50) are removed (Poggi et al., CVPR 2020). Pixels of equal uncertainty all count with their mean error, so that
    their order does not matter. The last entry is set to 0. The curve of an image with fewer than two scored pixels
    is NaN.

    error: (..., H, W) error of each pixel.
    uncertainty: (..., H, W) predicted uncertainty of each pixel; only the order of its values matters.
    mask: (..., H, W) bool, true for scored pixels.
    """
    scored = uncertainty.double().masked_fill(~mask, torch.inf)  # other pixels come last
    by, order = scored.flatten(-2).sort(dim=-1)
    each = torch.where(mask, error.double(), 0.0).flatten(-2).gather(-1, order)
    count = mask.flatten(-2).sum(dim=-1, keepdim=True)
    step = torch.arange(INTERVALS, device=mask.device)
    left = count - (step * (count - 1) + INTERVALS - 1) // INTERVALS
    total = _average_ties(each, by).cumsum(dim=-1).gather(-1, (left - 1).clamp(min=0))
    return functional.pad(total / left, (0, 1)).masked_fill(count < 2, torch.nan)


def _average_ties(values: Tensor, by: Tensor) -> Tensor:
    """Replace each of (..., N) values, sorted along `by`, by the mean over equal `by`."""
    first = torch.ones_like(by, dtype=torch.long)
    first[..., 1:] = by[..., 1:] != by[..., :-1]
    group = first.cumsum(dim=-1) - 1
    zero = torch.zeros_like(values)
    total, count = zero.scatter_add(-1, group, values), zero.scatter_add(-1, group, torch.ones_like(values))
    return (total / count.clamp(min=1)).gather(-1, group)


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dx=1 / INTERVALS)


def spearman(a: Tensor, b: Tensor) -> float:
    """Return Spearman's rank correlation of the values of two maps, from -1 to 1; NaN if one of them is constant.

    a: map of any shape, e.g. the predicted uncertainty of each pixel.
    b: map of the same shape, e.g. the error of each pixel.

    Examples:
        >>> a = torch.tensor([[1.0, 2.0, 3.0]])
        >>> round(spearman(a, a**2), 4)  # the same order
        1.0
    """
    from scipy.stats import spearmanr  # slow to import

    x, y = (values.flatten().cpu().double().numpy() for values in (a, b))
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


def calibration_curve(residual: Tensor, sigma: Tensor, mask: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
    """Return the share of residuals that are inside the predicted interval of each nominal coverage, (..., L).

    The interval of a coverage is symmetric around 0 and belongs to a Laplace distribution with scale sigma. The share
    equals the nominal coverage if sigma is right. It is smaller if sigma is too small (overconfident). The loss r /
    Sigma + log Sigma is the negative log-likelihood of this distribution.

    residual: (..., H, W) residuals of either sign.
    sigma: (..., H, W) predicted scale of the Laplace distribution at each pixel, in the unit of the residual.
    mask: (..., H, W) bool, true for scored pixels.
    levels: L nominal coverages in (0, 1).
    """
    widths = residual.new_tensor([laplace_width(level) for level in levels], dtype=torch.float64)
    ratio = torch.where(mask, residual.double().abs() / sigma.double(), torch.inf).flatten(-2)
    widths = widths.expand(*ratio.shape[:-1], -1).contiguous()
    inside = torch.searchsorted(ratio.sort(dim=-1).values, widths, right=True)
    return inside.double() / mask.flatten(-2).sum(dim=-1, keepdim=True)
