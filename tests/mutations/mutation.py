"""A mutation: correct data or code, the same with one thing broken, and the finding that must name it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from stadia.judge.finding import Finding, Severity, Stage

RunChecks = Callable[[Path], list[Finding]]
"""From an empty folder to findings."""


class Outcome(StrEnum):
    """The outcome of a mutation.

    caught: named by its code at its stage.  another: another finding is first.  missed: no finding.
    alarm: the unbroken original has findings.
    """

    CAUGHT = "caught"
    ANOTHER = "another"
    MISSED = "missed"
    ALARM = "false alarm"


@dataclass(frozen=True)
class MutationCase:
    """One of `codes` must be the first finding of `broken`, at this stage; `correct` must have none.

    Notes count only for codes whose findings are notes; else they are about what could not be checked.
    """

    name: str
    codes: tuple[str, ...]
    stage: Stage
    broken: RunChecks
    correct: RunChecks


@dataclass(frozen=True)
class MutationResult:
    """The outcome, and the codes that were reported: for the broken case, or for the original in a false alarm."""

    outcome: Outcome
    reported: tuple[str, ...]


def run_mutation(row: MutationCase, folder: Path) -> MutationResult:
    """Run the original and the broken case, each in its own folder."""
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
