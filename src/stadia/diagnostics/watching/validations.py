"""T13 and T17, O20 and O21, H19, C30, U05, U06: what validations tell when they are read beside one another, or beside
the training.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import COMES_RIGHT, VALIDATIONS, Lasts, Rule

CHOOSES = ("residual", "depth_and_mask_error", "rotation_error_deg_of_all", "abs_rel", "rmse")
"""Errors by which a validation is read, the first that it has."""

RISES, WORSE = 3, 1.1
"""Validations one after the other, and the last of them over the least of all."""

NOT_NUMBERS = 3
"""Validations: a network that has just begun may find nothing that could be scored."""

NO_MASK, ALL_MASK, GROWS = 0.05, 0.5, 1.5
OTHER_UNIT, OFF = 2.0, 0.3
BIASED = 2.0

RULES = (
    Rule("C30", "mask_iou", lambda v: v < NO_MASK, "masks that are said and true ones overlap by {:.1%}", f"at least {NO_MASK:.0%}",
         better=lambda v, before: v > GROWS * before),
    Rule("C30", "mask_mae", lambda v: v > ALL_MASK, "{:.0%} of the mask is wrong", f"at most {ALL_MASK:.0%}"),
    Rule("U05", "residual_spearman", lambda v: v < 0, "Sigma is larger where the residual is smaller, a rank correlation of {:.2f}",
         "above 0"),
    Rule("U06", "residual_over_sigma", lambda v: not 1 / BIASED <= v <= BIASED, "residuals are {:.2g} times Sigma, on the mean",
         f"within a factor of {BIASED:g} of 1"),
)  # fmt: skip
"""See `Validated`."""


class Overfit:
    """T13: the error of what validates rises, validation after validation, while the training's loss falls."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.courses: list[
            tuple[float, float]
        ] = []  # of each validation: the training's median loss since the one before, and the error

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        if math.isfinite(loss := row.get("train/loss", math.nan)):
            self.losses.append(loss)
        name = next((name for name in CHOOSES if math.isfinite(row.get(f"val/{name}", math.nan))), None)
        if name is None or not self.losses:
            return None
        error = row[f"val/{name}"]
        self.courses.append((statistics.median(self.losses), error))
        self.losses = []
        least, last = min(error for _, error in self.courses), self.courses[-RISES - 1 :]
        if len(last) <= RISES or error <= WORSE * least or not _apart(last):
            return None
        return finding(
            "T13",
            Severity.WARN,
            measured=(
                f"at step {step} val/{name} is {error:.4g}, {error / least:.2f} times the least that it was, and has"
                f" risen in {RISES} validations, while train/loss has fallen from {last[0][0]:.4g} to {last[-1][0]:.4g}"
            ),
            expected=f"at most {WORSE:g} times",
            evidence={
                "step": step,
                "course": {"train/loss": [one for one, _ in last], f"val/{name}": [error for _, error in last]},
            },
        )


def _apart(course: list[tuple[float, float]]) -> bool:
    """From each to the next the first falls and the second rises."""
    return all(after[0] < before[0] and after[1] > before[1] for before, after in pairwise(course))


class RotationUnlearnt:
    """O20: the angle between predicted and true rotations rises while the term that is to teach it falls."""

    def __init__(self) -> None:
        self.terms: list[float] = []
        self.courses: list[tuple[float, float]] = []

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        if (term := row.get("train/term/rotation")) is not None:
            self.terms.append(term)
        angle = row.get("val/rotation_error_deg")
        if angle is None or not math.isfinite(angle) or not self.terms:
            return None
        self.courses.append((statistics.median(self.terms), angle))
        self.terms = []
        last = self.courses[-RISES - 1 :]
        if len(last) <= RISES or not _apart(last):
            return None
        return finding(
            "O20",
            Severity.WARN,
            measured=(
                f"at step {step} rotations of what is found are {angle:.0f} degrees off, and were {last[0][1]:.0f},"
                f" while the term 'rotation' has fallen from {last[0][0]:.3g} to {last[-1][0]:.3g}"
            ),
            expected="an angle that falls with the term",
            evidence={
                "step": step,
                "course": {"term": [one for one, _ in last], "degrees": [angle for _, angle in last]},
            },
        )


class NothingFound:
    """O21: validations with objects, of which none is found."""

    def __init__(self) -> None:
        self.lasts = Lasts(NOT_NUMBERS)

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        objects, found = row.get("val/objects"), row.get("val/found")
        if objects is None or found is None:
            return None
        if not self.lasts(step, row, objects > 0 and found == 0):
            return None
        return finding(
            "O21",
            Severity.WARN,
            measured=f"at step {step} none of {objects:.0f} objects is found, as in {self.lasts.rows} validations",
            expected="masks that overlap with objects by half",
            evidence={"step": step, "objects": objects},
        )


class NoNumber:
    """T17: scores that are not finite: in NOT_NUMBERS validations, or in one after they were."""

    def __init__(self) -> None:
        self.lasts: defaultdict[str, Lasts] = defaultdict(lambda: Lasts(NOT_NUMBERS))
        self.numbers: set[str] = set()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        scores = {name: value for name, value in row.items() if name.startswith("val/")}
        if not scores:
            return None
        self.numbers |= {name for name, value in scores.items() if math.isfinite(value)}
        lasting = {name for name, value in scores.items() if self.lasts[name](step, row, not math.isfinite(value))}
        names = [
            name
            for name, value in scores.items()
            if name in lasting or (name in self.numbers and not math.isfinite(value))
        ]
        if not names:
            return None
        return finding(
            "T17",
            Severity.WARN,
            measured=f"at step {step} {', '.join(f'{name} is {scores[name]:g}' for name in names)}",
            expected="a number in each validation",
            evidence={"step": step},
            where=names,
        )


class ScaleMissed:
    """H19: depth that is claimed in metres has its form and not its size, and comes no nearer to it."""

    def __init__(self) -> None:
        self.lasts, self.before = Lasts(VALIDATIONS), math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        metres, scaled = row.get("val/abs_rel"), row.get("val/abs_rel_scaled")
        if metres is None or scaled is None:
            return None
        before, self.before = self.before, metres
        if not self.lasts(
            step, row, metres > OFF and metres > OTHER_UNIT * scaled and not metres < COMES_RIGHT * before
        ):
            return None
        return finding(
            "H19",
            Severity.WARN,
            measured=(
                f"at step {step} depth is {metres:.0%} off in metres, and {scaled:.0%} once it has the true size, "
                f"as in {self.lasts.rows} validations"
            ),
            expected=f"at most {OTHER_UNIT:g} times that, or {OFF:.0%}",
            evidence={"step": step, "abs_rel": metres, "abs_rel_scaled": scaled},
        )
