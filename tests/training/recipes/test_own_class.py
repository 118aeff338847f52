"""A recipe class of the user trains, is noted where the loss checks do not see it, and resumes by the printed line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.refusals import refuses
from torch import nn

from stadia import report
from stadia.core.errors import ConfigError, RunError
from stadia.differentiable.batch import Batch, Inputs, Targets
from stadia.io.metrics_table import read_rows
from stadia.judge.depth import TrainingRecord
from stadia.judge.finding import read_valid_findings
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.report.run_comparison import write_comparison
from stadia.report.run_files import read_run
from stadia.training import recipes, workflow
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe
from stadia.training.start_checks import LOSS_CHECKS, choose_class

pytestmark = pytest.mark.slow  # its fixtures train


class Doubled(SelfsupRecipe):
    def training_step(self, batch: Batch[Inputs, Targets]) -> LossReport:
        return combine_losses({"mine": (2.0, super().training_step(batch))})


class Weighted(Doubled):
    def __init__(self, config: SelfsupConfig) -> None:
        super().__init__(config)
        self.log_weight = nn.Parameter(torch.zeros(()))


def notes_about_losses(run: Run) -> list[str]:
    findings = read_valid_findings(run.folder / "findings.jsonl")[0]
    return [finding.measured for finding in findings if finding.measured.startswith(LOSS_CHECKS)]


def test_a_class_of_the_user_trains_and_is_needed_to_resume(
    small: SelfsupConfig,
    trained_small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    finished: list[str] = []
    finish = lambda self, run, console: finished.append(type(self).__name__)  # noqa: E731
    monkeypatch.setattr(Doubled, "finish_training", finish, raising=False)
    plain = Run.open(trained_small)
    run = workflow.train(small, out=tmp_path, recipe_class=Doubled)
    first = [float(read_rows(table)[0]["train/loss"]) for table in (plain.metrics_csv, run.metrics_csv)]
    assert first[1] == pytest.approx(2 * first[0], rel=1e-4)
    assert "train/term/mine/photometric" in read_rows(run.metrics_csv)[0]
    assert (run.facts.recipe_class, run.facts.status, finished) == ("Doubled", "finished", ["Doubled"])
    assert plain.facts.recipe_class is None
    assert "not checked: loss checks (Doubled changes training_step" in capfd.readouterr().err
    (note,) = notes_about_losses(run)
    page = report.build_report(run.folder).read_text()
    assert note in page
    assert "trained by the class Doubled" in page
    assert "Different classes: selfsup and Doubled" in write_comparison(read_run(plain.folder), read_run(run.folder))
    record = TrainingRecord.read(run.folder)
    last = [float(row["train/mine/warped_over_unwarped"]) for row in read_rows(run.metrics_csv) if row["train/loss"]]
    assert record.warped_over_unwarped == pytest.approx(sorted(last)[len(last) // 2], rel=0.3)
    (fix,) = [finding.fix for finding in read_valid_findings(run.folder / "findings.jsonl")[0] if finding.code == "T40"]
    assert f"recipe_class=Doubled)` in Python, with start_from={run.folder}" in fix
    assert replace(record, recipe_class=None).recipe == "selfsup"
    with refuses(RunError, fix="recipe_class=Doubled"):
        workflow.train(small, resume=run.folder)
    with refuses(RunError, fix="recipe_class"):
        workflow.train(small, resume=trained_small, recipe_class=Doubled)


class Mapless(SelfSupervisedLoss):
    def __call__(self, *inputs: Any, **settings: Any) -> LossReport:
        return replace(super().__call__(*inputs, **settings), maps={})


def test_a_loss_without_maps_is_refused_by_its_name(small: SelfsupConfig) -> None:
    loss = small.loss.model_copy(update={"name": f"{__name__}:Mapless"})
    with refuses(ConfigError, where="loss.name", found="no residual, winner, unwarped, warped"):
        workflow.dry_run(small.model_copy(update={"loss": loss}))


@pytest.mark.parametrize(
    ("own", "found"),
    [
        (Doubled, "a class of 'selfsup'"),
        (nn.Linear, "derives from no recipe"),
        (nn.Linear(1, 1), "an object of Linear"),
    ],
)
def test_another_class_is_refused(own: type, found: str) -> None:
    with refuses(ConfigError, where="recipe_class", found=found, expected="supervised"):
        choose_class(recipes.configure("supervised", ["data.path=x"]), own)


def test_other_weights_than_the_recipe_has_are_refused_before_training(small: SelfsupConfig, tmp_path: Path) -> None:
    names = ("log_weight", "selfsup", "model.network=module:Class")
    with refuses(ConfigError, names=names):
        workflow.train(small, out=tmp_path, recipe_class=Weighted)
    (folder,) = tmp_path.glob("20*")
    assert Run.open(folder).facts.status == "failed"
    with refuses(ConfigError, where="recipe_class", found=("log_weight",)):
        workflow.dry_run(small, recipe_class=Weighted)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
