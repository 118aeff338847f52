"""The loss checks of a training of selfsup before its first step; the training is the same without them."""

from pathlib import Path

import pytest
from tests.refusals import refuses

from stadia import training
from stadia.core.errors import RunError
from stadia.io.metrics_table import read_rows
from stadia.judge.finding import Finding, Severity, Stage, read_valid_findings
from stadia.training import workflow
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.config import replace_training
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe
from stadia.training.step_measurement import DryRunResult

pytestmark = pytest.mark.slow  # its fixtures train or compile


def losses(folder: Path) -> list[str]:
    return [row["train/loss"] for row in read_rows(folder / "metrics.csv") if row["train/loss"]]


def test_a_checked_training_is_the_training_without(
    small: SelfsupConfig, trained_small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    run = training.train(small, out=tmp_path)
    printed = capfd.readouterr().err
    assert "checking the losses ..." in printed
    assert "M parameters (encoder random, pose encoder random) on" in printed
    before = [
        finding
        for finding in read_valid_findings(run.folder / "findings.jsonl")[0]
        if finding.stage is Stage.BEFORE_TRAINING and finding.severity is Severity.STOP
    ]
    assert before == []
    assert losses(run.folder) == losses(trained_small)


def test_zero_seconds_leave_the_checks_out_of_a_training_and_not_of_a_dry_run(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    config = replace_training(small, check_seconds=0)
    training.train(config, out=tmp_path)
    assert "checking the losses ..." not in capfd.readouterr().err
    seconds: list[float] = []

    def check(recipe: object, config: SelfsupConfig, *_: object) -> list[Finding]:
        seconds.append(config.training.check_seconds)
        return []

    monkeypatch.setattr(workflow, "run_loss_checks", check)
    monkeypatch.setattr(workflow, "measure_steps", lambda *_: DryRunResult("cpu", (1,), (1.0,)))
    training.dry_run(config)
    assert seconds == [20]
    with pytest.raises(ValueError, match=r"check_seconds=3.*5.*0"):
        TrainingConfig(check_seconds=3)


def test_an_optimizer_without_the_pose_network_halts(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    monkeypatch.setattr(
        SelfsupRecipe, "parameter_groups", lambda recipe: [{"params": list(recipe.model.depth.parameters())}]
    )
    with refuses(RunError, found=("T20", "model.pose")):
        training.train(small, out=tmp_path)
    (folder,) = tmp_path.glob("20*")
    assert Run.open(folder).facts.status == "failed"
    assert "T20" in {finding.code for finding in read_valid_findings(folder / "findings.jsonl")[0]}
    with refuses(RunError, found="T20"):
        training.dry_run(small)
