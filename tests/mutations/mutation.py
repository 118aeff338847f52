"""A mutation: what is right, the same with one thing broken, and which finding must name it, at which stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from stadia.diagnostics.finding import Finding, Severity, Stage

RunChecks = Callable[[Path], list[Finding]]
"""From an empty folder to write into, to what is found."""


class Outcome(StrEnum):
    """What came of a mutation.

    caught: named by its code at its stage.  another: something else is told first.  missed: nothing is.
    alarm: what is right is not silent.
    """

    CAUGHT = "caught"
    ANOTHER = "another"
    MISSED = "missed"
    ALARM = "false alarm"


@dataclass(frozen=True)
class MutationCase:
    """name: in words.  codes: one of them must be told first.  stage: when.  broken, sound: what is found with it, and
    without.

    A code whose findings are notes is sought among the notes too; else these say what could not be checked, and are let
    be.
    """

    name: str
    codes: tuple[str, ...]
    stage: Stage
    broken: RunChecks
    correct: RunChecks


@dataclass(frozen=True)
class MutationResult:
    """outcome, and what was told: of what is broken, or in a false alarm of what is right."""

    outcome: Outcome
    reported: tuple[str, ...]


def run_mutation(row: MutationCase, folder: Path) -> MutationResult:
    """Run both in folders of their own."""
    alarms, found = (
        _relevant(run(_new(folder / name)), row.codes) for name, run in (("sound", row.correct), ("broken", row.broken))
    )
    if alarms:
        return MutationResult(Outcome.ALARM, tuple(one.code for one in alarms))
    if not found:
        return MutationResult(Outcome.MISSED, ())
    right = found[0].code in row.codes and found[0].stage is row.stage
    return MutationResult(Outcome.CAUGHT if right else Outcome.ANOTHER, tuple(one.code for one in found))


def _relevant(found: list[Finding], codes: tuple[str, ...]) -> list[Finding]:
    return [one for one in found if one.severity is not Severity.NOTE or one.code in codes]


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
