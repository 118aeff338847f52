"""Loss cases with labels of depth and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stadia.diagnostics.loss_checks.loss_case import ErrorAxis, LossCase, Outputs

DEPTH_FACTORS = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)
CONFIDENT = 8.0
"""A correct logit at which sigmoids are not yet saturated."""

DepthLoss = Callable[[Tensor, Tensor], Any]
OverlayLossFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


def depth_labels(height: int = 33, width: int = 65, batch: int = 2, unit: float = 1.0) -> Tensor:
    """Return (B, 1, H, W) depth in float64, 0 = none at every third pixel: a slanted plane with waves, 3 to 16 units.

    The size is odd, so that a stride of two selects the same pixels when mirrored.
    """
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(
        torch.linspace(0, 1, height, dtype=torch.float64),
        torch.linspace(0, 1, width, dtype=torch.float64),
        indexing="ij",
    )
    phase = torch.rand(batch, 1, 1, 1, generator=generator, dtype=torch.float64) * 6
    depth_m = 4 + 8 * x + 3 * y + (6 * x + 4 * y + phase).sin()
    unknown = torch.arange(width) % 3 == 2
    return torch.where(unknown, 0.0, unit * depth_m)


def make_depth_case(loss: DepthLoss, *, forgives_scale: bool = False, unit: float = 1.0) -> LossCase:
    """Return the case of a loss of inverse depth (B, 1, H, W) 1/m against labels (B, 1, H, W) metres, 0 = none.

    forgives_scale: whether it compares up to scale (and shift): then the slant of the plane is the axis instead of
        depth.
    unit: depths are 3 to 16 of it.
    """
    return _of_depth(loss, depth_labels(unit=unit), unit, forgives_scale, plain=False)


def _of_depth(loss: DepthLoss, true_m: Tensor, unit: float, forgives_scale: bool, *, plain: bool) -> LossCase:
    filled = torch.where(true_m > 0, true_m, true_m[true_m > 0].median() if (true_m > 0).any() else 8.0 * unit)
    right = {"inverse_depth": 1 / filled}
    middle = filled.log().mean(dim=(2, 3), keepdim=True)

    def wrong(x: float) -> dict[str, Tensor]:
        log_depth = middle + (filled.log() - middle) * x if forgives_scale else filled.log() + torch.tensor(x).log()
        return {"inverse_depth": (-log_depth).exp()}

    off = {"inverse_depth": right["inverse_depth"] * (1.1 + 0.1 * (20 * filled / unit).sin())}
    if plain:
        return LossCase(lambda values: loss(values["inverse_depth"], true_m), right, off, (), {})
    axis = "relief of log depth, times the true one" if forgives_scale else "depth, times the true one"
    forms = {
        "twice the batch": lambda: torch.cat((true_m, true_m)),
        "twice the size": lambda: depth_labels(2 * true_m.shape[-2] - 1, 2 * true_m.shape[-1] - 1, len(true_m), unit),
        "mirrored": lambda: true_m.flip(-1),
    }
    hostile = {"an image without labels": lambda: torch.cat((true_m[:1], torch.zeros_like(true_m[:1])))}

    def form(make: Callable[[], Tensor]) -> Callable[[], LossCase]:
        return lambda: _of_depth(loss, make(), unit, forgives_scale, plain=True)

    return LossCase(
        lambda values: loss(values["inverse_depth"], true_m),
        right,
        off,
        (ErrorAxis(axis, "L01", 1.0, {x: right if x == 1 else wrong(x) for x in DEPTH_FACTORS}),),
        {"labels": true_m},
        {name: form(make) for name, make in forms.items()},
        {name: form(make) for name, make in hostile.items()},
        {"inverse_depth": true_m == 0},
    )


def make_overlay_case(loss: OverlayLossFunction, terms: Mapping[str, float], unit: float = 1.0) -> LossCase:
    """Return the case of a loss of (ln z, mask logits, labels in the unit of z with 0 = none, mask), (B, 1, H, W) each.

    terms: weights by name: without a term of depth or of the mask that is no axis.
    unit: depths are 3 to 16 of it.
    """
    depth = any(name.startswith("depth") and weight > 0 for name, weight in terms.items())
    mask = any(name.startswith("mask") and weight > 0 for name, weight in terms.items())
    return _of_overlay(loss, depth_labels(unit=unit), unit, depth=depth, mask=mask, plain=False)


def _of_overlay(
    loss: OverlayLossFunction, true: Tensor, unit: float, *, depth: bool, mask: bool, plain: bool
) -> LossCase:
    filled = torch.where(true > 0, true, 8.0 * unit)
    height, width = true.shape[-2:]
    pasted = torch.zeros(true.shape, dtype=torch.bool)
    pasted[..., height // 4 : height // 2, width // 3 : width // 2] = True
    right = {"log_depth": filled.log(), "mask_logits": torch.where(pasted, CONFIDENT, -CONFIDENT).double()}
    off = {
        "log_depth": right["log_depth"] + 0.1 + 0.05 * (20 * filled / unit).sin(),
        "mask_logits": right["mask_logits"] / 8 + 0.2,
    }

    def evaluate(values: Outputs) -> Any:
        return loss(values["log_depth"], values["mask_logits"], true, pasted)

    if plain:
        return LossCase(evaluate, right, off, (), {})
    axes = []
    if depth:
        wrong = {x: {**right, "log_depth": right["log_depth"] + torch.tensor(x).log()} for x in DEPTH_FACTORS}
        axes.append(ErrorAxis("depth, times the true one", "L01", 1.0, wrong))
    if mask:
        scaled = {x: {**right, "mask_logits": right["mask_logits"] * x} for x in (-1.0, -0.2, 0.0, 0.2, 1.0)}
        axes.append(ErrorAxis("logits of the mask, times the right ones", "L17", 1.0, scaled))
    forms = {
        "twice the batch": lambda: torch.cat((true, true)),
        "twice the size": lambda: depth_labels(2 * height - 1, 2 * width - 1, len(true), unit),
    }
    hostile = {"an image without labels": lambda: torch.cat((true[:1], torch.zeros_like(true[:1])))}

    def form(make: Callable[[], Tensor]) -> Callable[[], LossCase]:
        return lambda: _of_overlay(loss, make(), unit, depth=depth, mask=mask, plain=True)

    return LossCase(
        evaluate,
        right,
        off,
        tuple(axes),
        {"labels": true},
        {name: form(make) for name, make in forms.items()},
        {name: form(make) for name, make in hostile.items()},
        {"log_depth": true == 0},
    )
