"""Combine several losses of one batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stadia.losses.report import LossReport


def combine(parts: Mapping[str, tuple[float, LossReport]]) -> LossReport:
    """Return sum_i weight_i * report_i with its terms.

    Args:
        parts: weight and report by loss name: `{"selfsup": (1.0, report), "sparse_depth": (0.1, other)}`.

    Returns: the total; weighted terms and lower bounds as NAME/TERM, which add up to it; all maps under their names.
    Raises ValueError without parts, or if two parts have a map of one name.
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
