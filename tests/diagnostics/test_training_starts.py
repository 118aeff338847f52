"""What the verdict takes from the weights that a training started from: their steps, and whether they are better."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stadia.diagnostics.finding import Severity
from stadia.diagnostics.prediction_checks import FrameMeasurements, TrainingRecord, Verdict, judge_measurements
from stadia.diagnostics.prediction_checks.training_record import MAX_STARTS, count_start_steps

LEARNED = TrainingRecord(steps=3000, warped_over_unwarped=0.3, auto_masked=0.2)
GOOD = FrameMeasurements(16, 6.0, 0.15, 0.6, 0.6, 12, 0.0)


def test_a_start_that_is_better_is_a_finding() -> None:
    """A note: depth may be good, and that of the start better. `stadia diagnose` prints it."""
    judged = judge_measurements(GOOD, replace(LEARNED, is_worse_than_start=True))
    ((found,), verdict) = judged.findings, judged.verdict
    assert (found.code, found.severity, verdict) == ("T40", Severity.NOTE, Verdict.USABLE)
    assert found.measured == "the weights that it started from score better on its validation frames"
    assert found.fix.startswith("use the weights that the training started from")
    poor = judge_measurements(GOOD, replace(LEARNED, is_worse_than_start=True, auto_masked=0.9))
    assert [(one.code, one.severity) for one in poor.findings] == [("T40", Severity.WARN)]


def test_the_finding_names_the_judged_checkpoint_and_the_other_one() -> None:
    training = TrainingRecord(
        steps=20, checkpoint="best.safetensors, step 20", other_checkpoint="last.safetensors, step 40"
    )
    (found,) = judge_measurements(GOOD, training).findings
    assert found.measured == (
        "20 steps (judged: best.safetensors, step 20; the other checkpoint: last.safetensors, step 40)"
    )
    assert found.evidence["other_checkpoint"] == "last.safetensors, step 40"


@pytest.mark.parametrize(
    ("recipe", "weights", "has_start"),
    [
        ("selfsup", {"weights of": "runs/long/checkpoints/best.safetensors, step 5000"}, True),
        ("selfsup", {"weights of": "runs/short/checkpoints/best.safetensors, step 60"}, True),
        ("selfsup", {"weights of": "runs/short/checkpoints/best.safetensors, step 59"}, False),
        ("supervised", {"network": "pretrained Intel/dpt-hybrid-midas@0a1b"}, True),
        ("supervised", {"network": "pretrained"}, True),
        ("supervised", {"network": "random"}, False),
        ("selfsup", {"depth.encoder": "pretrained", "pose.encoder": "pretrained"}, False),
        ("selfsup", None, False),
        ("selfsup", {"weights of": 5000}, False),
    ],
)
def test_few_steps_are_enough_from_weights_that_were_trained(
    recipe: str, weights: dict[str, object] | None, has_start: bool, tmp_path: Path
) -> None:
    """Steps count with those of the start. The encoder of `selfsup` alone starts from weights of ImageNet."""
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe, "weights": weights}))
    (tmp_path / "metrics.csv").write_text("step,epoch,train/warped_over_unwarped\n40,0,0.3\n")
    training = TrainingRecord.read(tmp_path, steps=40)
    found = judge_measurements(GOOD, training).findings
    assert [one.code for one in found] == ([] if has_start else ["T40"])
    poor = judge_measurements(GOOD, replace(training, warped_over_unwarped=0.95)).findings
    assert poor[0].measured.startswith("the residual of the training" if has_start else "40 steps; the residual")


def test_steps_of_every_start_of_a_chain_count(tmp_path: Path) -> None:
    """Runs name the checkpoint that they started from; later versions add up the steps in `start_steps`."""

    def write(name: str, **facts: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"recipe": "selfsup", **facts}))
        return folder / "run.json"

    def start(name: str, step: int) -> dict[str, str]:
        return {"weights of": f"{tmp_path}/{name}/checkpoints/best.safetensors, step {step}"}

    write("a", weights={"depth.encoder": "pretrained"})
    write("b", weights=start("a", 300))
    third = write("c", weights=start("b", 60))
    assert count_start_steps(third) == 360
    (tmp_path / "a" / "run.json").unlink()
    assert count_start_steps(third) == 360, "the first run is not needed"
    assert count_start_steps(write("d", weights=start("c", 5), start_steps=365)) == 365, "recorded"
    loop = write("e", weights=start("e", 1))
    assert count_start_steps(loop) == MAX_STARTS, "a chain that never ends"
    assert count_start_steps(write("f", weights=start("x" * 5000, 7))) == 7, "a name that is too long for a file"
    assert count_start_steps(tmp_path / "none" / "run.json") == 0
