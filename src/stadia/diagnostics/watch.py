"""The watch: what is asked while a run trains, of numbers that are there anyway. It tells, and halts where something
says stop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from stadia.core.errors import DataError, NotFiniteError, RunError
from stadia.diagnostics.finding import Finding, OnStop, Severity, Stage, add_finding, read_findings
from stadia.diagnostics.watching import geometry, heights, terms, validations, video
from stadia.diagnostics.watching.data_sets import Forgetting, ScalesApart
from stadia.diagnostics.watching.dead_answers import DeadAnswers
from stadia.diagnostics.watching.geometry import Exposures, SmoothnessRules, Unbalanced, Unseen
from stadia.diagnostics.watching.heights import ScaleIgnored
from stadia.diagnostics.watching.lasting import Lasting, LastingOfEach, Validated
from stadia.diagnostics.watching.loss_spike import LossSpike
from stadia.diagnostics.watching.not_finite import not_finite
from stadia.diagnostics.watching.pace import RateOfNothing, Unmoved, Waits
from stadia.diagnostics.watching.scores import FrozenScores, RootOfMse, SameTerms
from stadia.diagnostics.watching.still import AtRest, ImpossibleScores
from stadia.diagnostics.watching.terms import ConstantTerm, NotTheSum
from stadia.diagnostics.watching.times import ImpossibleTimes
from stadia.diagnostics.watching.uncertainty import AtItsBounds, ConstantUncertainty, FallsAlone
from stadia.diagnostics.watching.update_size import UpdateSize
from stadia.diagnostics.watching.validations import NoNumber, NothingFound, Overfit, RotationUnlearnt, ScaleMissed
from stadia.diagnostics.watching.video import Drift, OtherUnit
from stadia.training.loggers import read_rows
from stadia.training.loop import Callback, TrainingLoop
from stadia.training.run import Run


def instruments() -> tuple[object, ...]:
    """All of them, new: what they remember is of one run."""
    return (
        *(LossSpike(), UpdateSize(), DeadAnswers(), AtRest(), ImpossibleTimes()),
        *(RateOfNothing(), Unmoved(), Waits()),
        *(SameTerms(), ConstantTerm(), NotTheSum()),
        *(Exposures(), Unbalanced(), SmoothnessRules(), Unseen(), Drift(), OtherUnit()),
        *(ConstantUncertainty(), FallsAlone(), AtItsBounds()),
        *(RootOfMse(), FrozenScores(), ImpossibleScores(), NoNumber(), Overfit(), RotationUnlearnt(), NothingFound()),
        *(ScaleIgnored(), ScaleMissed(), Forgetting(), ScalesApart()),
        *map(Lasting, (*geometry.RULES, *heights.RULES, *video.RULES)),
        *map(LastingOfEach, (*terms.OF_EACH, *video.OF_EACH)),
        *map(Validated, validations.RULES),
    )


class Watch(Callback):
    """Asks every instrument, and writes what it finds into findings.jsonl, each code once a run.

    An instrument is a class with `on_batch(step, loss, samples)` or `on_row(step, row)`, or both, that give a Finding
    or None: one file of `watching/` and one line here. Nothing of it is read from the device.
    """

    def __init__(self, run: Run, console: Console, on_stop: OnStop = OnStop.HALT) -> None:
        self.run, self.console, self.on_stop = run, console, on_stop
        self.instruments = instruments()
        self.told = {found.code for found in found_while_training(run.folder)}

    def on_train_start(self, loop: TrainingLoop) -> None:
        """A run that goes on has not forgotten its start: what it logged is gone through again, and nothing of it is
        told twice.
        """
        log = self.run.metrics_csv
        for cells in read_rows(log) if loop.step and log.exists() else ():
            row = {name: float(cell) for name, cell in cells.items() if cell}
            for instrument in self.instruments:
                if hasattr(instrument, "on_row"):
                    instrument.on_row(int(row["step"]), row)

    def on_batch_end(self, loop: TrainingLoop) -> None:
        assert loop.batch is not None
        found, loop.recipe.found = loop.recipe.found, []
        for one in found:
            self._once(one)
        samples = tuple(f"{one.recording} {one.index}" for one in loop.batch.meta)
        self._ask("on_batch", loop.step, loop.batch_loss, samples)

    def on_row(self, loop: TrainingLoop, step: int, row: Mapping[str, float]) -> None:
        self._ask("on_row", step, row)

    def _ask(self, when: str, *seen: Any) -> None:
        for instrument in self.instruments:
            found = getattr(instrument, when)(*seen) if hasattr(instrument, when) else None
            if found is not None:
                self._once(found)

    def on_exception(self, loop: TrainingLoop, error: BaseException) -> None:
        if isinstance(error, NotFiniteError):  # which halts the training by itself
            self._once(not_finite(loop.step + 1, error), halts=False)

    def _once(self, found: Finding, *, halts: bool = True) -> None:
        """Tell it, once a run. Raises RunError where it says stop, and that halts."""
        if found.code in self.told:
            return
        self.told.add(found.code)
        self._tell(found)
        if halts and found.severity is Severity.STOP and self.on_stop is OnStop.HALT:
            fix = f"{found.fix}; --on-stop warn trains on all the same"
            raise RunError(f"{found.code}, while training", found=found.measured, expected=found.expected, fix=fix)

    def _tell(self, found: Finding) -> None:
        if self.run.writes:
            self.console.print(
                f"{found.severity}: {found.code} {found.measured}; {found.fix}", markup=False, soft_wrap=True
            )
            add_finding(self.run.folder / "findings.jsonl", found)


def found_while_training(folder: Path) -> list[Finding]:
    """What the watch has found in a run before it was stopped. Of a file that is missing or damaged: nothing."""
    with contextlib.suppress(OSError, ValueError, DataError):
        return [found for found in read_findings(folder / "findings.jsonl") if found.stage is Stage.TRAINING]
    return []
