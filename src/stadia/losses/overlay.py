"""Loss of composite images: depth and mask, by named and weighted terms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stadia.core.errors import GeometryError
from stadia.losses import OVERLAY_LOSSES
from stadia.losses.overlay_config import OverlayLossConfig
from stadia.losses.overlay_terms import Compared
from stadia.losses.report import LossReport


class OverlayLoss:
    """The weighted sum of OVERLAY_LOSSES. Depth needs labels; the mask trains on every image.

    Terms are means over the batches of all processes, so every process has to call it. Runs in float32 at least.
    """

    def __init__(self, config: OverlayLossConfig | None = None) -> None:
        self.config = config or OverlayLossConfig()
        self.weights = self.config.weights
        self._rows = {name: OVERLAY_LOSSES.load(name) for name in self.weights}

    def __call__(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> LossReport:
        """Compute the loss of a batch with the configured weights; see `terms` and `report`."""
        return self.report(self.terms(log_depth, mask_logits, true, mask))

    def terms(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compute the terms with nonzero weight: scalars by name, unweighted, differentiable.

        Args:
            log_depth: (B, 1, H, W) ln z, in the unit of the labels.
            mask_logits: (B, 1, H, W).
            true: (B, 1, H, W) z, 0 = none.
            mask: (B, 1, H, W) bool, or in [0, 1] with threshold 0.5.

        Raises GeometryError if the sizes differ.
        """
        shapes = [tuple(x.shape) for x in (log_depth, mask_logits, true, mask)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 4 or shapes[0][1] != 1:
            raise GeometryError(
                "depth, mask and their labels",
                found=", ".join(map(str, shapes)),
                expected="four maps (B, 1, H, W) of one size",
                fix="resize the prediction to the labels' size",
            )
        with torch.autocast(log_depth.device.type, enabled=False):
            given = Compared.of(log_depth, true, mask_logits, mask, self.config)
            return {name: row(given, self.config) for name, row in self._rows.items()}

    def report(self, terms: Mapping[str, Tensor], factors: Mapping[str, Tensor | float] | None = None) -> LossReport:
        """Return the weighted sum; `factors` multiply the weights by name, to balance them."""
        weighted = {name: self.weights[name] * (factors or {}).get(name, 1.0) * value for name, value in terms.items()}
        total = torch.stack(list(weighted.values())).sum()
        detached = {name: value.detach() for name, value in weighted.items()}
        return LossReport(total, detached, {}, least=dict.fromkeys(weighted, 0.0))
