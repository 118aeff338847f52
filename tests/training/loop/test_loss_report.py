"""What holds of every loss, asked while a run trains."""

import re
from pathlib import Path

import pytest
import torch
from tests.refusals import refuses
from tests.training.loop import small_recipe
from tests.training.loop.small_recipe import SmallRecipe

from stadia.core.errors import RunError
from stadia.differentiable.batch import Batch
from stadia.io.metrics_table import read_rows
from stadia.losses.loss_report import LossReport, find_loss_errors


def test_term_below_its_minimum_is_reported_with_both_numbers() -> None:
    terms = {"silog": -0.14, "uncertainty": -6.9}
    assert find_loss_errors(-7.04, terms, {"silog": 0.0}) == ["term 'silog' is -0.14, below its minimum 0"]
    assert find_loss_errors(-7.04, terms, {}) == [], "a logarithm has no least value unless its loss declares one"
    assert find_loss_errors(-7.04, terms, {"silog": -1.0, "uncertainty": -7.0}) == []


class Wrong(SmallRecipe):
    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        down = torch.where(torch.tensor(self.global_step >= 5), -1.0, 0.0)
        terms = {"square": report.terms["square"] + down, "size": report.terms["size"]}
        return LossReport(report.total + down, terms, {}, least={"square": 0.0, "size": 0.0})


class Unweighted(SmallRecipe):
    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        return LossReport(report.total + report.terms["square"], report.terms, {})


@pytest.mark.parametrize(("recipe", "names"), [(Wrong, ("6", "square", "0")), (Unweighted, ("2",))])
@pytest.mark.parametrize("grad_accumulation_steps", [1, 2])
def test_loss_is_checked_where_a_row_is_logged(
    tmp_path: Path, recipe: type[SmallRecipe], names: tuple[str, ...], grad_accumulation_steps: int
) -> None:
    with refuses(RunError, names=names):
        small_recipe.train(tmp_path, recipe=recipe(), grad_accumulation_steps=grad_accumulation_steps, log_every=2)
    (run,) = tmp_path.iterdir()
    last = read_rows(run / "metrics.csv")[-1]
    assert re.fullmatch("[26]", last["step"]), "what was logged is there to be looked at"
