"""The recipe `metric`: its checkpoint state, its depth scale, and its reasons without metres."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.training.loop.test_distributed import needs_gloo, run_in_two_processes
from tests.training.loop.test_resume import Crash, crash, table

from stadia import training
from stadia.core.config import resolve_config
from stadia.core.types import DepthScale
from stadia.differentiable.batch import Meta
from stadia.judge.depth.training_record import RECIPE_TERMS
from stadia.judge.finding import OnStop
from stadia.losses.metric_scale import MetricScaleLoss
from stadia.predict.tasks import DepthTask
from stadia.training import recipes
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loss_checks.loss_check_runner import check_losses
from stadia.training.recipes.metric import camera_heights
from stadia.training.recipes.metric.camera_heights import AverageHeight
from stadia.training.recipes.metric.config import MetricConfig
from stadia.training.recipes.metric.data import name_drive_parts
from stadia.training.recipes.metric.recipe import MetricRecipe
from stadia.training.recipes.selfsup.config import SelfsupConfig

pytestmark = pytest.mark.slow  # its fixtures train or compile

EASY_TEXT = """
    road.priors=roadworld heights.first_epoch=0 heights.min_frames=1 heights.max_spread=9 heights.min_inlier_share=0
    heights.max_horizon_disagreement=99 road.border_px=1 road.min_object_share=0.0005 data.augmentation.mirror=0
"""
EASY = tuple(EASY_TEXT.split())
"""One world of a few frames gives a camera height, however wrong."""


@pytest.fixture
def metric(small: SelfsupConfig) -> MetricConfig:
    values = small.model_dump(mode="json", exclude={"motion"}) | {"recipe": "metric", "name": "metric"}
    return resolve_config(MetricConfig, values, (*EASY, "training.max_steps=8", "training.batch_size=1"))


def changed(config: MetricConfig, *overrides: str) -> MetricConfig:
    return resolve_config(MetricConfig, config.model_dump(mode="json"), overrides)


def prepared(config: MetricConfig) -> tuple[MetricRecipe, Any]:
    torch.manual_seed(0)
    settled, data = MetricRecipe.prepare(config, Console(quiet=True))
    recipe = MetricRecipe(settled)
    recipe.save_data_stats(data)
    recipe.plan = TrainingPlan(batches_per_epoch=3, grad_accumulation_steps=1, total_steps=60)
    return recipe.train(), data


def add_height_frames(
    recipe: MetricRecipe, group: int, metres: float, *, count: int = 12, recording: str = "drive", road_m: float = 0
) -> None:
    values = torch.full((count,), metres)
    groups, roads_m = torch.full((count,), group), torch.full((count,), road_m or metres)
    of_frames = ([recording] * count, groups, roads_m, torch.zeros(count))
    recipe.heights.add(*of_frames, torch.arange(count), values, 0.97 * values)


def test_step_has_both_losses_and_keeps_object_heights(metric):
    recipe, data = prepared(metric)
    batch = next(iter(data.train))
    report = recipe.training_step(batch)
    assert {"selfsup/photometric", "metric/object_height", "metric/camera_height"} <= set(report.terms)
    assert {name.removeprefix("selfsup/") for name in report.terms} <= {*RECIPE_TERMS["metric"]}
    assert float(report.terms["metric/camera_height"]) == 0, "no height is known yet"
    assert len(recipe.heights._observed) == 1
    with torch.no_grad():
        recipe.eval().validation_step(batch)
    assert len(recipe.heights._observed) == 1, "validation teaches nothing"


def test_an_epochs_end_gives_the_height_and_the_depth_scale(metric):
    recipe, _ = prepared(metric)
    assert recipe.depth_scale is DepthScale.UP_TO_SCALE
    assert recipe.run_metadata.scale_from is None
    recipe.start_epoch(0)
    add_height_frames(recipe, 0, 1.6)
    recipe.start_epoch(1)
    assert recipe.camera_height_m.tolist() == pytest.approx([1.6])
    assert recipe.depth_scale is DepthScale.METRES
    assert recipe.run_metadata.own["camera_height_m"] == {"1.65 m": pytest.approx(1.6)}
    for part in ("car 1.504 m, spread 0.169 m", "RoadWorld draws", "5 % off"):
        assert part in str(recipe.run_metadata.rests_on)
    assert "height over the road (1.60 m of '1.65 m'), estimated from objects" in str(recipe.run_metadata.scale_from)


def test_a_camera_that_was_moved_is_found_and_no_metres_are_claimed(metric):
    recipe, _ = prepared(metric)
    recipe.frames = {("", "drive"): 400, ("city", "drive"): 60}
    meta = [*(Meta("drive", i) for i in (10, 60, 390)), Meta("drive", 50, data="city")]
    parts = [f"drive, frames {part}" for part in ("0 to 49", "50 to 99", "350 to 399", "50 to 59")]
    assert name_drive_parts(meta, recipe.frames) == parts, "the last is of another data set"
    recipe.heights.heights[0] = AverageHeight(1.6, 1)
    recipe.start_epoch(0)
    for part in range(8):
        (name,) = name_drive_parts([Meta("drive", 50 * part)], recipe.frames)
        add_height_frames(recipe, 0, 1.2 if part < 4 else 1.65, recording=name)
    recipe.start_epoch(1)
    (found,) = recipe.found
    assert found.code == "H07"
    assert "1.20 m above the road in 4 recordings ('drive, frames " in found.measured
    assert "1.65 m in 4 ('drive, frames 2" in found.measured
    assert "depth is not in metres" in found.measured
    assert recipe.depth_scale is DepthScale.UP_TO_SCALE
    assert recipe.loss_shares().objects == 1


def heard(recipe: MetricRecipe, batches: list[Any]) -> list[float]:
    with torch.no_grad():
        for batch in batches:
            recipe.training_step(batch)
    recipe.start_epoch(1)
    return recipe.camera_height_m.tolist()


def half(rank: int, folder: Path, config: MetricConfig) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    recipe, data = prepared(config)
    (folder / f"{rank}.json").write_text(json.dumps(heard(recipe, list(data.train)[rank::2])))


@needs_gloo
def test_two_processes_have_one_height(quick, tmp_path):
    recipe, data = prepared(quick)
    whole = heard(recipe, list(data.train))
    assert math.isfinite(whole[0])
    assert run_in_two_processes(half, tmp_path, quick) == [0, 0]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [whole, whole]


def test_beginning_anew_changes_the_networks_and_keeps_the_heights(metric):
    recipe, _ = prepared(changed(metric, "reinitialize_at_epoch=2"))
    emptied: list[bool] = []

    class State(dict):
        def clear(self) -> None:
            emptied.append(True)

    recipe.optimizer = SimpleNamespace(state=State())
    before = {name: weight.clone() for name, weight in recipe.model.named_parameters()}
    random = torch.get_rng_state()
    add_height_frames(recipe, 0, 1.6)
    recipe.start_epoch(1)
    assert all(torch.equal(weight, before[name]) for name, weight in recipe.model.named_parameters())
    recipe.start_epoch(2)
    assert any(not torch.equal(weight, before[name]) for name, weight in recipe.model.named_parameters())
    assert emptied == [True]
    assert torch.equal(torch.get_rng_state(), random), "nothing else is random in another way"
    assert recipe.camera_height_m.tolist() == pytest.approx([1.6])
    assert recipe.depth_scale is DepthScale.UP_TO_SCALE  # of the new networks' depth nothing is known yet


@pytest.fixture
def quick(metric, monkeypatch) -> MetricConfig:
    monkeypatch.setattr(camera_heights, "MIN_FRAMES", 1)
    monkeypatch.setattr(DepthTask, "open_validation", lambda self, data, run: [])
    words = ("images_every=0", "histograms_every=0", "checkpoint_every=4", "validate_every=8")
    return changed(metric, *(f"training.{word}" for word in words))


def test_heights_are_kept_in_checkpoints_and_training_resumes(quick, tmp_path, monkeypatch):
    monkeypatch.setattr("stadia.training.recipes.metric.camera_heights.MAX_HEIGHT_LOG_ERROR", math.inf)
    undisturbed = training.train(quick, out=tmp_path / "undisturbed", on_stop=OnStop.WARN)
    facts = undisturbed.facts.recipe_facts
    last = undisturbed.folder / "checkpoints" / "last.safetensors"
    kept = Checkpoint.open(last).state()["recipe"]
    assert facts.rests_on.startswith("heights of classes: car 1.504 m")
    assert facts.depth_scale == "metres"
    assert kept["heights"]["epoch"] == 2, "of eight steps of three"
    assert kept["epoch_heights"]["1.65 m"][-1]["kept_m"] == kept["heights"]["heights"][0]["metres"]
    kept_m = kept["epoch_heights"]["1.65 m"][-1]["kept_m"]
    assert facts.own["camera_height_m"]["1.65 m"] == pytest.approx(kept_m, abs=1e-4)
    assert recipes.load_predictor(last).depth_scale is DepthScale.METRES
    _, rows = table(undisturbed.folder)
    assert all(row["train/term/metric/object_height"] for row in rows if row["train/loss"])
    assert any(row.get("val/abs_rel_scaled") for row in rows)

    step = MetricRecipe.training_step
    with monkeypatch.context() as once:
        stop = lambda self, batch: step(self, batch) if self.global_step < 6 else crash()  # noqa: E731
        once.setattr(MetricRecipe, "training_step", stop)
        with pytest.raises(Crash):
            training.train(quick, out=tmp_path / "crashed", on_stop=OnStop.WARN)
    (folder,) = (tmp_path / "crashed").iterdir()
    assert Checkpoint.open(folder / "checkpoints" / "last.safetensors").header.step % 3, "in the middle of an epoch"
    crashed = training.train(quick, out=tmp_path / "crashed", resume=folder, on_stop=OnStop.WARN)
    again = Checkpoint.open(crashed.folder / "checkpoints" / "last.safetensors")
    assert table(crashed.folder)[1] == rows
    assert repr(again.state()["recipe"]) == repr(kept)
    before, after = (load_file(run.folder / "checkpoints" / "last.safetensors") for run in (undisturbed, crashed))
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)


def test_the_cameras_height_keeps_its_laws_and_a_road_of_twice_the_depth_is_named(metric):
    recipe, data = prepared(metric)
    batch = next(iter(data.train))
    losses = recipe.loss_cases(batch)
    assert check_losses({"height of the camera": losses["height of the camera"]}) == []
    real = MetricScaleLoss._compare_scale
    recipe.scale_loss._compare_scale = lambda inverse_depth, *given: real(recipe.scale_loss, inverse_depth / 2, *given)
    found = check_losses({"height of the camera": recipe.loss_cases(batch)["height of the camera"]})
    assert "L01" in {one.code for one in found}
