"""Monitors during training: findings are written once, and a training that learns has none."""

import io
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.refusals import refuses
from tests.training.loop import small_recipe
from tests.training.loop.small_recipe import SmallRecipe

from stadia.core.errors import NotFiniteError, RunError
from stadia.differentiable.batch import Batch
from stadia.judge.finding import Finding, OnStop, Severity, Stage, read_valid_findings, write_findings
from stadia.losses.loss_report import LossReport
from stadia.training.loop.callbacks import CsvLogger
from stadia.training.loop.run_folder import Run
from stadia.training.monitors.optimization_monitors import DataSetScaleMonitor, LossSpikeMonitor
from stadia.training.monitors.training_monitor import TrainingMonitor, read_training_findings


def test_a_spike_is_many_times_the_median_of_the_batches_before() -> None:
    spike, rng = LossSpikeMonitor(), np.random.default_rng(0)
    falling = [10 * math.exp(-step / 30) * math.exp(rng.normal(0, 0.5)) for step in range(200)]
    assert [found for step, loss in enumerate(falling) if (found := spike.on_batch(step, loss, ()))] == []
    found = spike.on_batch(200, 15 * float(np.median(falling[-50:])), ("drive 7",))
    assert found is not None
    assert (found.code, found.severity, found.where) == ("T01", Severity.WARN, ("drive 7",))
    assert found.evidence["times"] == pytest.approx(15, rel=0.01)


def test_a_run_that_goes_on_has_not_forgotten_its_start(tmp_path: Path) -> None:
    """Its loss has fallen since, so that updates of 2 % teach; a loss that is the first one's again does not."""
    run = Run.create(tmp_path, "resumed", {}, recipe="selfsup", seed=0)
    log = CsvLogger(run, 0)
    log.scalars(10, 0, {"train/loss": 1.0, "train/update_ratio": 0.02})
    log.scalars(20, 0, {"train/loss": 0.5, "train/update_ratio": 0.02})

    def reported(*losses: float, step: int) -> list[str]:
        monitor = TrainingMonitor(run, Console(file=io.StringIO()))
        monitor.on_train_start(SimpleNamespace(step=step, recipe=SmallRecipe()))
        for number, loss in enumerate(losses, start=1):
            monitor._notify("on_row", step + 10 * number, {"train/loss": loss, "train/update_ratio": 0.02})
        return [finding.code for finding in read_training_findings(run.folder)]

    assert reported(0.5, 0.52, 0.51, step=20) == []
    assert reported(0.5, 1.1, step=20) == ["T02"]


def run_monitors(tmp_path: Path, recipe: SmallRecipe, **values: Any) -> tuple[Path, str]:
    class Late(TrainingMonitor):
        """Made when the run is there."""

        def __init__(self) -> None: ...

        def on_train_start(self, loop: Any) -> None:
            (folder,) = (path for path in tmp_path.iterdir() if path.name.endswith("-small"))
            super().__init__(Run.open(folder), Console(file=output, width=500))

    output = io.StringIO()
    run, _ = small_recipe.train(tmp_path, recipe=recipe, callbacks=[Late()], **values)
    return run.folder, output.getvalue()


def test_resumed_run_keeps_findings_and_reports_them_once(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "small", {}, recipe="small", seed=0)
    spike = LossSpikeMonitor()
    found = [spike.on_batch(step, loss, ()) for step, loss in enumerate([1.0] * 20 + [50.0])][-1]
    assert found is not None
    data_buffers = Finding("D02", Severity.WARN, Stage.DATA, "m", "e", "c", "c")
    write_findings(run.folder / "findings.jsonl", [data_buffers, found])
    assert read_training_findings(run.folder) == [found]
    output = io.StringIO()
    monitor = TrainingMonitor(run, Console(file=output))
    assert monitor.reported == {"T01"}
    (run.folder / "findings.jsonl").write_text('"no finding"\n')
    assert read_training_findings(run.folder) == []


def test_data_sets_that_have_learnt_units_of_their_own_are_named() -> None:
    def row(scale: float, residual: float = 0.1) -> dict[str, float]:
        outputs = {"residual": residual, "residual_unwarped": 0.2}
        return {
            f"val/{name}/{key}": v
            for name, s in (("a", 1.0), ("b", scale))
            for key, v in {**outputs, "motion_scale": s}.items()
        }

    apart = DataSetScaleMonitor()
    found = [apart.on_row(step, row(2.0)) for step in range(2)]
    assert found[0] is None, "once may be chance"
    assert found[1] is not None
    assert (found[1].code, found[1].where, found[1].evidence["apart"]) == ("T05", ("a", "b"), 2.0)
    near, young = DataSetScaleMonitor(), DataSetScaleMonitor()
    assert [near.on_row(step, row(1.2)) for step in range(3)] == [None] * 3
    assert [young.on_row(step, row(50.0, residual=0.18)) for step in range(3)] == [None] * 3


class Broken(SmallRecipe):
    """A loss that is not a number from step 4 on."""

    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        factor = math.nan if self.global_step == 3 else 1.0
        return LossReport(report.total * factor, {name: term * factor for name, term in report.terms.items()}, {})


def test_the_first_loss_that_is_not_finite_is_kept_with_its_term_and_samples(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError):
        run_monitors(tmp_path, Broken(), max_steps=30)
    (folder,) = (path for path in tmp_path.iterdir() if path.name.endswith("-small"))
    (found,) = [finding for finding in read_valid_findings(folder / "findings.jsonl")[0] if finding.code == "T08"]
    assert (found.severity, found.evidence["step"]) == (Severity.STOP, 4)
    assert "loss of step 4: nan (terms: " in found.measured


class Refusing:
    """A monitor that reports a stop at step 2."""

    def on_batch(self, step: int, loss: float, samples: tuple[str, ...]) -> Finding | None:
        return (
            Finding("X01", Severity.STOP, Stage.TRAINING, "left is right", "two cameras", "c", "swap them")
            if step == 2
            else None
        )


@pytest.mark.parametrize("on_stop", OnStop)
def test_stop_during_training_halts_or_warns(tmp_path: Path, on_stop: OnStop) -> None:
    run = Run.create(tmp_path, "small", {}, recipe="small", seed=0)
    monitor = TrainingMonitor(run, Console(file=(outputs := io.StringIO()), width=500), on_stop)
    monitor.monitors = (Refusing(),)  # type: ignore[assignment]
    reported = refuses(RunError, where="X01")
    with reported if on_stop is OnStop.HALT else nullcontext():
        for step in range(4):
            monitor._notify("on_batch", step, 1.0, ())
    assert outputs.getvalue().count("stop: X01") == 1
    assert [finding.code for finding in read_valid_findings(run.folder / "findings.jsonl")[0]] == ["X01"]
