"""Evaluate predicted uncertainty by sparsification, rank correlation and calibration."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

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
