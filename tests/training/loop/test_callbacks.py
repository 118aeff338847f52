"""How weights and gradients are spread, by group of layers."""

from pathlib import Path

import pytest
from tests.training.loop import small_recipe

from stadia.io.metrics_table import read_rows
from stadia.training.loop.callbacks import group_layers


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


@pytest.mark.slow
def test_histograms_are_logged_at_the_first_step_every_n_steps_and_at_the_last(tmp_path: Path) -> None:
    run, _ = small_recipe.train(tmp_path, max_steps=5, histograms_every=2, log_every=5, loggers=("csv", "tensorboard"))
    rows = read_rows(run.histograms_csv)
    assert [int(row["step"]) for row in rows if row["name"] == "gradients/0"] == [1, 2, 4, 5]
    assert {row["name"] for row in rows} == {f"{kind}/{layer}" for kind in ("weights", "gradients") for layer in "05"}
    assert all(float(row["p50"]) > 0 for row in rows if row["name"] == "gradients/0")
    run, _ = small_recipe.train(tmp_path / "none", max_steps=2, histograms_every=0)
    assert not run.histograms_csv.exists()
