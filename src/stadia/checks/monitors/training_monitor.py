"""Run all monitors during training, write their findings, and stop if needed."""

from pathlib import Path
from typing import Any

from rich.console import Console

from stadia.checks.finding import TRAIN_ANYWAY, Finding, OnStop, Severity, Stage, append_finding, read_valid_findings
from stadia.checks.monitors.optimization_monitors import (
    OPTIMIZATION_MONITORS,
    SCORE_MONITORS,
    TERM_RULES,
    VALIDATION_RULES,
    report_not_finite,
)
from stadia.checks.monitors.persistence import (
    PersistentPartRule,
    PersistentRule,
    Row,
    ValidationRule,
    rename_base_values,
)
from stadia.checks.monitors.prediction_monitors import GEOMETRY_RULES, HEIGHT_RULES, PREDICTION_MONITORS, SOURCE_RULES
from stadia.core.errors import NotFiniteError, RunError
from stadia.core.shown_progress import SHOWN_PROGRESS
from stadia.training.loop.loggers import read_rows
from stadia.training.loop.loop import Callback, TrainingLoop
from stadia.training.loop.run_folder import Run


class TrainingMonitor(Callback):
    """Calls every monitor, and writes its findings to findings.jsonl, each code once per run.

    A monitor has `on_batch(step, loss, samples)` or `on_row(step, row)`, which return a Finding or None.
    """

    def __init__(self, run: Run, console: Console, on_stop: OnStop = OnStop.HALT) -> None:
        self.run, self.console, self.on_stop = run, console, on_stop
        classes = (*OPTIMIZATION_MONITORS, *PREDICTION_MONITORS, *SCORE_MONITORS)
        self.monitors = (
            *(monitor() for monitor in classes),
            *map(PersistentRule, (*GEOMETRY_RULES, *HEIGHT_RULES)),
            *map(PersistentPartRule, (*TERM_RULES, *SOURCE_RULES)),
            *map(ValidationRule, VALIDATION_RULES),
        )
        self.reported = {finding.code for finding in read_training_findings(run.folder)}

    def on_train_start(self, loop: TrainingLoop) -> None:
        """Replay the logged rows of a resumed run."""
        log = self.run.metrics_csv
        for cells in read_rows(log) if loop.step and log.exists() else ():
            row = {name: float(cell) for name, cell in cells.items() if cell}
            for monitor in self.monitors:
                if hasattr(monitor, "on_row"):
                    monitor.on_row(int(row["step"]), rename_base_values(row, loop.recipe.base_recipe))

    def on_batch_end(self, loop: TrainingLoop) -> None:
        findings, loop.recipe.found = loop.recipe.found, []
        for finding in findings:
            self._report(finding)

    def on_step_end(self, loop: TrainingLoop) -> None:
        for loss, value in zip(loop.losses, loop.batch_losses, strict=True):
            self._notify("on_batch", loop.step, value, loss.samples)

    def on_row(self, loop: TrainingLoop, step: int, row: Row) -> None:
        """Pass a logged row to the monitors."""
        self._notify("on_row", step, rename_base_values(row, loop.recipe.base_recipe))

    def _notify(self, when: str, *values: Any) -> None:
        for monitor in self.monitors:
            finding = getattr(monitor, when)(*values) if hasattr(monitor, when) else None
            if finding is not None:
                self._report(finding)

    def on_exception(self, loop: TrainingLoop, error: BaseException) -> None:
        if isinstance(error, NotFiniteError):  # which already ends the training
            self._report(report_not_finite(loop.step + 1, error), halts=False)

    def _report(self, finding: Finding, *, halts: bool = True) -> None:
        if finding.code in self.reported:
            return
        self.reported.add(finding.code)
        if self.run.writes:
            line = f"{finding.severity}: {finding.code} {finding.measured}; {finding.fix}"
            self.console.print(line, markup=False, soft_wrap=True)
            SHOWN_PROGRESS.finding = f"{finding.severity} {finding.code}"
            append_finding(self.run.folder / "findings.jsonl", finding)
        if halts and finding.severity is Severity.STOP and self.on_stop is OnStop.HALT:
            fix = f"{finding.fix}; or train anyway {TRAIN_ANYWAY}"
            what = f"{finding.code}, while training"
            raise RunError(what, found=finding.measured, expected=finding.expected, fix=fix)


def read_kept_findings(folder: Path) -> list[Finding]:
    """Return the findings of a run that a resume does not measure again: all but the data's."""
    path = folder / "findings.jsonl"
    findings = read_valid_findings(path)[0] if path.exists() else []
    return [finding for finding in findings if finding.stage is not Stage.DATA]


def read_training_findings(folder: Path) -> list[Finding]:
    """Return the findings of monitors in a run."""
    return [finding for finding in read_kept_findings(folder) if finding.stage is Stage.TRAINING]
