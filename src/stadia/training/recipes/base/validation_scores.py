"""Score depth, uncertainty and motion during the validation of a training, each sample by itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import DepthScale
from stadia.differentiable.batch import Meta, is_temporal
from stadia.geometry.align import fit_scale_and_shift, fit_scale_median
from stadia.geometry.cameras import depth_from_inverse, inverse_from_depth
from stadia.geometry.poses import at_least_float32, invert_pose
from stadia.metrics.depth_metrics import abs_rel, calibration_curve, d1, rmse, sparsification, spearman
from stadia.metrics.trajectory_metrics import (
    fit_motion_axes,
    median_length_ratio,
    median_translation_ratio,
    motion_components,
)
from stadia.training.loop.batches import gather_from_processes

Array = NDArray[np.float64]
_Pair = tuple[Meta, str]

MAX_DEPTH_M = 80.0
"""Largest depth that is scored, the cap of KITTI's protocols."""

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
    predicted, truth, scored = (_to_numpy(maps) for maps in (depth, true_m, mask))
    with np.errstate(divide="ignore", invalid="ignore"):  # pixels outside the mask have no truth
        errors = {"abs_rel": abs_rel(predicted, truth, scored), "rmse": rmse(predicted, truth, scored)}
        near = d1(predicted, truth, scored)
    if log_uncertainty is not None:
        order = sparsification(predicted, truth, _to_numpy(log_uncertainty), scored)
        errors |= {"ause": order.ause, "ause_of_random": order.ause_of_random}
    broken = _to_numpy(mask & ~inverse_depth.isfinite()).any((-2, -1))  # a NaN depth would count as 0
    worst = {name: np.where(broken, np.inf, value) for name, value in errors.items()}
    return {name: torch.from_numpy(values) for name, values in {**worst, "d1": near}.items()}


def _to_numpy(maps: Tensor) -> NDArray[Any]:
    """Return maps (B, 1, H, W) as an array (B, H, W); NumPy has no bfloat16."""
    maps = maps.detach()[:, 0]
    return (at_least_float32(maps) if maps.is_floating_point() else maps).cpu().numpy()


def compute_uncertainty_scores(residual: Tensor, log_uncertainty: Tensor) -> dict[str, Tensor]:
    """Return the calibration (B,) of Sigma, taken as the scale of a Laplace distribution of the residuals.

    `inside_10` to `inside_90` are the shares of residuals in the interval of this coverage. `residual_over_sigma` is 1
    if Sigma is calibrated.

    residual, log_uncertainty: (B, 1, H, W).
    """
    r, sigma = _to_numpy(residual[..., ::4, ::4]), np.exp(_to_numpy(log_uncertainty[..., ::4, ::4]))
    every = np.ones(r.shape, np.bool_)
    correlations = [spearman(*maps) for maps in zip(sigma, r, strict=True)]
    shares = calibration_curve(r, sigma, every, levels=[percent / 100 for percent in INTERVAL_PERCENTS])
    scores = {
        "residual_over_sigma": (r / sigma).mean((-2, -1)),
        "residual_spearman": np.nan_to_num(np.array(correlations)),
        **{f"inside_{percent}": share for percent, share in zip(INTERVAL_PERCENTS, shares.T, strict=True)},
    }
    return {name: torch.from_numpy(values) for name, values in scores.items()}


@dataclass
class MotionPairs:
    """Collect predicted and true camera motions between neighboring video frames during one validation.

    Motions are forward in time, so that driving ahead has positive z. Each pair of video frames counts once, because
    both directions together would correlate even for a constant prediction. Translations up to scale are multiplied
    by one factor for each dataset, which fits them to the truth.

    depth_scale: scale of the predicted depth, and so of the translations.
    pairs: predicted and true motion, (6,) each, by pair of video frames.
    """

    depth_scale: DepthScale
    pairs: dict[_Pair, tuple[Array, Array]] = field(default_factory=dict)

    def add(self, meta: Sequence[Meta], source_names: Sequence[str], predicted: Tensor, true: Tensor) -> None:
        """Add predicted and true motions T_source_target, (B, N, 4, 4) each. Unknown true motions are NaN."""
        for n, name in enumerate(source_names):
            if not is_temporal(name):
                continue
            both = np.stack([T[:, n].detach().double().cpu().numpy() for T in (predicted, true)])
            axes = motion_components(both if name.startswith("-") else invert_pose(both))
            self.pairs |= {
                (m, name): (axes[0, b], axes[1, b]) for b, m in enumerate(meta) if np.isfinite(axes[:, b]).all()
            }

    def collect(self) -> tuple[Array, Array]:
        """Return predicted motions, multiplied by their factors, and true motions of all processes, (N, 6) each.

        Every process must call it.
        """
        predicted, true = [np.empty((0, 6))], [np.empty((0, 6))]
        for part, true_part in self._parts().values():
            scale = 1.0 if self.depth_scale is DepthScale.METRES else median_length_ratio(part, true_part)
            predicted.append(np.concatenate([part[:, :3] * scale, part[:, 3:]], axis=1))
            true.append(true_part)
        return np.concatenate(predicted), np.concatenate(true)

    def scales(self) -> dict[str, float]:
        """Return the factor from predicted to true translations by the name of the dataset.

        Every process must call it. The result is empty if there is only one dataset, without a name.
        """
        named = {name: pair for name, pair in self._parts().items() if name}
        return {
            name: median_length_ratio(predicted, true)
            for name, (predicted, true) in named.items()
            if np.quantile(np.linalg.norm(predicted[:, :3], axis=-1), 0.5, method="lower") > 0
        }

    def _parts(self) -> dict[str, tuple[Array, Array]]:
        """Return (N, 6) predicted and true motions by dataset, of all processes."""
        pairs = {key: pair for part in gather_from_processes(self.pairs) for key, pair in part.items()}
        parts: dict[str, list[tuple[Array, Array]]] = {}
        for (meta, _), pair in pairs.items():
            parts.setdefault(meta.data, []).append(pair)
        both = {name: np.array(of_name) for name, of_name in parts.items()}
        return {name: (motions[:, 0], motions[:, 1]) for name, motions in both.items()}


def compute_motion_scores(predicted: Array, true: Array) -> dict[str, float]:
    """Return scores of predicted camera motions by name; empty if no true motion is known.

    `motion_slope/AXIS` and `motion_correlation/AXIS` are slope and correlation of predicted against true motion along
    each axis (tx, ty, tz, rx, ry, rz). `motion_along` is the median length of predicted translations along the true
    ones, as a share of the true length, 1 if right.

    predicted: (N, 6) predicted motions: translation, and rotation vector in degrees.
    true: (N, 6) true motions.
    """
    axes, along = fit_motion_axes(predicted, true), median_translation_ratio(predicted, true)
    slopes = {f"motion_slope/{axis}": slope for axis, (slope, _) in axes.items()}
    correlations = {f"motion_correlation/{axis}": correlation for axis, (_, correlation) in axes.items()}
    return slopes | correlations | ({} if along is None else {"motion_along": along})
