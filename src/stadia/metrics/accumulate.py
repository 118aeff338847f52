"""Depth scores over the batches of a validation, one process or many (torchmetrics synchronises the states)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from stadia.metrics import METRICS
from stadia.metrics.depth import scale_ratio


class DepthScores(Metric):
    """Means over images (not over pixels, nor over batches) of depth metrics, as a protocol takes them.

    Args:
        names: rows of `stadia.metrics.METRICS`.

    `compute` gives the means by name, `images`, `images_without_truth` (counted, never averaged) and
    `scale_ratio_median`. With no image scored yet, the means are left out.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    total: Tensor
    images: Tensor
    images_without_truth: Tensor
    ratios: list[Tensor]

    def __init__(self, names: Sequence[str] = tuple(METRICS), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self._functions = [METRICS.load(name) for name in self.names]
        # float64: the order of the batches then does not show in the digits that are reported
        self.add_state("total", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("images_without_truth", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("ratios", [], dist_reduce_fx="cat")

    def update(self, predicted_m: Tensor, true_m: Tensor, mask: Tensor | None = None) -> None:
        """Take a batch.

        Args:
            predicted_m: (B, 1, H, W) z in metres, positive.
            true_m: (B, 1, H, W) z in metres, 0 = none.
            mask: (B, 1, H, W) bool, the pixels to score; by default those with ground truth.
        """
        mask = true_m > 0 if mask is None else mask & (true_m > 0)
        predicted_m, true_m, mask = (m.flatten(0, -3) for m in (predicted_m.double(), true_m.double(), mask))
        scored = mask.flatten(1).any(1)
        triple = (predicted_m[scored], true_m[scored], mask[scored])
        self.total += torch.stack([function(*triple).sum() for function in self._functions])
        self.images += scored.sum()
        self.images_without_truth += (~scored).sum()
        self.ratios.append(scale_ratio(predicted_m, true_m, mask)[scored])

    def compute(self) -> dict[str, Tensor]:
        counts = {"images": self.images, "images_without_truth": self.images_without_truth}
        if self.images == 0:
            return counts
        means = dict(zip(self.names, self.total / self.images, strict=True))
        return {**means, "scale_ratio_median": dim_zero_cat(self.ratios).quantile(0.5), **counts}
