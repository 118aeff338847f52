"""Several losses of one batch as one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stadia.losses.report import LossReport


def combine(parts: Mapping[str, tuple[float, LossReport]]) -> LossReport:
    """sum_i weight_i * report_i, with what it is made of.

    Args:
        parts: by the loss's name, its weight and its report: `{"selfsup": (1.0, report), "sparse_depth": (0.1,
            other)}`.

    Returns: the total; the terms as NAME/TERM, weighted as they enter, so that they add up to it, with their least
        values;
    the maps of all under the names that they have. Raises ValueError where there is no part, or two have a map of one
    name.
    """
    if not parts:
        raise ValueError("no loss to combine")
    maps: dict[str, Tensor] = {}
    for name, (_, report) in parts.items():
        if clash := sorted(maps.keys() & report.maps.keys()):
            raise ValueError(f"the loss '{name}' has a map '{clash[0]}', as another has: give it a name of its own")
        maps |= report.maps
    return LossReport(
        total=torch.stack([weight * report.total for weight, report in parts.values()]).sum(),
        terms={
            f"{name}/{term}": weight * value
            for name, (weight, report) in parts.items()
            for term, value in report.terms.items()
        },
        maps=maps,
        least={
            f"{name}/{term}": weight * bound
            for name, (weight, report) in parts.items()
            for term, bound in report.least.items()
        },
        seen={f"{name}/{what}": value for name, (_, report) in parts.items() for what, value in report.seen.items()},
    )
