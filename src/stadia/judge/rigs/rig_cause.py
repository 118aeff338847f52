"""The cause of an error of a calibration between sensors, and the grade of such a calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stadia.core.verdict import Verdict
from stadia.judge.error import Measured, describe_measured
from stadia.judge.purposes import PurposeVerdict, grade_purposes


@dataclass(frozen=True, slots=True)
class RigCause:
    """A cause of an error, which was undone and left a smaller one.

    name: its name, such as "inverse".
    what: what the files have, as a clause.
    fix: what to do, as a clause.
    items: names of the images or cameras that it concerns; empty for all.
    size: how large it is; None without a size.
    unit: unit of the size.
    is_fault: whether results are wrong until it is undone.
    """

    name: str
    what: str
    fix: str
    items: tuple[str, ...] = ()
    size: Measured | None = None
    unit: str = ""
    is_fault: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "what": self.what,
            "fix": self.fix,
            "items": list(self.items),
            "size": describe_measured(self.size),
            "unit": self.unit or None,
        }


def grade_calibration(
    causes: Iterable[RigCause], reason: str, purposes: Sequence[PurposeVerdict], *, are_asked: bool
) -> Verdict:
    """Return the grade of a calibration: unusable with a fault, and otherwise that of its purposes.

    causes: what is wrong.
    reason: why nothing is measured; "" otherwise.
    purposes: what it is good for.
    are_asked: whether the user asked for these purposes.
    """
    if any(cause.is_fault for cause in causes):
        return Verdict.UNUSABLE
    return Verdict.NOT_JUDGED if reason else grade_purposes(purposes, are_asked=are_asked)
