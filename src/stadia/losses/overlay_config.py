"""Configuration of the losses of composed images. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel
from stadia.losses import OVERLAY_LOSSES

Weight = Annotated[float, Field(ge=0)]


class OverlayLossConfig(StrictModel):
    """Depth and mask of composed images. The loss is the weighted sum of its terms (`stadia parts overlay-losses`).

    Depth is compared as ln z, scaled so that min_depth is 0 and max_depth 1: an error is a share of the distance, near
    and far, whatever the unit; and SSIM has a known range.

    depth_mse, depth_l1, depth_smooth_l1: weights of the mean of d^2, of |d|, and of d^2 / 2 as far as |d| <
        smooth_l1_beta and |d| beyond.
    depth_ssim: of 1 - SSIM.  depth_gradient: of the mean |dx d| + |dy d|, which leaves a constant open: never alone.
    mask_bce: of the cross-entropy of the mask, mask_mse of its probability's squared error, mask_dice of 1 - Dice of
        each image.
    smooth_l1_beta: at 1 all errors are below it, and smooth L1 is half of MSE.
    balance: weights are shares of the gradient: every `balance_every` steps each term's gradient by the layer that both
        heads read is measured, and all are brought to their mean. Else they are factors.
    min_depth, max_depth: in the labels' unit (metres, if they claim metres); what lies outside is no label.
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
                alone = (
                    "depth_gradient alone leaves a constant open; "
                    if "depth_gradient" in self.weights and what == "depth"
                    else ""
                )
                raise ValueError(f"{alone}no term says how far off {what} is: set one of {', '.join(_of(what))}")
        return self


def _of(what: str) -> list[str]:
    return [name for name in OVERLAY_LOSSES if name.startswith(what) and name != "depth_gradient"]
