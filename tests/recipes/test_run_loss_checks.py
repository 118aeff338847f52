"""The contract of a training of selfsup: what it is held to before its first step, and that it trains as without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console

from stadia import recipes
from stadia.core.errors import RunError
from stadia.core.types import Prediction, Targets
from stadia.diagnostics.finding import Finding, OnStop, Severity, Stage, read_findings
from stadia.diagnostics.loss_checks.loss_check_runner import check_losses
from stadia.diagnostics.loss_checks.video_cases import make_video_case
from stadia.diagnostics.not_checked import make_not_checked
from stadia.recipes import configure
from stadia.recipes.launch import start_checks, workflow
from stadia.recipes.launch.step_measurement import DryRunResult
from stadia.recipes.selfsup.config import SelfsupConfig
from stadia.recipes.selfsup.recipe import SelfsupRecipe
from stadia.training.config import TrainingConfig
from stadia.training.loggers import read_rows

pytestmark = pytest.mark.slow  # its fixtures train or compile


def losses(folder: Path) -> list[str]:
    return [row["train/loss"] for row in read_rows(folder / "metrics.csv") if row["train/loss"]]


def test_a_run_is_held_to_it_and_trains_as_without(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    without = recipes.train(small, out=tmp_path / "without")
    assert "checking the losses ..." not in capfd.readouterr().err
    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    run = recipes.train(small, out=tmp_path / "with")
    assert "checking the losses ..." in capfd.readouterr().err
    found = [one for one in read_findings(run.folder / "findings.jsonl") if one.stage is Stage.BEFORE_TRAINING]
    assert [one.code for one in found if one.severity is Severity.STOP] == []
    assert losses(run.folder) == losses(without.folder)


def test_zero_seconds_leave_the_checks_out_of_a_training_and_not_of_a_dry_run(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    config = small.model_copy(update={"training": small.training.model_copy(update={"check_seconds": 0})})
    recipes.train(config, out=tmp_path)
    assert "checking the losses ..." not in capfd.readouterr().err
    seconds: list[float] = []

    def check(recipe: object, config: SelfsupConfig, *_: object) -> list[Finding]:
        seconds.append(config.training.check_seconds)
        return []

    monkeypatch.setattr(workflow, "run_loss_checks", check)
    monkeypatch.setattr(workflow, "measure_steps", lambda *_: DryRunResult("cpu", (1,), (1.0,)))
    recipes.dry_run(config)
    assert seconds == [20]
    with pytest.raises(ValueError, match="check_seconds=3: set at least 5, or 0 for none"):
        TrainingConfig(check_seconds=3)


def test_an_optimizer_without_the_pose_network_halts(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    monkeypatch.setattr(
        SelfsupRecipe, "parameter_groups", lambda recipe: [{"params": list(recipe.model.depth.parameters())}]
    )
    with pytest.raises(RunError, match=r"loss checks of the training: found T20 \(model\.pose.* in no group"):
        recipes.train(small, out=tmp_path / "halted")
    (folder,) = (tmp_path / "halted").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert "T20" in {one.code for one in read_findings(folder / "findings.jsonl")}


def test_stop_finding_can_be_overridden(small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_no_number(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> None:
        return None

    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    monkeypatch.setattr(SelfsupRecipe, "loss_cases", lambda recipe, batch: {"loss": make_video_case(of_no_number)})
    run = recipes.train(small, out=tmp_path, on_stop=OnStop.WARN)
    assert run.facts.status == "finished"
    assert "L12" in {one.code for one in read_findings(run.folder / "findings.jsonl")}


def test_a_dry_run_is_held_to_it_too(small: SelfsupConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        SelfsupRecipe, "parameter_groups", lambda recipe: [{"params": list(recipe.model.depth.parameters())}]
    )
    with pytest.raises(RunError, match="loss checks of the training: found T20"):
        recipes.dry_run(small)


@pytest.mark.parametrize("word", ["name=demo", "loss.auto_mask=false", "loss.ssim_weight=1", "loss.smoothness=0"])
@pytest.mark.parametrize("neighbors_teach_depth", [False, True])
def test_the_demos_loss_keeps_the_laws(worlds: Path, word: str, neighbors_teach_depth: bool) -> None:
    from_step = "loss.temporal_from_step=" + ("0" if neighbors_teach_depth else "null")
    config = configure("selfsup", ["training.workers=0", from_step, word], preset="demo", data={"path": str(worlds)})
    config, data = SelfsupRecipe.prepare(config, Console(quiet=True))
    torch.manual_seed(0)
    recipe = SelfsupRecipe(config)
    recipe.save_data_stats(data)
    data.train.set_position(0, 0)
    losses = recipe.loss_cases(next(iter(data.train)))
    assert set(losses) == {"loss", "loss of neighbors in time"}
    assert check_losses(losses) == []


def test_checks_that_had_no_time_are_named_with_the_setting_that_gives_more(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setattr(workflow, "FEW_STEPS", 1)
    monkeypatch.setattr(start_checks, "RESERVED_SECONDS", 100.0)  # of 20 s
    run = recipes.train(small, out=tmp_path)
    printed = capfd.readouterr().err
    assert "no finding in what was checked\n" in printed
    assert "(the time limit of the checks was reached); set training.check_seconds=60 (now 20), or" in printed
    notes = [one for one in read_findings(run.folder / "findings.jsonl") if "time limit of the checks" in one.measured]
    assert notes
    assert {one.stage for one in notes} == {Stage.BEFORE_TRAINING}, "a resume keeps them"
    assert all("have 20 s, and this machine was slow or busy" in one.cause for one in notes)
    assert all("training.check_seconds=60" in one.fix for one in notes)


@pytest.mark.parametrize(("seconds", "longer"), [(20, 60), (1200, 3600), (2000, 3600), (3600, None)])
def test_the_advised_time_limit_is_one_that_the_setting_takes(seconds: float, longer: float | None) -> None:
    fix = start_checks.describe_longer_checks(seconds)
    assert ("run nothing else during the checks" in fix, "check_seconds" in fix) == (True, longer is not None)
    if longer is not None:
        assert f"training.check_seconds={longer}" in fix
        assert TrainingConfig(check_seconds=float(fix.partition("check_seconds=")[2].partition(" ")[0]))


def test_a_dry_run_names_the_checks_that_had_no_time(small: SelfsupConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_checks, "RESERVED_SECONDS", 100.0)  # of 20 s
    assert "one batch" in recipes.dry_run(small).not_checked
    assert start_checks.list_out_of_time([make_not_checked("resize", "no rotation")]) == (), (
        "data that lack something are no lack of time"
    )
