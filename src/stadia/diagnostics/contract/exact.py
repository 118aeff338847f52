"""A loss asked of a scene whose right answer is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stadia.core.errors import in_one_line

Answer = Mapping[str, Tensor]
"""What networks say, by name: each with the batch as its first axis, in float64."""


class LossRaised(Exception):
    """A loss, or its gradient, raised: what, in one line."""


@dataclass(frozen=True)
class Axis:
    """A way to be wrong.

    name: what is changed, and in which measure ("depth, times the true one").
    code: of the finding that says that the loss is least elsewhere.
    answers: by how far it is changed; `right` is among them.
    """

    name: str
    code: str
    right: float
    answers: Mapping[float, Answer]


@dataclass(frozen=True)
class Exact:
    """A loss, and the answer that it must like best.

    loss: of an answer; all else that it sees (images, cameras, labels) it has already. What it gives back is a loss's
        report.
    right, off: the right answer, and one that is moderately wrong everywhere, at which slopes are measured.
    axes: ways to be wrong.
    shown: what the loss is shown beside the answer, by name: it must leave it as it is.
    forms: the same scene in another form, by FORMS; one that makes no sense is left out.
    hostile: scenes that must give finite numbers, whatever the answer.
    unlabeled: where nothing is known of an answer, bool, by its name: it has no slope there.
    loose: by its name, the share by which an answer's slope may differ from finite differences where some values teach
        nothing by design.
    """

    loss: Callable[[Answer], Any]
    right: Answer
    off: Answer
    axes: tuple[Axis, ...]
    shown: Mapping[str, Tensor]
    forms: Mapping[str, Callable[[], Exact]] = field(default_factory=dict)
    hostile: Mapping[str, Callable[[], Exact]] = field(default_factory=dict)
    unlabeled: Mapping[str, Tensor] = field(default_factory=dict)
    loose: Mapping[str, float] = field(default_factory=dict)

    def report(self, answer: Answer) -> Any:
        """What the loss says of an answer. Raises LossRaised: it is the user's, and may raise anything."""
        try:
            return self.loss(answer)
        except Exception as error:
            raise LossRaised(in_one_line(error)) from error

    @cached_property
    def at_right(self) -> Any:
        """What the loss says of the right answer."""
        return self.report(self.right)

    @cached_property
    def at_off(self) -> Any:
        """What the loss says of the moderately wrong one."""
        return self.report(self.off)

    @cached_property
    def slopes(self) -> dict[str, Tensor]:
        """Of the total at the moderately wrong answer, by what is said."""
        return self.slopes_at(self.off)

    def slopes_at(self, answer: Answer) -> dict[str, Tensor]:
        """Of the total, by what is said; 0 of what does not enter. Raises LossRaised."""
        given = {name: value.detach().clone().requires_grad_() for name, value in answer.items()}
        total = self.report(given).total
        try:
            found = torch.autograd.grad(total, list(given.values()), allow_unused=True)
        except Exception as error:
            raise LossRaised(f"its gradient, {in_one_line(error)}") from error
        return {
            name: torch.zeros_like(given[name]) if slope is None else slope
            for name, slope in zip(given, found, strict=True)
        }

    @cached_property
    def along(self) -> dict[str, dict[float, float]]:
        """The total along each axis, by its name, rising."""
        with torch.no_grad():
            return {
                axis.name: {x: float(self.report(axis.answers[x]).total) for x in sorted(axis.answers)}
                for axis in self.axes
            }


def total_of(report: Any) -> float:
    """What a report adds up to."""
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
"""Of the right answer and a wrong one. What is wrong is flat depth where no camera has moved, and uncertainty on the
wrong side where a half is wrong; else it is the moderately wrong one.
"""
