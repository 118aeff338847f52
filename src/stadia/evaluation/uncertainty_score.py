"""Score how well predicted uncertainty ranks pixels by depth error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import ProtocolError
from stadia.geometry.depth_maps import resize_map
from stadia.metrics.uncertainty_metrics import DEPTH_ERRORS, Sparsification, sparsification, spearman


@dataclass(frozen=True, slots=True)
class UncertaintyScore:
    """How well uncertainty ranks pixels by one depth error: of an image, or the mean over images.

    curves: (51,) each.
    spearman: rank correlation of uncertainty and error; None where one of them is constant.
    """

    curves: Sparsification
    spearman: float | None

    def numbers(self) -> dict[str, float | None]:
        """Return `ause`, `aurg`, `ause_of_random`, `below_random` (None where all errors are equal) and `spearman`."""
        curves = self.curves
        areas = {"ause": float(curves.ause), "aurg": float(curves.aurg), "ause_of_random": float(curves.ause_of_random)}
        below = float(curves.below_random) if areas["ause_of_random"] > 0 else None
        return {**areas, "below_random": below, "spearman": self.spearman}

    def to_json(self) -> dict[str, Any]:
        """Return the numbers and the curves: `curve`, `curve_of_oracle`, `curve_of_random`."""
        curves = self.curves
        by_name = {"curve": curves.by_uncertainty, "curve_of_oracle": curves.oracle, "curve_of_random": curves.random}
        return {**self.numbers(), **{name: curve.tolist() for name, curve in by_name.items()}}


UncertaintyScores = Mapping[str, UncertaintyScore]
"""By the name of the error, see `metrics.uncertainty_metrics.DEPTH_ERRORS`."""


def sample_uncertainty(
    name: str, log_uncertainty: NDArray[np.floating], shape: tuple[int, ...], mask: Tensor
) -> Tensor:
    """Return log Sigma (h, w) at the N scored pixels of a mask (H, W), (1, N), resized bilinearly to the truth.

    Raises ProtocolError where the shapes differ, or a scored pixel has no finite value.
    """
    if log_uncertainty.shape != shape:
        found = f"log uncertainty of shape {log_uncertainty.shape}"
        raise ProtocolError(name, found=found, expected=f"that of depth, {shape}", fix="predict again")
    values = torch.from_numpy(np.asarray(log_uncertainty, np.float64))
    scored = resize_map(values[None, None], *mask.shape)[0, 0][mask]
    if wrong := int((~scored.isfinite()).sum()):
        found = f"log uncertainty that is not finite at {wrong} of {len(scored)} scored pixels"
        raise ProtocolError(name, found=found, expected="a finite number at every one", fix="predict again")
    return scored[None]


def score_uncertainty(depth_m: Tensor, true_m: Tensor, uncertainty: Tensor) -> UncertaintyScores | None:
    """Score the (1, N) scored pixels of one image, depth aligned. Return None for fewer than 2 pixels."""
    if true_m.numel() < 2:
        return None
    every = torch.ones_like(true_m, dtype=torch.bool)
    orders = {}
    for name, error in DEPTH_ERRORS.items():
        rank = float(spearman(uncertainty, error.of_pixel(depth_m, true_m), every))
        curves = sparsification(depth_m, true_m, uncertainty, every, name)
        orders[name] = UncertaintyScore(curves, None if np.isnan(rank) else rank)
    return orders


def average_uncertainty_scores(orders: Sequence[UncertaintyScores]) -> UncertaintyScores:
    """Return means over images of the curves, and of Spearman's where it exists; empty for no image."""
    return {name: _mean([one[name] for one in orders]) for name in DEPTH_ERRORS} if orders else {}


def _mean(orders: Sequence[UncertaintyScore]) -> UncertaintyScore:
    curves = [[getattr(order.curves, name) for order in orders] for name in ("by_uncertainty", "oracle", "random")]
    ranks = [order.spearman for order in orders if order.spearman is not None]
    mean = Sparsification(*(torch.stack(each).mean(0) for each in curves))
    return UncertaintyScore(mean, float(np.mean(ranks)) if ranks else None)
