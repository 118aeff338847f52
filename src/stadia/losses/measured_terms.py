"""Terms of measured depth and speed beside view synthesis: they give metres, and fine-tune on a few labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stadia.core.types import Prediction, Targets, is_temporal
from stadia.losses.config import SelfSupervisedLossConfig, SparseDepthConfig
from stadia.losses.loss_report import LossReport, masked_mean
from stadia.losses.sparse_depth import SparseDepthLoss


def compute_speed_error(T_source_target: Tensor, T_source_target_true: Tensor, source_names: Sequence[str]) -> Tensor:
    """Return the mean | |t| - |t_true| | in metres over the sources in time whose motion is measured; 0 without any.

    Only the length of the way is compared: a speedometer measures no direction (PackNet-SfM, arXiv 1905.02693, eq. 6).

    Args:
        T_source_target: (B, N, 4, 4) predicted.
        T_source_target_true: (B, N, 4, 4) metres, NaN where unknown.
        source_names: N names.

    Examples:
        >>> T, true = torch.eye(4).expand(1, 1, 4, 4).clone(), torch.eye(4).expand(1, 1, 4, 4).clone()
        >>> T[..., 2, 3], true[..., 0, 3] = 1.5, 1.0
        >>> compute_speed_error(T, true, ["+1"]).item()
        0.5
    """
    in_time = [number for number, name in enumerate(source_names) if is_temporal(name)]
    if not in_time:
        return 0 * T_source_target.sum()
    predicted = torch.stack([T_source_target[:, number, :3, 3] for number in in_time], 1)
    true = torch.stack([T_source_target_true[:, number, :3, 3] for number in in_time], 1)
    known = true.isfinite().all(-1)
    length = predicted.square().sum(-1).clamp(min=torch.finfo(predicted.dtype).tiny).sqrt()
    return masked_mean((length - true.nan_to_num().norm(dim=-1)).abs(), known)


class MeasuredTerms:
    """The terms "sparse_depth" and "speed" of `loss.sparse_depth` and `loss.speed`; none where both are 0."""

    def __init__(self, config: SelfSupervisedLossConfig) -> None:
        self.config = config
        self.sparse_depth = SparseDepthLoss(SparseDepthConfig(silog_per_image=0.0, log_l1=1.0))

    @property
    def is_used(self) -> bool:
        """Return whether any weight is above 0."""
        return self.config.sparse_depth > 0 or self.config.speed > 0

    def __call__(self, targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
        """Compute the weighted terms of a batch.

        Args:
            targets: with `depth_m` for the depth, and measured motions for the speed.
            prediction: inverse depth, finest first, and T_source_target.
            source_names: of the sources.
        """
        terms: dict[str, Tensor] = {}
        with torch.autocast(targets.image.device.type, enabled=False):
            if self.config.sparse_depth and targets.depth_m is not None:
                finest = prediction.inverse_depth[0].float()
                terms["sparse_depth"] = self.config.sparse_depth * self.sparse_depth(finest, targets.depth_m).total
            if self.config.speed:
                given = prediction.T_source_target.float(), targets.T_source_target_true.float()
                terms["speed"] = self.config.speed * compute_speed_error(*given, source_names)
        if not terms:
            terms["sparse_depth"] = 0 * prediction.inverse_depth[0].sum()
        return LossReport.from_terms(terms, {}, least=dict.fromkeys(terms, 0.0))
