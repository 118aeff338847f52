"""What the verdict takes from the weights that a training started from: their steps, and whether they are better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stadia.diagnostics.finding import Severity
from stadia.diagnostics.prediction_checks import FrameMeasurements, TrainingRecord, Verdict, judge_measurements
from stadia.files.run_facts import UNKNOWN_FACTS, write_run_facts

LEARNED = TrainingRecord(steps=3000, warped_over_unwarped=0.3, auto_masked=0.2)
GOOD = FrameMeasurements(16, 6.0, 0.15, 0.6, 0.6, 12, 0.0)


def test_a_start_that_is_better_is_a_finding() -> None:
    """A note: depth may be good, and that of the start better. `stadia diagnose` prints it."""
    judged = judge_measurements(GOOD, replace(LEARNED, is_worse_than_start=True))
    ((found,), verdict) = judged.findings, judged.verdict
    assert (found.code, found.severity, verdict) == ("T40", Severity.NOTE, Verdict.USABLE)
    poor = judge_measurements(GOOD, replace(LEARNED, is_worse_than_start=True, auto_masked=0.9))
    assert [(finding.code, finding.severity) for finding in poor.findings] == [("T40", Severity.WARN)]


@pytest.mark.parametrize(("start_steps", "has_start"), [(5000, True), (60, True), (59, False), (0, False)])
def test_few_steps_are_enough_from_weights_that_were_trained(start_steps: int, has_start: bool, tmp_path: Path) -> None:
    """Steps count with those of the start."""
    write_run_facts(tmp_path, replace(UNKNOWN_FACTS, recipe="selfsup", start_steps=start_steps))
    (tmp_path / "metrics.csv").write_text("step,epoch,train/warped_over_unwarped\n40,0,0.3\n")
    training = TrainingRecord.read(tmp_path, steps=40)
    findings = judge_measurements(GOOD, training).findings
    assert [finding.code for finding in findings] == ([] if has_start else ["T40"])
    poor = judge_measurements(GOOD, replace(training, warped_over_unwarped=0.95)).findings
    assert poor[0].measured.startswith("the residual of the training" if has_start else "40 steps; the residual")
