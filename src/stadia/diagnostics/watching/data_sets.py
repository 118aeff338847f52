"""T04 and T05: what goes wrong where several data sets train one network. Both look at the rows of validations alone."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity

FORGOTTEN = 1.1
"""Of the residual of a data set, over the least that it had in the run."""

APART = 1.25
"""Largest over smallest factor that brings predicted motion to the true size."""

LEARNT = 0.8
"""Residual over that without depth and motion: above it a scale means nothing yet."""


class Forgetting:
    """Compares each data set's `val/NAME/residual` with the least that it was."""

    def __init__(self) -> None:
        self.least: dict[str, float] = {}

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        residuals = of_each(row, "residual")
        worse = {name: value / self.least[name] for name, value in residuals.items() if self.least.get(name, 0.0) > 0}
        self.least |= {name: min(value, self.least.get(name, value)) for name, value in residuals.items()}
        name = max(worse, key=lambda one: worse[one], default="")
        if not name or worse[name] <= FORGOTTEN:
            return None
        return finding(
            "T04",
            Severity.WARN,
            measured=(
                f"at step {step} the residual of data set {name} is {worse[name]:.2f} times the least that it was in"
                " this run"
            ),
            expected=f"at most {FORGOTTEN:g} times",
            evidence={"step": step, "times": worse[name], "residual": residuals[name]},
            where=[name],
        )


class ScalesApart:
    """Compares the `val/NAME/motion_scale` of data sets that are learnt, over two validations."""

    def __init__(self) -> None:
        self.before = 1.0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        left, unwarped = of_each(row, "residual"), of_each(row, "residual_unwarped")
        if not left:
            return None  # no validation
        learnt = {name for name in left.keys() & unwarped.keys() if left[name] < LEARNT * unwarped[name]}
        scales = {name: scale for name, scale in of_each(row, "motion_scale").items() if name in learnt and scale > 0}
        apart = max(scales.values()) / min(scales.values()) if len(scales) > 1 else 1.0
        lasting, self.before = min(apart, self.before), apart
        if lasting <= APART:
            return None
        told = ", ".join(f"{name} {scale:.3g}" for name, scale in scales.items())
        return finding(
            "T05",
            Severity.WARN,
            measured=(
                f"at step {step} predicted motion has to be brought to its true size by other factors in each data set:"
                f" {told}"
            ),
            expected=f"factors within {APART:g} times each other",
            evidence={"step": step, "apart": apart, **scales},
            where=list(scales),
        )


def of_each(row: Mapping[str, float], score: str) -> dict[str, float]:
    """`val/NAME/score` by the data set's name."""
    parts = {name: name.split("/") for name in row}
    return {
        words[1]: row[name]
        for name, words in parts.items()
        if len(words) == 3 and words[0] == "val" and words[2] == score
    }
