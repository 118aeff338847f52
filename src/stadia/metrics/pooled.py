"""Depth errors over all scored pixels of a set, from sums over images: RMSE is the root of the MSE, whatever the
batches.

METRICS are means over an image's pixels, then over images, so that each image counts alike. Here each pixel counts
alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import fsum

import torch
from torch import Tensor

from stadia.metrics.depth import abs_rel, d1, d2, d3, log10, mae, rmse

_MEANS = {"abs_rel": abs_rel, "mae": mae, "log10": log10, "d1": d1, "d2": d2, "d3": d3}


def depth_sums(predicted: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return sums over the scored pixels of each image, (B,) float64: `depth_pixels`, `mse`, and the other errors by
    name.

    predicted, true: (B, H, W), positive where `mask` (B, H, W) is true. A prediction that is not finite has an infinite
        error.
    """
    predicted, true, count = predicted.double(), true.double(), mask.flatten(1).sum(1).double()
    broken = (mask & ~predicted.isfinite()).flatten(1).any(1)
    known = mask & ~broken[:, None, None]
    means = {name: error(predicted, true, known).nan_to_num(0.0) for name, error in _MEANS.items()}
    means["mse"] = rmse(predicted, true, known).square().nan_to_num(0.0)
    worst = {name: 0.0 if name in ("d1", "d2", "d3") else torch.inf for name in means}
    return {"depth_pixels": count, **{name: (mean * count).where(~broken, worst[name]) for name, mean in means.items()}}


def pooled_depth_scores(sums: Mapping[str, float]) -> dict[str, float]:
    """Return `rmse`, `abs_rel`, `mse`, `mae`, `log10`, `d1` to `d3` of summed errors; empty without a scored pixel."""
    if not (pixels := sums.get("depth_pixels")):
        return {}
    scores = {name: sums[name] / pixels for name in ("abs_rel", "mse", "mae", "log10", "d1", "d2", "d3")}
    return {"rmse": scores["mse"] ** 0.5, **scores}


def added_up(images: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of each name over images; exact, so that their order does not matter."""
    each = list(images)
    return {
        name: fsum(one[name] for one in each if name in one)
        for name in dict.fromkeys(name for one in each for name in one)
    }
