"""C11, C12 and T12: scores of validations that are inconsistent, frozen, or out of range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import warn_at

MAX_RMSE_GAP = 0.01
MIN_FROZEN_SCORES = 3
FRACTIONS = ("d1", "d2", "d3", "mask_iou", "mask_dice", "mask_boundary_f", "recall", "precision")
ERRORS = (
    *("abs_rel", "sq_rel", "rmse", "rmse_log", "mse", "mae", "log10", "residual", "residual_unwarped"),
    *("mask_mae", "mask_bce"),
)
ROUNDING = 1e-6


class RmseMonitor:
    """C11: compares `val/rmse` with the root of `val/mse` of each validation."""

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rmse, mse = row.get("val/rmse"), row.get("val/mse")
        if rmse is None or mse is None or not (math.isfinite(rmse) and math.isfinite(mse)):
            return None
        root = max(mse, 0.0) ** 0.5
        if abs(rmse - root) <= MAX_RMSE_GAP * root:
            return None
        measured = f"val/rmse is {rmse:.4g}, the root of val/mse {root:.4g}"
        return warn_at(step, "C11", measured, f"both within {MAX_RMSE_GAP:.0%}", rmse=rmse, root=root)


class FrozenScoresMonitor:
    """C12: compares the scores of each validation with those of the one before."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        scores = {name: value for name, value in row.items() if name.startswith("val/") and math.isfinite(value)}
        if not scores:
            return None
        before, self.before = self.before, scores
        is_perfect = all(value in (0.0, 1.0) for value in scores.values())
        if len(scores) < MIN_FROZEN_SCORES or scores != before or is_perfect:
            return None
        measured = f"all {len(scores)} scores of the validation equal those of the one before"
        return warn_at(step, "C12", measured, "scores that follow the weights", **dict(list(scores.items())[:5]))


class ScoreRangeMonitor:
    """T12: finds fractions outside of [0, 1], errors below 0, and accuracies that fall with a wider tolerance."""

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        scores = {name.rpartition("/")[2]: value for name, value in row.items() if name.startswith("val/")}
        fractions = {name: scores[name] for name in FRACTIONS if name in scores}
        errors = {name: scores[name] for name in ERRORS if name in scores}
        wrong = [f"{name} {v:.4g}" for name, v in fractions.items() if not -ROUNDING <= v <= 1 + ROUNDING]
        wrong += [f"{name} {v:.4g}" for name, v in errors.items() if v < -ROUNDING]
        for strict, loose in pairwise(name for name in ("d1", "d2", "d3") if name in scores):
            if scores[strict] > scores[loose] + ROUNDING:
                wrong.append(f"{strict} {scores[strict]:.4g} and {loose} {scores[loose]:.4g}")
        if not wrong:
            return None
        expected = "fractions in [0, 1], errors of 0 or more, d1 <= d2 <= d3"
        return warn_at(step, "T12", f"the validation has {'; '.join(wrong)}", expected, **fractions, **errors)
