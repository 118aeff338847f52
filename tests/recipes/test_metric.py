"""The recipe `metric`: what it keeps of a training, what it claims, and what it says where nothing can be learnt."""

from __future__ import annotations

import csv
import json
import math
import shutil
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia import recipes
from stadia.core.config import resolve
from stadia.core.errors import ConfigError
from stadia.core.types import Claim, Meta
from stadia.diagnostics.finding import read_findings
from stadia.recipes.metric import Metric
from stadia.recipes.metric_config import MetricConfig
from stadia.recipes.selfsup_config import SelfsupConfig
from stadia.training.camera_heights import Height
from stadia.training.checkpoints import Checkpoint
from stadia.training.stream import Plan
from stadia.training.task import Task

EASY = ("road.priors=roadworld", "heights.first_epoch=0", "heights.fewest_frames=1", "heights.most_spread=9", "heights.least_kept=0",
        "heights.most_disagreement=99", "road.border_px=1", "road.least_share=0.0005", "data.augmentation.mirror=0")  # fmt: skip
"""One world of a few frames says something of its camera's height, however wrong."""


@pytest.fixture
def metric(small: SelfsupConfig) -> MetricConfig:
    values = small.model_dump(mode="json") | {"recipe": "metric", "name": "metric"}
    return resolve(MetricConfig, values, (*EASY, "training.max_steps=8", "training.batch_size=1"))


def changed(config: MetricConfig, *overrides: str) -> MetricConfig:
    return resolve(MetricConfig, config.model_dump(mode="json"), overrides)


def prepared(config: MetricConfig) -> tuple[Metric, Any]:
    torch.manual_seed(0)
    settled, data = Metric.prepare(config, Console(quiet=True))
    task = Metric(settled)
    task.remember(data)
    task.plan = Plan(batches_per_epoch=3, accumulate=1, total_steps=60)
    return task.train(), data


def said(task: Metric, group: int, metres: float, *, count: int = 12, recording: str = "drive") -> None:
    """An epoch's frames that agree on a height."""
    values = torch.full((count,), metres)
    task.heights.add([recording] * count, torch.full((count,), group), torch.arange(count), values, 0.97 * values)


def test_it_is_of_one_camera(metric):
    with pytest.raises(ConfigError, match="take selfsup"):
        changed(metric, "data.stereo=true")
    with pytest.raises(ConfigError, match="nothing has a height"):
        changed(metric, "road.objects=[]")
    settled, data = Metric.prepare(metric, Console(quiet=True))
    assert settled.data.stereo is False
    assert settled.camera_groups == ("1.65 m",)
    assert data.train.samples.samples.source_names == ("-1", "+1")


def test_a_step_has_both_losses_and_keeps_what_its_objects_say(metric):
    task, data = prepared(metric)
    batch = next(iter(data.train))
    report = task.step(batch)
    assert {"selfsup/photometric", "metric/object_height", "metric/camera_height"} <= set(report.terms)
    assert float(report.terms["metric/camera_height"]) == 0, "no height is known yet"
    assert len(task.heights._said) == 1
    with torch.no_grad():
        task.eval().validate(batch)
    assert len(task.heights._said) == 1, "validation teaches nothing"


def test_an_epochs_end_gives_the_height_and_the_claim(metric):
    task, _ = prepared(metric)
    assert task.claim is Claim.UP_TO_SCALE
    assert task.about["scale_from"] is None
    task.begin(0)
    said(task, 0, 1.6)
    task.begin(1)
    assert task.camera_m.tolist() == pytest.approx([1.6])
    assert task.claim is Claim.METRES
    assert task.about["camera_height_m"] == {"1.65 m": pytest.approx(1.6)}
    for part in ("car 1.504 m, spread 0.169 m", "RoadWorld draws", "5 % off"):
        assert part in str(task.about["scale_from"])


def test_objects_keep_their_share_until_every_height_is_known(metric):
    task, _ = prepared(changed(metric, "hand_over_epochs=10"))
    task.heights.epoch = 5
    assert task.shares().objects == 1
    task.heights.heights[0] = Height(1.6, 1)
    assert task.shares().objects == pytest.approx(1 - math.log(6) / math.log(11))
    assert task.shares().camera == pytest.approx(math.log(6) / math.log(11))


def test_the_known_height_teaches_and_is_logged(metric):
    task, data = prepared(metric)
    batch = next(iter(data.train))
    task.heights.heights[0], task.heights.epoch = Height(1.6, 1), 3
    report = task.step(batch)
    assert float(report.terms["metric/camera_height"]) > 0
    assert float(report.seen["metric/camera_height_known_m/1.65 m"]) == pytest.approx(1.6)
    off = math.log(float(report.seen["metric/camera_height_m"]) / 1.6)
    assert float(report.seen["metric/off_camera_height"]) == pytest.approx(off, abs=1e-4)


def test_objects_that_are_odd_teach_nothing(metric):
    task, data = prepared(metric)
    task.heights.epoch = 3
    batch = next(batch for batch in data.train if batch.targets.objects.any())
    everything = task.step(batch).terms["metric/object_height"]
    task.heights.heights[0] = Height(1.6, 1, horizon_m=1e-3)
    task.config = changed(task.config, "hand_over_epochs=1000")
    assert float(everything) > 0
    assert float(task.step(batch).terms["metric/object_height"]) == 0


def test_the_road_is_unmasked_unless_told_otherwise(metric):
    task, data = prepared(metric)
    batch = next(iter(data.train))
    roads: list[Any] = []
    task.loss = lambda *given, road=None, real=task.loss: roads.append(road) or real(*given, road=road)
    task.step(batch)
    task.config = changed(task.config, "unmask_road=false")
    task.step(batch)
    assert torch.equal(roads[0], batch.targets.road)
    assert roads[1] is None


def test_a_camera_that_was_moved_is_found_and_no_metres_are_claimed(metric):
    """Halves of one video, 1.2 m and 1.65 m: named with their frames, and the training goes on."""
    task, _ = prepared(metric)
    task.frames = {"drive": 400}
    meta = [Meta("drive", i) for i in (10, 60, 390)]
    assert task._parts(meta) == ["drive, frames 0 to 49", "drive, frames 50 to 99", "drive, frames 350 to 399"]
    task.heights.heights[0] = Height(1.6, 1)
    task.begin(0)
    for part in range(8):
        said(task, 0, 1.2 if part < 4 else 1.65, recording=task._parts([Meta("drive", 50 * part)])[0])
    task.begin(1)
    (found,) = task.found
    assert found.code == "H07"
    assert "1.20 m above the road in 4 recordings ('drive, frames " in found.measured
    assert "1.65 m in 4 ('drive, frames 2" in found.measured
    assert "no metres are claimed" in found.measured
    assert task.claim is Claim.UP_TO_SCALE
    assert task.shares().objects == 1


def test_an_epoch_that_says_nothing_is_told(metric):
    task, _ = prepared(metric)
    said(task, 0, 1.6, count=3)
    task.begin(1)
    assert task.found == [], "the first epochs may"
    said(task, 0, 1.6, count=3)
    task.begin(2)
    assert [one.code for one in task.found] == ["H06"]
    assert "3 of 3 frames" in task.found[0].measured


def test_beginning_anew_changes_the_networks_and_keeps_the_heights(metric, monkeypatch):
    task, _ = prepared(changed(metric, "reinitialise_at_epoch=2"))
    emptied: list[bool] = []

    class State(dict):
        def clear(self) -> None:
            emptied.append(True)

    optimiser = type("O", (), {"optimizer": type("P", (), {"state": State()})()})()
    monkeypatch.setattr(Task, "optimizers", lambda self: optimiser)
    before = {name: weight.clone() for name, weight in task.model.named_parameters()}
    random = torch.get_rng_state()
    said(task, 0, 1.6)
    task.begin(1)
    assert all(torch.equal(weight, before[name]) for name, weight in task.model.named_parameters())
    task.begin(2)
    assert any(not torch.equal(weight, before[name]) for name, weight in task.model.named_parameters())
    assert emptied == [True]
    assert torch.equal(torch.get_rng_state(), random), "nothing else is random in another way"
    assert task.claim is Claim.METRES


def test_a_run_keeps_its_heights_and_claims_by_them(metric, tmp_path):
    run = recipes.train(metric, out=tmp_path / "runs", despite_findings=True)
    facts = json.loads((run.folder / "run.json").read_text())
    last = run.folder / "checkpoints" / "last.safetensors"
    predictor = recipes.load_predictor(last)
    kept = Checkpoint.open(last).state()["camera_heights"]
    assert facts["rests_on"].startswith("heights of classes: car 1.504 m")
    assert math.isfinite(float(predictor.task.camera_m)) is (predictor.claim is Claim.METRES)
    assert kept["heights"]["epoch"] == 2, "of eight steps of three"
    assert len(kept["after_epochs"]["1.65 m"]) == 2
    with run.metrics_csv.open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["train/term/metric/object_height"] for row in rows if row["train/loss"])
    assert any(row.get("val/abs_rel_scaled") for row in rows)


def test_heights_go_on_where_a_checkpoint_was_made(metric):
    """In the middle of an epoch, with what its first half has said."""
    task, _ = prepared(metric)
    said(task, 0, 1.6)
    task.begin(1)
    said(task, 0, 1.7)
    saved: dict[str, Any] = {}
    task.on_save_checkpoint(saved)
    again, _ = prepared(metric)
    again.on_load_checkpoint(saved)
    for one in (task, again):
        one.begin(2)
    assert task.heights.heights[0].metres > 1.6
    assert again.heights.heights == task.heights.heights
    assert again.after_epochs == task.after_epochs
    assert torch.equal(again.camera_m, task.camera_m)


def test_heights_of_the_set_that_is_scored_are_refused(metric, monkeypatch):
    monkeypatch.setattr("stadia.recipes.metric_data.format_of", lambda path, format: "kitti_raw")
    with pytest.raises(ConfigError, match="other than kitti_raw"):
        Metric.prepare(changed(metric, "road.priors=kitti"), Console(quiet=True))


def test_without_masks_it_trains_says_so_and_claims_no_metres(metric, tmp_path, worlds):
    bare = tmp_path / "bare"
    shutil.copytree(worlds, bare, ignore=shutil.ignore_patterns("semantic", "instance"))
    run = recipes.train(changed(metric, f"data.path={bare}", "training.max_steps=2"), out=tmp_path / "runs", despite_findings=True)
    codes = {one.code for one in read_findings(run.folder / "findings.jsonl")}
    assert {"H02", "H03"} <= codes
    assert json.loads((run.folder / "run.json").read_text())["claim"] == "up-to-scale"
