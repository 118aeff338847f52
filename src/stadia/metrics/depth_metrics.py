"""Depth errors of images and of a set's pooled pixels, and signs of failed depth of road video.

Every metric takes `predicted_m` and `true_m`, (..., H, W) z in metres, and `mask`, (..., H, W) bool, true for scored
pixels, and returns (...). Both depths must be positive under the mask. An image without a scored pixel gives NaN.

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
    """Return AbsRel (...): the mean of |p - g| / g over the scored pixels, without unit.

    predicted_m, true_m: (..., H, W) depths p and g in metres.
    mask: (..., H, W) bool, true for scored pixels.
    """
    return _mean((predicted_m - true_m).abs() / true_m, mask)


def sq_rel(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return SqRel (...): the mean of (p - g)^2 / g in metres. KITTI's `sq_error_rel_percent` is a different metric."""
    return _mean((predicted_m - true_m).square() / true_m, mask)


def rmse(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the root mean square error (...): the root of the mean of (p - g)^2 in metres."""
    return _mean((predicted_m - true_m).square(), mask).sqrt()


def rmse_log(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the root mean square log error (...): the root of the mean of (ln p - ln g)^2, without unit."""
    return _mean(_log_ratio(predicted_m, true_m).square(), mask).sqrt()


def silog(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return SILog (...): 100 times the standard deviation of ln p - ln g. A common factor does not change it."""
    difference = _log_ratio(predicted_m, true_m)
    mean = _mean(difference, mask)[..., None, None]
    return 100 * _mean((difference - mean).square(), mask).sqrt()


def log10(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of |log10 p - log10 g| (...), without unit."""
    return _mean((predicted_m.log10() - true_m.log10()).abs(), mask)


def mae(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute error (...): the mean of |p - g| in metres."""
    return _mean((predicted_m - true_m).abs(), mask)


def _within(predicted_m: Tensor, true_m: Tensor, mask: Tensor, factor: float) -> Tensor:
    ratio = torch.maximum(predicted_m / true_m, true_m / predicted_m)
    return _mean((ratio < factor).to(true_m.dtype), mask)


def d1(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share (...) of pixels whose prediction is within a factor of 1.25 of the truth."""
    return _within(predicted_m, true_m, mask, 1.25)


def d2(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share (...) of pixels whose prediction is within a factor of 1.25^2 of the truth."""
    return _within(predicted_m, true_m, mask, 1.25**2)


def d3(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return the share (...) of pixels whose prediction is within a factor of 1.25^3 of the truth."""
    return _within(predicted_m, true_m, mask, 1.25**3)


def abs_error_rel_percent(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's absErrorRel (...): 100 times AbsRel."""
    return 100 * abs_rel(predicted_m, true_m, mask)


def sq_error_rel_percent(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's sqErrorRel (...): 100 times the mean of (p - g)^2 / g^2, without unit. SqRel divides by g only."""
    return 100 * _mean(((predicted_m - true_m) / true_m).square(), mask)


def irmse_per_km(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return KITTI's iRMSE (...): the root of the mean of (1/p - 1/g)^2 in 1/km."""
    return 1000 * _mean((1 / predicted_m - 1 / true_m).square(), mask).sqrt()


def scale_ratio(predicted_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Return median(g) / median(p) (...), the factor of per-image median scaling (arXiv 1704.07813).

    It is 1 if the predicted scale is right.
    """
    return fit_scale_median(predicted_m.flatten(-2), true_m.flatten(-2), mask.flatten(-2))


# -- depth errors over all scored pixels of a set, from sums over images
# batches.
# METRICS are means over an image's pixels, then over images, so that each image counts the same. Here each pixel counts
# the same.
# alike.


_MEANS = {"abs_rel": abs_rel, "mae": mae, "log10": log10, "d1": d1, "d2": d2, "d3": d3}


def depth_error_sums(predicted: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return the summed errors of each image over its scored pixels, (B,) float64 by name.

    `depth_pixels` is the number of scored pixels. `mse` and the other entries are sums, which `pooled_depth_scores`
    divides. A prediction that is not finite has an infinite error.

    predicted, true: (B, H, W) depths in metres, positive under the mask.
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
    """Return the scores of all pixels together, from the sums of `depth_error_sums`: `rmse`, `abs_rel`, `d1` etc.

    The result is empty if no pixel was scored.

    Examples:
        >>> pooled_depth_scores({})  # no scored pixel
        {}
    """
    if not (pixels := sums.get("depth_pixels")):
        return {}
    scores = {name: sums[name] / pixels for name in ("abs_rel", "mse", "mae", "log10", "d1", "d2", "d3")}
    return {"rmse": scores["mse"] ** 0.5, **scores}


def sum_over_images(images: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of each named value over images. The sum is exact, so the order of the images does not matter.

    Examples:
        >>> sum_over_images([{"mse": 1.0}, {"mse": 2.0}])
        {'mse': 3.0}
    """
    each = list(images)
    names = dict.fromkeys(name for one in each for name in one)
    return {name: fsum(one[name] for one in each if name in one) for name in names}


# -- signs of failed depth of road video: ratios that need no ground truth

MIN_ROW_PIXELS = 8
"""A row needs this many pixels for a meaningful mean; an object needs its square."""

MAX_ROW_RATIO = 0.99
"""A row of road is out of order if its depth is below this share of the depth of the row below it."""

LIMIT_SHARE = 0.95
"""Depth beyond this share of the network's largest depth counts as being at the limit."""


def object_extent(depth: Tensor, objects: Segments) -> Tensor:
    """Return the relative extent in depth of each object, (M,): its 90 % minus its 10 % quantile, over its median.

    The extent is 0 for a plane that faces the camera, and NaN for an object with too few pixels.

    depth: (B, 1, H, W) z in any unit.
    objects: pixels of the M objects.

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
    """Return the share (B,) of road rows that are nearer than the row below them; NaN without neighboring road rows.

    depth: (B, 1, H, W) z in any unit.
    road: (B, 1, H, W) bool.

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
    """Return the share, a scalar, of the given pixels whose depth is near the largest; NaN without pixels.

    depth: (B, 1, H, W) predicted depth.
    pixels: (B, 1, H, W) bool.
    max_depth: largest depth that the network can predict, a number or a tensor that broadcasts.

    Examples:
        >>> depth = torch.tensor([1.0, 100.0]).view(1, 1, 1, 2)
        >>> share_at_max_depth(depth, torch.ones(1, 1, 1, 2, dtype=torch.bool), 100.0).item()
        0.5
    """
    return ((depth > LIMIT_SHARE * max_depth) & pixels).sum() / pixels.sum()


INTERVALS = 50
"""Number of steps of a sparsification curve. As in Poggi et al., each step removes 2 % of the pixels."""


@dataclass(frozen=True, slots=True)
class DepthError:
    """A depth error that is a function of a mean over pixels.

    of_pixel: maps (predicted_m, true_m) of any shape to the error of each pixel, with the same shape.
    of_mean: maps the mean of these errors to the metric; it increases.
    """

    of_pixel: Callable[[Tensor, Tensor], Tensor]
    of_mean: Callable[[Tensor], Tensor]


DEPTH_ERRORS: Mapping[str, DepthError] = {
    "abs_rel": DepthError(lambda p, g: (p - g).abs() / g, lambda mean: mean),
    "rmse": DepthError(lambda p, g: (p - g).square(), torch.sqrt),
    "d1": DepthError(lambda p, g: (torch.maximum(p / g, g / p) >= 1.25).to(g.dtype), lambda mean: mean),
}
"""Errors by the name of their metric. `d1` stands for 1 - d1, the share of pixels wrong by more than a factor of 1.25.
"""


@dataclass(frozen=True, slots=True)
class Sparsification:
    """Mean errors of the remaining pixels while the most uncertain ones are removed in 50 steps, (..., 51) each.

    by_uncertainty: pixels are removed in the order of their predicted uncertainty.
    oracle: pixels are removed in the order of their true error.
    random: expected error if pixels are removed in random order.

    After the last step no pixel is left, and the error is 0.
    """

    by_uncertainty: Tensor
    oracle: Tensor
    random: Tensor

    @property
    def ause(self) -> Tensor:
        """Return AUSE (...): the area between this curve and the oracle's, in the unit of the error. 0 is best."""
        return _area(self.by_uncertainty - self.oracle)

    @property
    def aurg(self) -> Tensor:
        """Return AURG (...): the area between the random curve and this one.

        It is 0 if the uncertainty is no better than random, and negative if it is worse.
        """
        return _area(self.random - self.by_uncertainty)

    @property
    def ause_of_random(self) -> Tensor:
        """Return the AUSE (...) of a random order, which is the sum of AUSE and AURG."""
        return _area(self.random - self.oracle)

    @property
    def below_random(self) -> Tensor:
        """Return the share (...) by which AUSE is below that of a random order: 1 for the oracle, 0 for random order.

        It is NaN if all errors are equal.
        """
        return self.aurg / self.ause_of_random


def sparsification(
    predicted_m: Tensor, true_m: Tensor, uncertainty: Tensor, mask: Tensor, error: str = "abs_rel"
) -> Sparsification:
    """Return the sparsification curves of one depth error, one of DEPTH_ERRORS.

    predicted_m, true_m: (..., H, W) positive depths in metres, with the prediction already aligned.
    uncertainty: (..., H, W) predicted uncertainty; only its order matters.
    mask: (..., H, W) bool, true for scored pixels.

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
    """Return the mean error (..., 51) without the share k / 50 of the most uncertain pixels, for k from 0 to 50.

    Of n pixels, ceil(k (n - 1) / 50) are removed (Poggi et al.). Pixels of equal uncertainty all get their mean error.
    The last value is 0.

    error, uncertainty: (..., H, W).
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
    """Return Spearman's rank correlation of two maps of the same shape, from -1 to 1; NaN if one of them is constant.

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
    """Return half the width of the interval around 0 that has this share of a Laplace distribution with scale 1."""
    return -math.log1p(-share)


LEVELS = tuple(percent / 100 for percent in range(5, 100, 5))
"""Nominal coverages of the evaluated intervals: 5 % to 95 %."""


def calibration_curve(residual: Tensor, sigma: Tensor, mask: Tensor, levels: Sequence[float] = LEVELS) -> Tensor:
    """Return the share of residuals inside the interval of each level, (..., L). It equals the level for a right sigma.

    residual: (..., H, W) residuals of either sign. The loss r / Sigma + log Sigma is the negative log-likelihood of a
        Laplace distribution with scale Sigma.
    sigma: (..., H, W) scale of the distribution at each pixel, in the unit of the residual.
    mask: (..., H, W) bool, true for scored pixels.
    levels: L shares in (0, 1).
    """
    widths = residual.new_tensor([laplace_width(level) for level in levels], dtype=torch.float64)
    ratio = torch.where(mask, residual.double().abs() / sigma.double(), torch.inf).flatten(-2)
    widths = widths.expand(*ratio.shape[:-1], -1).contiguous()
    inside = torch.searchsorted(ratio.sort(dim=-1).values, widths, right=True)
    return inside.double() / mask.flatten(-2).sum(dim=-1, keepdim=True)
