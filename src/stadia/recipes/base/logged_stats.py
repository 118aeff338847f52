"""Scalars of depth, motion, brightness, uncertainty and the auto-mask that each training step logs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stadia.core.types import Prediction, is_temporal

PIXEL_STRIDE = 8
"""Every n-th pixel along each axis, since medians sort the pixels at each step."""

BOUND_TOLERANCE = 0.05
"""Relative distance to a bound within which depth counts as at the bound."""

QUANTILE_PERCENTS = (10, 50, 90)


def compute_auto_mask(winner: Tensor, sources: int) -> Tensor:
    """Return the auto-mask, bool: an unwarped source explains the pixel better, or no source shows it.

    winner: index of the best source of each pixel (`LossReport.maps["winner"]`); -1: none shows it.
    """
    return (winner < 0) | (winner >= sources)


def min_reprojection_stats(winner: Tensor, source_names: Sequence[str], teachers: Sequence[int]) -> dict[str, Tensor]:
    """Return statistics of the minimum reprojection: `auto_masked`, `outside` and `explained_by/SOURCE`.

    `outside` is the share of pixels that no source shows. `explained_by/SOURCE` is the share of unmasked pixels that
    each teaching source explains.

    winner: (B, 1, H, W) int, of `LossReport.maps`.
    teachers: indices of the teaching sources (`SelfSupervisedLoss.teachers`).
    """
    stats = {"auto_masked": compute_auto_mask(winner, len(source_names)).float().mean()}
    sampled = winner[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE]
    stats["outside"] = (sampled < 0).float().mean()
    if len(teachers) > 1:  # a single source explains all
        explained = (~compute_auto_mask(sampled, len(source_names))).sum()
        stats |= {f"explained_by/{source_names[n]}": (sampled == n).sum() / explained for n in teachers}
    return stats


def depth_stats(inverse_depth: Tensor, min_depth_m: float, max_depth_m: float) -> dict[str, Tensor]:
    """Return statistics of depth: `depth/median`, `depth/spread`, `depth/at_nearest`, `depth/at_farthest`.

    `depth/spread` is the standard deviation of inverse depth over its mean, median of the batch. The last two are
    shares of pixels within BOUND_TOLERANCE of the bounds of the network.

    inverse_depth: (B, 1, H, W) in 1/m.
    """
    pixels = inverse_depth.detach()[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE].flatten(1).float()
    return {
        "depth/median": 1 / pixels.median(),
        "depth/spread": (pixels.std(dim=1) / pixels.mean(dim=1)).median(),
        "depth/at_nearest": (pixels > (1 - BOUND_TOLERANCE) / min_depth_m).float().mean(),
        "depth/at_farthest": (pixels < (1 + BOUND_TOLERANCE) / max_depth_m).float().mean(),
    }


def motion_stats(T_source_target: Tensor, source_names: Sequence[str], depth: Tensor) -> dict[str, Tensor]:
    """Return motion statistics of each source in time, medians of the batch.

    `motion/over_depth/SOURCE`: length of the translation over the median depth. `motion/turn_deg/SOURCE`: rotation
        angle.
    `motion/same_side`: mean cosine between the translations to a source before and one after; -1 on a straight path.

    T_source_target: (B, N, 4, 4).
    depth: (), in the unit of the translations.
    """
    temporal = {name: n for n, name in enumerate(source_names) if is_temporal(name)}
    if not temporal:
        return {}
    # stack, because a list as an index would wait for a GPU
    T = torch.stack([T_source_target[:, n] for n in temporal.values()], dim=1).detach().float()
    lengths = T[..., :3, 3].norm(dim=-1).median(dim=0).values / depth
    half_sines = (T - torch.eye(4, device=T.device))[..., :3, :3].flatten(-2).norm(
        dim=-1
    ) / 8**0.5  # |R - 1| = sqrt(8) sin(angle / 2)
    turns_deg = torch.rad2deg(2 * half_sines.clamp(max=1).asin()).median(dim=0).values
    stats = {f"motion/over_depth/{name}": length for name, length in zip(temporal, lengths, strict=True)}
    stats |= {f"motion/turn_deg/{name}": turn for name, turn in zip(temporal, turns_deg, strict=True)}
    before, after = ([number for number, name in enumerate(temporal) if name.startswith(sign)] for sign in "-+")
    if before and after:
        stats["motion/same_side"] = torch.cosine_similarity(
            T[:, before[0], :3, 3], T[:, after[0], :3, 3], dim=-1
        ).mean()
    return stats


def brightness_and_uncertainty_stats(prediction: Prediction, source_names: Sequence[str]) -> dict[str, Tensor]:
    """Return, if predicted, `gain/SOURCE` and `offset/SOURCE`, means of the batch, and `log_uncertainty/pN`,
    percentiles.
    """
    stats: dict[str, Tensor] = {}
    if prediction.brightness is not None:
        for name, (gain, offset) in zip(source_names, prediction.brightness.detach().mean(dim=0), strict=True):
            stats |= {f"gain/{name}": gain, f"offset/{name}": offset}
    if prediction.log_uncertainty is not None:
        pixels = prediction.log_uncertainty[0].detach()[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE].flatten().float()
        quantiles = pixels.quantile(pixels.new_tensor(QUANTILE_PERCENTS) / 100)
        stats |= {
            f"log_uncertainty/p{percent}": value for percent, value in zip(QUANTILE_PERCENTS, quantiles, strict=True)
        }
    return stats
