"""T04 and T05: failures of a training on several data sets, from validations."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import warn_at

MAX_FORGETTING = 1.1
"""Residual of a data set over its minimum in the run."""

MAX_SCALE_SPREAD = 1.25
"""Largest over smallest factor from predicted to true motion."""

MAX_TRAINED_RESIDUAL = 0.8
"""Residual over that of the unwarped images: above it the scale has no meaning yet."""


class ForgettingMonitor:
    """Compares the `val/NAME/residual` of each data set with its minimum."""

    def __init__(self) -> None:
        self.least: dict[str, float] = {}

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        residuals = scores_by_data_set(row, "residual")
        worse = {name: value / self.least[name] for name, value in residuals.items() if self.least.get(name, 0.0) > 0}
        self.least |= {name: min(value, self.least.get(name, value)) for name, value in residuals.items()}
        name = max(worse, key=lambda one: worse[one], default="")
        if not name or worse[name] <= MAX_FORGETTING:
            return None
        measured = f"the residual of data set {name} is {worse[name]:.2f} times its minimum in this run"
        expected = f"at most {MAX_FORGETTING:g} times"
        return warn_at(step, "T04", measured, expected, where=[name], times=worse[name], residual=residuals[name])


class DataSetScaleMonitor:
    """Compares the `val/NAME/motion_scale` of trained data sets, over two validations."""

    def __init__(self) -> None:
        self.before = 1.0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        residuals, unwarped = scores_by_data_set(row, "residual"), scores_by_data_set(row, "residual_unwarped")
        if not residuals:
            return None  # no validation
        trained = {
            name
            for name in residuals.keys() & unwarped.keys()
            if residuals[name] < MAX_TRAINED_RESIDUAL * unwarped[name]
        }
        scales = {
            n: scale for n, scale in scores_by_data_set(row, "motion_scale").items() if n in trained and scale > 0
        }
        spread = max(scales.values()) / min(scales.values()) if len(scales) > 1 else 1.0
        persistent, self.before = min(spread, self.before), spread
        if persistent <= MAX_SCALE_SPREAD:
            return None
        factors = ", ".join(f"{name} {scale:.3g}" for name, scale in scales.items())
        measured = f"the scale from predicted to true motion differs between data sets: {factors}"
        expected = f"factors within {MAX_SCALE_SPREAD:g} times each other"
        return warn_at(step, "T05", measured, expected, where=list(scales), apart=spread, **scales)


def scores_by_data_set(row: Mapping[str, float], score: str) -> dict[str, float]:
    """Return `val/NAME/score` by the name of the data set."""
    parts = {name: name.split("/") for name in row}
    return {
        words[1]: row[name]
        for name, words in parts.items()
        if len(words) == 3 and words[0] == "val" and words[2] == score
    }
