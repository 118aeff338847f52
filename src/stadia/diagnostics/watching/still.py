"""T09 to T12: a training that stands still, and scores that cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.rows import logged

AT_REST, ALIKE = 3, 20
"""Rows one after the other: of a rate or a gradient of 0, which are never that by chance; and of one loss to the last
digit.
"""


class AtRest:
    """T09, T10, T11: looks at `train/lr`, `train/gradient_norm` and `train/loss` of logged steps."""

    def __init__(self) -> None:
        self.no_rate = self.no_gradient = self.alike = 0
        self.loss = math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rate, norm, loss = (logged(row, name) for name in ("lr", "gradient_norm", "loss"))
        if loss is None:
            return None
        self.no_rate = self.no_rate + 1 if rate == 0 else 0
        self.no_gradient = self.no_gradient + 1 if norm == 0 else 0
        self.alike = self.alike + 1 if loss == self.loss else 1
        self.loss = loss
        if self.no_rate == AT_REST:
            return _told("T09", step, f"the learning rate is 0, as for {AT_REST} rows", "above 0", lr=0.0)
        if self.no_gradient == AT_REST:
            told = _told(
                "T10", step, f"the gradient of all weights is 0, as for {AT_REST} rows", "above 0", gradient_norm=0.0
            )
            return replace(told, severity=Severity.STOP)  # no later step can be another
        if self.alike == ALIKE:
            return _told(
                "T11",
                step,
                f"the loss is {loss:.6g}, to the last digit, as for {ALIKE} rows",
                "other batches, other losses",
                loss=loss,
            )
        return None


SHARES = ("d1", "d2", "d3", "mask_iou", "mask_dice", "mask_boundary_f", "recall", "precision")
ERRORS = (
    "abs_rel",
    "sq_rel",
    "rmse",
    "rmse_log",
    "mse",
    "mae",
    "log10",
    "residual",
    "residual_unwarped",
    "mask_mae",
    "mask_bce",
)
ROUNDING = 1e-6


class ImpossibleScores:
    """T12: looks at validations for shares outside of [0, 1], errors below 0, and shares within less that are larger
    than within more.
    """

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        scores = {name.rpartition("/")[2]: value for name, value in row.items() if name.startswith("val/")}
        wrong = [
            f"{name} is {scores[name]:.4g}"
            for name in SHARES
            if name in scores and not -ROUNDING <= scores[name] <= 1 + ROUNDING
        ]
        wrong += [f"{name} is {scores[name]:.4g}" for name in ERRORS if name in scores and scores[name] < -ROUNDING]
        for less, more in pairwise(name for name in ("d1", "d2", "d3") if name in scores):
            if scores[less] > scores[more] + ROUNDING:
                wrong.append(f"{less} is {scores[less]:.4g} and {more} {scores[more]:.4g}")
        if not wrong:
            return None
        expected = "shares in [0, 1], errors of 0 or more, d1 <= d2 <= d3"
        seen = {name: scores[name] for name in (*SHARES, *ERRORS) if name in scores}
        return _told("T12", step, f"the validation says that {'; '.join(wrong)}", expected, **seen)


def _told(code: str, step: int, measured: str, expected: str, **evidence: float) -> Finding:
    return finding(
        code,
        Severity.WARN,
        measured=f"at step {step} {measured}",
        expected=expected,
        evidence={"step": step, **evidence},
    )
