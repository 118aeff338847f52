"""What the networks of a video say, and what the loss made of it, as scalars to log. The watch reads them
(`diagnostics.watching`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stadia.core.types import Prediction, is_temporal

EVERY = 8
"""Of the pixels along each axis: all would be sorted at each step."""

AT_BOUND = 0.05
"""Of the bound: depth that lies within has it."""

PERCENTS = (10, 50, 90)


def unexplained(winner: Tensor, sources: int) -> Tensor:
    """Where the auto-mask is, bool: an unwarped source explains the pixel better, or none sees it
    (`LossReport.maps["winner"]`).
    """
    return (winner < 0) | (winner >= sources)


def of_the_minimum(winner: Tensor, source_names: Sequence[str], teachers: Sequence[int]) -> dict[str, Tensor]:
    """`auto_masked` and `outside`, the share that no source sees; and of what is explained `explained_by/SOURCE`, of
    each that teaches.

    winner: (B, 1, H, W) int, of `LossReport.maps`.  teachers: indices of the sources (`SelfSupervisedLoss.teachers`).
    """
    seen = {"auto_masked": unexplained(winner, len(source_names)).float().mean()}
    some = winner[..., ::EVERY, ::EVERY]
    seen["outside"] = (some < 0).float().mean()
    if len(teachers) > 1:  # one alone explains all
        explained = (~unexplained(some, len(source_names))).sum()
        seen |= {f"explained_by/{source_names[n]}": (some == n).sum() / explained for n in teachers}
    return seen


def of_depth(inverse_depth: Tensor, min_depth_m: float, max_depth_m: float) -> dict[str, Tensor]:
    """`depth/median`, in the training's unit; `depth/spread`, the deviation of inverse depth over its mean, the median
    of the images; `depth/at_nearest` and `depth/at_farthest`, shares of the pixels within AT_BOUND of what the network
    can say.

    inverse_depth: (B, 1, H, W) in 1/m.
    """
    pixels = inverse_depth.detach()[..., ::EVERY, ::EVERY].flatten(1).float()
    return {
        "depth/median": 1 / pixels.median(),
        "depth/spread": (pixels.std(dim=1) / pixels.mean(dim=1)).median(),
        "depth/at_nearest": (pixels > (1 - AT_BOUND) / min_depth_m).float().mean(),
        "depth/at_farthest": (pixels < (1 + AT_BOUND) / max_depth_m).float().mean(),
    }


def of_motion(T_source_target: Tensor, source_names: Sequence[str], depth: Tensor) -> dict[str, Tensor]:
    """Of each source in time `motion/over_depth/SOURCE`, the length of its translation over the median depth, and
    `motion/turn_deg/SOURCE`, medians of the batch; and where there is one before and one after, `motion/same_side`: the
    mean cosine between their translations, -1 on a straight path.

    T_source_target: (B, N, 4, 4).  depth: (), in the unit of the translations.
    """
    temporal = {name: n for n, name in enumerate(source_names) if is_temporal(name)}
    if not temporal:
        return {}
    T = (
        torch.stack([T_source_target[:, n] for n in temporal.values()], dim=1).detach().float()
    )  # a list as an index would wait for a GPU
    lengths = T[..., :3, 3].norm(dim=-1).median(dim=0).values / depth
    half_sines = (T - torch.eye(4, device=T.device))[..., :3, :3].flatten(-2).norm(
        dim=-1
    ) / 8**0.5  # |R - 1| = sqrt(8) sin(angle / 2)
    turns_deg = torch.rad2deg(2 * half_sines.clamp(max=1).asin()).median(dim=0).values
    seen = {f"motion/over_depth/{name}": length for name, length in zip(temporal, lengths, strict=True)}
    seen |= {f"motion/turn_deg/{name}": turn for name, turn in zip(temporal, turns_deg, strict=True)}
    before, after = ([number for number, name in enumerate(temporal) if name.startswith(sign)] for sign in "-+")
    if before and after:
        seen["motion/same_side"] = torch.cosine_similarity(T[:, before[0], :3, 3], T[:, after[0], :3, 3], dim=-1).mean()
    return seen


def of_exposure_and_doubt(prediction: Prediction, source_names: Sequence[str]) -> dict[str, Tensor]:
    """Where the networks say them: `gain/SOURCE` and `offset/SOURCE`, means of the batch, and `log_uncertainty/pN`,
    tenths of log Sigma.
    """
    seen: dict[str, Tensor] = {}
    if prediction.brightness is not None:
        for name, (gain, offset) in zip(source_names, prediction.brightness.detach().mean(dim=0), strict=True):
            seen |= {f"gain/{name}": gain, f"offset/{name}": offset}
    if prediction.log_uncertainty is not None:
        pixels = prediction.log_uncertainty[0].detach()[..., ::EVERY, ::EVERY].flatten().float()
        quantiles = pixels.quantile(pixels.new_tensor(PERCENTS) / 100)
        seen |= {f"log_uncertainty/p{percent}": value for percent, value in zip(PERCENTS, quantiles, strict=True)}
    return seen
