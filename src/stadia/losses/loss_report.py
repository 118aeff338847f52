"""The result that every loss returns, sums of several results, and reductions over pixels and processes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stadia.core.errors import ConfigError, RunError


@dataclass(frozen=True, slots=True)
class LossReport:
    """The loss of one batch.

    total: scalar, differentiable.
    terms: detached weighted scalars by name, which add up to `total`.
    maps: detached images of the finest scale. A photometric loss has four: "residual" (B, 1, H, W), unweighted;
        "winner" (B, 1, H, W) as in `MinimumReprojection`; "unwarped" (B, 1, H, W), the residual without depth and
        motion; "warped" (B, 3, H, W), the most similar warped source at each pixel, 0 if no source sees it.
    least: lower bound of each bounded weighted term, which the training loop checks.
    logged: detached scalars that are only logged.
    """

    total: Tensor
    terms: dict[str, Tensor]
    maps: dict[str, Tensor]
    least: Mapping[str, float] = field(default_factory=dict)
    logged: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_terms(cls, terms: Mapping[str, Tensor], maps: dict[str, Tensor], **values: Any) -> "LossReport":
        """Return the report of weighted, differentiable scalar terms. `values` are further fields of the report."""
        total = torch.stack(list(terms.values())).sum()
        return cls(total, {name: value.detach() for name, value in terms.items()}, maps, **values)


def check_report(report: object, key: str, *, maps: Sequence[str], logged: Sequence[str] = ()) -> LossReport:
    """Return what a loss returned, which a user may have written.

    key: the configuration's key of the loss, for the error.
    maps: maps that the recipe reads.
    logged: logged scalars that it reads.

    Raises ConfigError if it is no LossReport, or one of them is missing.
    """
    expected = f"a LossReport with the maps {', '.join(maps)}" + "".join(f", and the logged {name}" for name in logged)
    if not isinstance(report, LossReport):
        raise ConfigError(key, found=f"a loss that returns a {type(report).__name__}", expected=expected)
    missing = [name for name in maps if name not in report.maps] + [
        name for name in logged if name not in report.logged
    ]
    if missing:
        raise ConfigError(key, found=f"a loss that returns no {', '.join(missing)}", expected=expected)
    return report


# -- combine several losses of one batch


def combine_losses(parts: Mapping[str, tuple[float, LossReport]]) -> LossReport:
    """Return the weighted sum of several reports. Its terms, lower bounds and maps are named NAME/TERM.

    parts: weight and report by the name of the loss, such as `{"selfsup": (1.0, report), "sparse_depth": (0.1,
        other)}`.

    Raises ValueError without parts, or if two parts have a map with the same name.

    Examples:
        >>> parts = {"a": (2.0, LossReport.from_terms({"x": torch.tensor(1.0)}, {}))}
        >>> combine_losses(parts).total.item()
        2.0
    """
    if not parts:
        raise ValueError("no loss to combine")
    maps: dict[str, Tensor] = {}
    for name, (_, report) in parts.items():
        if clash := sorted(maps.keys() & report.maps.keys()):
            raise ValueError(f"the loss '{name}' has a map '{clash[0]}', as another has: give it a name of its own")
        maps |= report.maps
    total = torch.stack([weight * report.total for weight, report in parts.values()]).sum()
    terms: dict[str, Tensor] = {}
    least: dict[str, float] = {}
    logged: dict[str, Tensor] = {}
    for name, (weight, report) in parts.items():
        terms |= {f"{name}/{term}": weight * value for term, value in report.terms.items()}
        least |= {f"{name}/{term}": weight * bound for term, bound in report.least.items()}
        logged |= {f"{name}/{what}": value for what, value in report.logged.items()}
    return LossReport(total, terms, maps, least, logged)


def add_terms(report: LossReport, further: LossReport) -> LossReport:
    """Return the sum of two reports of the same batch, with the terms, maps and logged scalars of both."""
    return LossReport(
        report.total + further.total,
        {**report.terms, **further.terms},
        {**report.maps, **further.maps},
        {**report.least, **further.least},
        {**report.logged, **further.logged},
    )


# -- reductions of per-pixel losses to one number


def masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean of the values under the mask, a scalar.

    It is 0 for an empty mask, and stays in the autograd graph.

    known: bool mask that broadcasts to the values, which have any shape.

    Examples:
        >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False])).item()
        2.0
    """
    known = known.expand_as(values)
    return values.where(known, 0.0).sum() / known.sum().clamp(min=1)


def average_count_over_processes(counts: Tensor) -> Tensor:
    """Return counts of any shape, averaged over all processes that train together. All processes must call it.

    DDP averages gradients. So a sum that is divided by this count becomes the mean over one large batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return counts
    total = counts.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def divide_sum(values: Tensor, count: Tensor) -> Tensor:
    """Return the sum of values, of any shape, divided by a count from `average_count_over_processes`, a scalar.

    It is 0 for a count of 0 and stays in the autograd graph.
    """
    return values.sum() / count.where(count > 0, 1.0)


# -- check logged losses: the total is the sum of its terms, and no term is below its minimum
#
# A term below its minimum is computed wrongly, whatever the network predicts (SILog falls below 0 where its two means
# are not over the same pixels). A total that is not the sum of its terms trains something that no curve shows.

ROUNDING_TOLERANCE = 1e-5
"""Relative tolerance of a sum of terms in float32."""


def find_loss_errors(
    total: float, terms: Mapping[str, float], least: Mapping[str, float], dtype: torch.dtype = torch.float32
) -> list[str]:
    """Return one line for each violated rule: the total is the sum of its terms, and no term is below its minimum.

    total: the total loss.
    terms: weighted terms by name.
    least: the minimum of each bounded term, by name.
    dtype: number type of the loss's computation; half precision has a larger tolerance.

    Examples:
        >>> find_loss_errors(1.0, {"x": 0.5}, {"x": 0.0}, torch.float32)  # the terms do not add up
        ['the total is 1, the sum of its terms 0.5']
    """
    rounding = max(ROUNDING_TOLERANCE, 8 * torch.finfo(dtype).eps)
    broken = [
        f"term '{name}' is {terms[name]:.6g}, below its minimum {bound:g}"
        for name, bound in least.items()
        if name in terms and terms[name] < bound - rounding * max(1.0, abs(bound))
    ]
    size, added = sum(map(abs, terms.values())), sum(terms.values())
    if terms and abs(total - added) > rounding * max(size, abs(total)) + torch.finfo(dtype).tiny:
        broken.append(f"the total is {total:.6g}, the sum of its terms {added:.6g}")
    return [] if not math.isfinite(total) else broken  # a loss that is not finite has its own error


def check_loss(
    step: int, total: float, terms: Mapping[str, float], least: Mapping[str, float], dtype: torch.dtype = torch.float32
) -> None:
    """Raise RunError if `find_loss_errors` finds a violated rule; its lines become the message."""
    if broken := find_loss_errors(total, terms, least, dtype):
        what, expected = f"loss of step {step}", "the sum of its terms, each at its minimum or above"
        fix = "correct the loss: means over the same pixels with one count, and every term weighted as it enters"
        raise RunError(what, found="; ".join(broken), expected=expected, fix=fix)
