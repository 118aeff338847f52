"""Configuration of the overlay loss. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel
from stadia.losses import OVERLAY_LOSSES

Weight = Annotated[float, Field(ge=0)]


class OverlayLossConfig(StrictModel):
    """Depth and mask of composite images: a weighted sum of terms (`stadia parts overlay-losses`).

    Depth is compared as ln z, scaled to 0 at min_depth and 1 at max_depth. So errors are relative in any unit, and SSIM
    has a known range.

    depth_mse, depth_l1, depth_smooth_l1: weights of the mean of d^2, of |d|, and of smooth L1.
    depth_ssim: weight of 1 - SSIM.
    depth_gradient: weight of the mean |dx d| + |dy d|, which ignores constants, so it cannot be the only depth term.
    mask_bce, mask_mse, mask_dice: weights of cross-entropy, squared error of the probability, and 1 - Dice per image.
    smooth_l1_beta: beta of smooth L1; at 1 all errors are below it, and smooth L1 is half of MSE.
    balance: weights are shares of the gradient: every `balance_every` steps each term's gradient at the layer that both
        heads share is measured, and all are scaled to their mean. If false, weights are plain factors.
    min_depth, max_depth: range of valid labels, in their unit (meters, if the labels are metric).
    """

    depth_mse: Weight = 0.0
    depth_l1: Weight = 1.0
    depth_smooth_l1: Weight = 0.0
    depth_ssim: Weight = 0.0
    depth_gradient: Weight = 0.0
    mask_bce: Weight = 1.0
    mask_mse: Weight = 0.0
    mask_dice: Weight = 0.0
    smooth_l1_beta: float = Field(default=0.02, gt=0)
    balance: bool = True
    balance_every: int = Field(default=50, ge=1)
    min_depth: float = Field(default=0.25, gt=0)
    max_depth: float = Field(default=80.0, gt=0)

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms that count, by their names in the table."""
        weights = {name: float(getattr(self, name)) for name in OVERLAY_LOSSES}
        return {name: weight for name, weight in weights.items() if weight}

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        if self.min_depth >= self.max_depth:
            raise ValueError(
                f"min_depth={self.min_depth:g} is not below max_depth={self.max_depth:g}: no label is left"
            )
        for what, anchors in (
            ("depth", ("depth_mse", "depth_l1", "depth_smooth_l1", "depth_ssim")),
            ("mask", ("mask_",)),
        ):
            if not any(name.startswith(anchors) for name in self.weights):
                only_gradient = "depth_gradient" in self.weights and what == "depth"
                alone = "depth_gradient alone leaves a constant open; " if only_gradient else ""
                raise ValueError(f"{alone}no term measures the error of the {what}: set one of {', '.join(_of(what))}")
        return self


def _of(what: str) -> list[str]:
    return [name for name in OVERLAY_LOSSES if name.startswith(what) and name != "depth_gradient"]
