"""The scene on which the overlay loss is checked before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stadia.diagnostics.loss_checks.loss_case import (
    CONFIDENT,
    DEPTH_FACTORS,
    ErrorAxis,
    LossCase,
    Outputs,
    add_label_forms,
)

OverlayLossFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


def make_overlay_case(loss: OverlayLossFunction, terms: Mapping[str, float], unit: float = 1.0) -> LossCase:
    """Return the case of a loss of (ln z, mask logits, labels with 0 = none, mask), (B, 1, H, W) each.

    terms: weights by name: without a term of depth or of the mask that is no axis.
    unit: of the labels; depths are 3 to 16 of it.
    """
    has_depth = any(name.startswith("depth") and weight > 0 for name, weight in terms.items())
    has_mask = any(name.startswith("mask") and weight > 0 for name, weight in terms.items())

    def build(true: Tensor) -> LossCase:
        filled = torch.where(true > 0, true, 8.0 * unit)
        height, width = true.shape[-2:]
        pasted = torch.zeros(true.shape, dtype=torch.bool)
        pasted[..., height // 4 : height // 2, width // 3 : width // 2] = True
        log_depth, logits = filled.log(), torch.where(pasted, CONFIDENT, -CONFIDENT).double()
        right = {"log_depth": log_depth, "mask_logits": logits}
        off = {"log_depth": log_depth + 0.1 + 0.05 * (20 * filled / unit).sin(), "mask_logits": logits / 8 + 0.2}
        axes = []
        if has_depth:
            wrong = {x: {**right, "log_depth": log_depth + torch.tensor(x).log()} for x in DEPTH_FACTORS}
            axes.append(ErrorAxis("depth, times the true one", "L01", 1.0, wrong))
        if has_mask:
            scaled = {x: {**right, "mask_logits": logits * x} for x in (-1.0, -0.2, 0.0, 0.2, 1.0)}
            axes.append(ErrorAxis("logits of the mask, times the right ones", "L17", 1.0, scaled))

        def evaluate(values: Outputs) -> Any:
            return loss(values["log_depth"], values["mask_logits"], true, pasted)

        unlabeled = {"log_depth": true == 0}
        return LossCase(evaluate, right, off, tuple(axes), {"labels": true}, unlabeled=unlabeled)

    return add_label_forms(build, unit)
