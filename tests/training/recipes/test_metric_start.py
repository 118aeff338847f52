"""What a training of `metric` starts from: heights by silhouettes, and weights of a training that knew no scale."""

import math

import pytest
import torch
from rich.console import Console
from tests.refusals import refuses

from stadia.core.config import resolve_config
from stadia.core.errors import CheckpointError
from stadia.geometry.ground.drive_heights import DriveHeights
from stadia.judge.finding import Severity
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint
from stadia.training.recipes.base.build_recipe import check_init_weights, init_recipe
from stadia.training.recipes.metric import data
from stadia.training.recipes.metric.config import MetricConfig
from stadia.training.recipes.metric.data import InitialHeights, check_known_heights
from stadia.training.recipes.metric.recipe import MetricRecipe
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe


@pytest.fixture
def metric(small: SelfsupConfig) -> MetricConfig:
    values = small.model_dump(mode="json", exclude={"motion"}) | {"recipe": "metric", "name": "metric"}
    return resolve_config(
        MetricConfig, values, ("road.priors=roadworld", "training.max_steps=8", "training.batch_size=1")
    )


def set_silhouette_heights(monkeypatch, *heights_m: float, reasons: dict[int, str] | None = None) -> None:
    nothing = torch.zeros(0)
    found = {group: DriveHeights(high, 0.95 * high, 1.04 * high, nothing, 20) for group, high in enumerate(heights_m)}
    monkeypatch.setattr(data, "estimate_initial_heights", lambda *_, **__: InitialHeights(found, reasons or {}))


def test_silhouette_height_supervises_from_the_first_step_and_bounds_later_heights(metric, monkeypatch, capsys):
    set_silhouette_heights(monkeypatch, 1.7)
    settled, _ = MetricRecipe.prepare(metric, Console(stderr=True))
    assert settled.heights.known_m == {0: 1.7}
    assert settled.heights.between_m[0] == pytest.approx((1.615, 1.768))
    assert "1.70 m (95 %: 1.61 to 1.77)" in capsys.readouterr().err
    recipe = MetricRecipe(settled)
    recipe.plan = TrainingPlan(batches_per_epoch=3, grad_accumulation_steps=1, total_steps=60)
    assert recipe.loss_shares().camera == 1.0
    assert (
        MetricRecipe.prepare(settled, Console(quiet=True))[0].heights == settled.heights
    )  # as a resumed training does


@pytest.mark.parametrize(
    ("known_m", "severity"), [(1.65, None), (1.5, Severity.WARN), (3.4, Severity.STOP), (16.8, Severity.STOP)]
)
def test_known_height_that_silhouettes_contradict_is_a_finding(known_m: float, severity: Severity | None) -> None:
    by_silhouettes = DriveHeights(1.7, 1.6, 1.8, torch.zeros(0), 22)
    found = check_known_heights({0: known_m, 1: 99.0}, {0: by_silhouettes})
    assert {number: (one.code, one.severity) for number, one in found.items()} == (
        {} if severity is None else {0: ("H20", severity)}
    )


@pytest.mark.slow
def test_it_starts_from_a_training_that_knew_no_scale_and_brings_no_heights_along(small, metric, tmp_path):
    path = tmp_path / "start.safetensors"
    header = CheckpointHeader(
        recipe="selfsup", config=small.model_dump(mode="json"), kind="weights", step=3, epoch=0, metrics={}
    )
    selfsup = SelfsupRecipe(small)
    write_checkpoint(path, header, {"state_dict": selfsup.state_dict()})
    config = metric.model_copy(update={"start_from": str(path), "camera_groups": ("high", "low")})
    check_init_weights(MetricRecipe, config)
    recipe = init_recipe(MetricRecipe, config, resumed=False)
    assert all(
        torch.equal(value, selfsup.model.state_dict()[name]) for name, value in recipe.model.state_dict().items()
    )
    assert recipe.camera_height_m.shape == (2,)
    assert all(math.isnan(metres) for metres in recipe.camera_height_m.tolist())

    recipe.camera_height_m.copy_(torch.tensor([2.1, 1.2]))
    header = header.model_copy(update={"recipe": "metric", "config": config.model_dump(mode="json")})
    write_checkpoint(path, header, {"state_dict": recipe.state_dict()})
    assert init_recipe(MetricRecipe, config, resumed=False).camera_height_m.isnan().all()
    with refuses(CheckpointError, where="start.safetensors", found="metric", expected="selfsup"):
        check_init_weights(SelfsupRecipe, small.model_copy(update={"start_from": str(path)}))
