"""A loss on a scene with known correct outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stadia.core.errors import summarize_exception

Outputs = Mapping[str, Tensor]
"""Outputs of networks by name, in float64, each with the batch as its first axis."""


class LossRaised(Exception):
    """A loss, or its gradient, raised an exception: the message is one line."""


@dataclass(frozen=True)
class ErrorAxis:
    """A way in which outputs can be wrong.

    name: what is changed, and in which measure ("depth, times the true one").
    code: of the finding for a minimum elsewhere.
    outputs: by how far they are changed; `right` is the correct one.
    """

    name: str
    code: str
    right: float
    outputs: Mapping[float, Outputs]


@dataclass(frozen=True)
class LossCase:
    """A loss, and the outputs at which it must have its minimum.

    loss: a function of the outputs that returns a report; images, cameras and labels are bound to it.
    right, off: the correct outputs, and moderately wrong ones at which gradients are measured.
    axes: ways in which outputs can be wrong.
    shown: further inputs of the loss by name, which it must not change.
    forms: variants of the scene, by FORMS; those without a meaning are left out.
    hostile: scenes for which the loss must be finite, whatever the outputs.
    unlabeled: bool masks of pixels without a label by output name: their gradient must be 0.
    loose: relative tolerance of the gradient by output name, where some pixels have no gradient by design.
    """

    loss: Callable[[Outputs], Any]
    right: Outputs
    off: Outputs
    axes: tuple[ErrorAxis, ...]
    shown: Mapping[str, Tensor]
    forms: Mapping[str, Callable[[], LossCase]] = field(default_factory=dict)
    hostile: Mapping[str, Callable[[], LossCase]] = field(default_factory=dict)
    unlabeled: Mapping[str, Tensor] = field(default_factory=dict)
    loose: Mapping[str, float] = field(default_factory=dict)

    def report(self, outputs: Outputs) -> Any:
        """Return the report of the loss. Raises LossRaised for any exception in it."""
        try:
            return self.loss(outputs)
        except Exception as error:
            raise LossRaised(summarize_exception(error)) from error

    @cached_property
    def report_at_truth(self) -> Any:
        return self.report(self.right)

    @cached_property
    def report_at_wrong(self) -> Any:
        return self.report(self.off)

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the total at the moderately wrong outputs, by output name."""
        return self.gradients_at(self.off)

    def gradients_at(self, outputs: Outputs) -> dict[str, Tensor]:
        """Return gradients of the total by output name; 0 for outputs that do not enter. Raises LossRaised."""
        given = {name: value.detach().clone().requires_grad_() for name, value in outputs.items()}
        total = self.report(given).total
        try:
            found = torch.autograd.grad(total, list(given.values()), allow_unused=True)
        except Exception as error:
            raise LossRaised(f"its gradient, {summarize_exception(error)}") from error
        return {
            name: torch.zeros_like(given[name]) if gradient is None else gradient
            for name, gradient in zip(given, found, strict=True)
        }

    @cached_property
    def along(self) -> dict[str, dict[float, float]]:
        """The total along each axis, by the name of the axis, in increasing order."""
        with torch.no_grad():
            return {
                axis.name: {x: float(self.report(axis.outputs[x]).total) for x in sorted(axis.outputs)}
                for axis in self.axes
            }


def total_of(report: Any) -> float:
    """Return the total of a report as a number."""
    return float(report.total.detach())


COLORS = ("red", "green", "blue")

FORMS = (
    "twice the batch",
    "twice the size",
    "mirrored",
    "sources in another order",
    "first tenth changed",
    "every source wrong",
    *(f"every source wrong but for {color}" for color in COLORS),
    "the first source wrong",
    "the other sources wrong",
    "each wrong in another half",
    "a camera that has not moved",
    "one that has not moved, twice the size",
    "one that has not moved, in another unit",
    "left half wrong",
    "noise",
    "half of it noise",
)
"""Variants of the scene, each with correct and wrong outputs. The wrong ones are flat depth for a static camera,
uncertainty on the wrong side where a half is wrong, and the moderately wrong outputs elsewhere.
"""
