"""A training on a GPU has the losses of the CPU, resumes bit for bit, and its checkpoint is read without a GPU."""

from pathlib import Path

import pytest
import torch
from tests.training.loop import small_recipe
from tests.training.loop.small_recipe import SmallRecipe
from tests.training.loop.test_resume import At, Crash, crash, table

from stadia.io.metrics_table import read_rows
from stadia.training.loop.checkpoint import Checkpoint, load_weights

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


def read_losses(run: Path) -> list[float]:
    return [float(row["train/loss"]) for row in read_rows(run / "metrics.csv") if row["train/loss"]]


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_crashed_training_resumes_exactly(device: torch.device, tmp_path: Path, precision: str) -> None:
    values = {"checkpoint_every": 4, "precision": precision, "accelerator": device.type, "clip_norm": 1.0}
    undisturbed, _ = small_recipe.train(tmp_path / "undisturbed", **values)
    with pytest.raises(Crash):
        small_recipe.train(tmp_path / "crashed", callbacks=[At(10, crash)], **values)
    (run,) = (tmp_path / "crashed").iterdir()
    small_recipe.train(tmp_path, resume=run, **values)
    assert table(run) == table(undisturbed.folder)


def test_losses_without_random_numbers_match_the_cpu(device: torch.device, tmp_path: Path) -> None:
    losses = {}
    for name in ("cpu", device.type):
        recipe = SmallRecipe()
        recipe.network[3].p = 0.0  # dropout: a GPU draws other numbers
        run, _ = small_recipe.train(tmp_path / name, recipe=recipe, max_steps=8, accelerator=name)
        losses[name] = read_losses(run.folder)
    assert losses[device.type] == pytest.approx(losses["cpu"], rel=1e-3)


def test_a_checkpoint_is_read_without_a_gpu(device: torch.device, tmp_path: Path) -> None:
    run, _ = small_recipe.train(tmp_path, max_steps=4, accelerator=device.type)
    recipe = SmallRecipe(seed=5)
    load_weights(Checkpoint.open(run.folder), recipe, recipe="small")
    assert all(weight.device.type == "cpu" for weight in recipe.parameters())
