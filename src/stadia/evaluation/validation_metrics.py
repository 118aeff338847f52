"""Compute depth, uncertainty, motion and mask scores during validation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import DepthScale, Meta, is_temporal
from stadia.geometry.align import fit_scale_and_shift, fit_scale_median
from stadia.geometry.depth_maps import depth_from_inverse, inverse_from_depth
from stadia.geometry.se3 import inverse
from stadia.metrics.depth_metrics import abs_rel, d1, rmse
from stadia.metrics.trajectory_metrics import (
    fit_motion_axes,
    median_length_ratio,
    median_translation_ratio,
    motion_components,
)
from stadia.metrics.uncertainty_metrics import calibration_curve, sparsification, spearman
from stadia.training.loop.batches import gather_from_processes

Range = tuple[float, float]
_Pair = tuple[Meta, str]

MAX_DEPTH_M = 80.0

INTERVAL_PERCENTS = tuple(range(10, 100, 10))  # intervals about 0 at which calibration is checked


def compute_depth_scores(
    inverse_depth: Tensor, true_m: Tensor, depth_scale: DepthScale, log_uncertainty: Tensor | None = None
) -> dict[str, Tensor]:
    """Return `abs_rel`, `rmse` and `d1` of each sample, (B,), and `ause` and `ause_of_random` of an uncertainty.

    Depth up to scale is aligned by medians, and affine depth by least squares. A sample without ground truth has NaN. A
    prediction that is not finite has infinite errors.

    inverse_depth: (B, 1, H, W).
    true_m: (B, 1, H, W) metres, 0 for unknown; pixels below MAX_DEPTH_M are scored.
    depth_scale: scale of the prediction, which determines the alignment.
    log_uncertainty: (B, 1, H, W), larger for less certain depth.

    Examples:
        >>> true_m = torch.rand(2, 1, 4, 6) + 1
        >>> scores = compute_depth_scores(0.5 / true_m, true_m, DepthScale.UP_TO_SCALE)  # the scale is free
        >>> round(scores["abs_rel"].max().item(), 5)
        0.0
    """
    mask = (true_m > 0) & (true_m < MAX_DEPTH_M)
    if depth_scale is DepthScale.AFFINE_INVERSE:
        true = inverse_from_depth(true_m).flatten(1)
        scale, shift = fit_scale_and_shift(inverse_depth.flatten(1), true, mask.flatten(1))
        inverse_depth = (scale.view(-1, 1, 1, 1) * inverse_depth + shift.view(-1, 1, 1, 1)).clamp(min=1 / MAX_DEPTH_M)
    if depth_scale is DepthScale.AFFINE_DEPTH:  # `inverse_depth` is minus depth, up to scale and shift
        scale, shift = fit_scale_and_shift(inverse_depth.flatten(1), true_m.flatten(1), mask.flatten(1))
        fitted_m = scale.view(-1, 1, 1, 1) * inverse_depth + shift.view(-1, 1, 1, 1)
        inverse_depth = 1 / fitted_m.clamp(1e-3, MAX_DEPTH_M)
    depth = depth_from_inverse(inverse_depth)
    if depth_scale is DepthScale.UP_TO_SCALE:
        depth = depth * fit_scale_median(depth.flatten(1), true_m.flatten(1), mask.flatten(1))[:, None, None, None]
    scored = depth[:, 0], true_m[:, 0], mask[:, 0]
    errors = {"abs_rel": abs_rel(*scored), "rmse": rmse(*scored)}
    if log_uncertainty is not None:
        order = sparsification(depth[:, 0], true_m[:, 0], log_uncertainty[:, 0], mask[:, 0])
        errors |= {"ause": order.ause, "ause_of_random": order.ause_of_random}
    broken = (mask & ~inverse_depth.isfinite()).flatten(1).any(1)  # a NaN depth would count as 0
    worst = {name: value.where(~broken, math.inf) for name, value in errors.items()}
    return {**worst, "d1": d1(*scored)}


def compute_uncertainty_scores(residual: Tensor, log_uncertainty: Tensor) -> dict[str, Tensor]:
    """Return the calibration (B,) of Sigma, taken as the scale of a Laplace distribution of the residuals.

    `inside_10` to `inside_90` are the shares of residuals in the interval of this coverage. `residual_over_sigma` is 1
    if Sigma is calibrated.

    residual, log_uncertainty: (B, 1, H, W).
    """
    r, sigma = residual[:, 0, ::4, ::4], log_uncertainty[:, 0, ::4, ::4].exp()
    every = torch.ones_like(r, dtype=torch.bool)
    correlations = [spearman(*maps) for maps in zip(sigma, r, strict=True)]
    shares = calibration_curve(r, sigma, every, levels=[percent / 100 for percent in INTERVAL_PERCENTS])
    return {
        "residual_over_sigma": (r / sigma).mean(dim=(-2, -1)),
        "residual_spearman": torch.tensor(correlations, dtype=torch.float64, device=r.device).nan_to_num(0),
        **{f"inside_{percent}": share for percent, share in zip(INTERVAL_PERCENTS, shares.unbind(-1), strict=True)},
    }


@dataclass
class MotionPairs:
    """Predicted and true motions of the camera between neighboring frames of one validation.

    Motions are forward in time, so motion ahead has positive z. Each pair of frames counts once, because both
    directions together would correlate even for a constant prediction. Translations up to scale are scaled to the truth
    by one factor for each data set.

    pairs: predicted and true motion, (6,) each, by pair.
    """

    depth_scale: DepthScale
    pairs: dict[_Pair, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, meta: Sequence[Meta], source_names: Sequence[str], predicted: Tensor, true: Tensor) -> None:
        """Add predicted and true motions T_source_target, (B, N, 4, 4) each. Unknown true motions are NaN."""
        for n, name in enumerate(source_names):
            if not is_temporal(name):
                continue
            both = torch.stack([predicted[:, n], true[:, n]]).detach().double().cpu()
            axes = motion_components(both if name.startswith("-") else inverse(both)).numpy()
            self.pairs |= {
                (m, name): (axes[0, b], axes[1, b]) for b, m in enumerate(meta) if np.isfinite(axes[:, b]).all()
            }

    def collect(self) -> tuple[Tensor, Tensor]:
        """Return the predicted (scaled) and true motions of all processes, (N, 6) each. Every process must call it."""
        predicted, true = [torch.empty(0, 6, dtype=torch.float64)], [torch.empty(0, 6, dtype=torch.float64)]
        for part, true_part in self._parts().values():
            scale = 1.0 if self.depth_scale is DepthScale.METRES else median_length_ratio(part, true_part)
            predicted.append(torch.cat([part[:, :3] * scale, part[:, 3:]], dim=1))
            true.append(true_part)
        return torch.cat(predicted), torch.cat(true)

    def scales(self) -> dict[str, float]:
        """Return the factor from predicted to true translations for each data set. Every process must call it.

        The result is empty for one data set without a name.
        """
        moving = {n: pair for n, pair in self._parts().items() if n and pair[0][:, :3].norm(dim=-1).median() > 0}
        return {name: float(median_length_ratio(predicted, true)) for name, (predicted, true) in moving.items()}

    def _parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (N, 6) predicted and true motions by data set, of all processes."""
        pairs = {key: pair for part in gather_from_processes(self.pairs) for key, pair in part.items()}
        parts: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        for (meta, _), pair in pairs.items():
            parts.setdefault(meta.data, []).append(pair)
        both = {name: torch.tensor(np.array(of_name)) for name, of_name in parts.items()}
        return {name: (motions[:, 0], motions[:, 1]) for name, motions in both.items()}


def compute_motion_scores(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """Return `motion_slope/AXIS`, `motion_correlation/AXIS` and `motion_along`; empty without known motion.

    predicted, true: (N, 6) motions.
    """
    axes, along = fit_motion_axes(predicted, true), median_translation_ratio(predicted, true)
    slopes = {f"motion_slope/{axis}": slope for axis, (slope, _) in axes.items()}
    correlations = {f"motion_correlation/{axis}": correlation for axis, (_, correlation) in axes.items()}
    return slopes | correlations | ({} if along is None else {"motion_along": along})
