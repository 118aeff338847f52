"""How weights and gradients are spread, by group of layers."""

from pathlib import Path

import pytest
import torch
from tests.training.loop import small_recipe
from torch import nn

from stadia.io.metrics_table import read_rows
from stadia.training.loop.callbacks import group_layers, sample_distributions


def test_groups_are_stages_parts_and_heads() -> None:
    stages = [
        f"model.depth.encoder.backbone.layer{stage}.{block}.conv{conv}.weight"
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
        for conv in (1, 2)
    ]
    pose = [name.replace("depth", "pose") for name in stages]
    decoder = [
        f"model.depth.decoder.{part}.{stride}.weight"
        for part in ("before", "after", "heads")
        for stride in (16, 8, 4, 2, 1)
    ]
    groups = group_layers([*stages, *decoder, *pose, "model.pose.head.0.weight"])
    assert groups["model.depth.encoder.backbone.layer1.0.conv1.weight"] == "depth.encoder.layer1"
    assert groups["model.depth.decoder.heads.4.weight"] == "depth.decoder.heads"
    assert groups["model.pose.head.0.weight"] == "pose.head.0"
    assert len(set(groups.values())) == 12


def test_weights_without_a_gradient_count_as_zero_and_frozen_ones_have_none() -> None:
    network = nn.ModuleDict({"used": nn.Linear(3, 4), "unused": nn.Linear(3, 4), "frozen": nn.Linear(3, 4)})
    network["frozen"].requires_grad_(False)
    network["used"](torch.ones(1, 3)).sum().backward()
    found = dict(sample_distributions(network))
    assert list(found) == ["weights/used", "gradients/used", "weights/unused", "gradients/unused", "weights/frozen"]
    assert torch.equal(found["gradients/used"], torch.ones(12))
    assert not found["gradients/unused"].any()
    assert torch.equal(found["weights/used"], network["used"].weight.detach().flatten())


@pytest.mark.slow
def test_histograms_are_logged_at_the_first_step_every_n_steps_and_at_the_last(tmp_path: Path) -> None:
    run, _ = small_recipe.train(tmp_path, max_steps=5, histograms_every=2, log_every=5, loggers=("csv", "tensorboard"))
    rows = read_rows(run.histograms_csv)
    assert [int(row["step"]) for row in rows if row["name"] == "gradients/0"] == [1, 2, 4, 5]
    assert {row["name"] for row in rows} == {f"{kind}/{layer}" for kind in ("weights", "gradients") for layer in "05"}
    assert all(float(row["p50"]) > 0 for row in rows if row["name"] == "gradients/0")
    run, _ = small_recipe.train(tmp_path / "none", max_steps=2, histograms_every=0)
    assert not run.histograms_csv.exists()


def test_histograms_of_gradients_are_before_clipping(tmp_path: Path) -> None:
    wide, tight = (
        small_recipe.train(tmp_path / str(i), max_steps=1, histograms_every=1, clip_norm=n)[0]
        for i, n in enumerate((None, 1e-6))
    )
    first = [
        next(row for row in read_rows(run.histograms_csv) if row["name"] == "gradients/0") for run in (wide, tight)
    ]
    assert float(first[0]["p50"]) == pytest.approx(float(first[1]["p50"]))
