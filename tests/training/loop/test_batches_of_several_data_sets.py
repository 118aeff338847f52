"""A training on several data sets: resumed exactly, validated when one has been gone through, each with scores of its
own.
"""

import math
from pathlib import Path
from typing import Any

import pytest
from tests.training.loop import small_recipe
from tests.training.loop.small_recipe import SmallLoader
from tests.training.loop.test_resume import At, Crash, crash, table

from stadia.training.loading.loader import MixtureLoader, SequentialLoader
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.fit import fit
from stadia.training.loop.run_folder import Run

VALUES: dict[str, Any] = {
    "log_every": 1,
    "images_every": 0,
    "workers": 0,
    "loggers": ("csv",),
    "accelerator": "cpu",
    "threads": 1,
}


def mixture(order: Any) -> MixtureLoader[Any]:
    return MixtureLoader({"a": SmallLoader(1), "b": SmallLoader(2)}, {"a": 1, "b": 2}, order=order)


def train(root: Path, order: Any, resume: Path | None = None, callbacks: Any = (), **training: Any) -> Run:
    config = TrainingConfig(**VALUES | {"batch_size": 3, "checkpoint_every": 5} | training)
    run = (
        Run.open(resume)
        if resume
        else Run.create(root, "two", {"training": config.model_dump(mode="json")}, recipe="small", seed=1)
    )
    val = SequentialLoader({"a": SmallLoader(3, shuffled=False), "b": SmallLoader(4, shuffled=False)})
    fit(small_recipe.SmallRecipe(), mixture(order), val, config, run, resume=resume is not None, callbacks=callbacks)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("order", ["mixed", pytest.param("sequential", marks=pytest.mark.exhaustive)])
def test_resume_in_mid_epoch_continues_the_order_of_data_sets(tmp_path: Path, order: Any) -> None:
    values = {"max_steps": 16, "grad_accumulation_steps": 2}
    undisturbed = train(tmp_path / "undisturbed", order, **values)
    for step in (8, 13):
        with pytest.raises(Crash):
            train(tmp_path / f"crashed-{step}", order, callbacks=[At(step, crash)], **values)
        (folder,) = (tmp_path / f"crashed-{step}").iterdir()
        train(tmp_path, order, resume=folder, **values)
        assert table(folder) == table(undisturbed.folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grad_accumulation_steps", "steps"),
    [pytest.param(1, [7, 14, 21, 28, 35, 42], marks=pytest.mark.exhaustive), (2, [4, 7, 11, 14, 18, 21])],
)
def test_sequential_order_validates_each_pass(tmp_path: Path, grad_accumulation_steps: int, steps: list[int]) -> None:
    run = train(tmp_path, "sequential", max_epochs=2, grad_accumulation_steps=grad_accumulation_steps, log_every=100)
    rows = [row for row in table(run.folder)[1] if row["val/error"]]
    assert [int(row["step"]) for row in rows] == steps
    for row in rows:
        assert math.isclose(float(row["val/error"]), (float(row["val/a/error"]) + float(row["val/b/error"])) / 2)
    best = min(float(row["val/error"]) for row in rows)
    assert Checkpoint.open(run.folder).header.metrics["val/error"] == best, "the best is chosen by the mean over both"


def test_is_pass_end() -> None:
    plan = TrainingPlan.from_loader(
        mixture("sequential"), TrainingConfig(max_epochs=2, batch_size=3, grad_accumulation_steps=4)
    )
    assert plan.pass_ends == (7, 14, 21)
    assert [step for step in range(1, 11) if plan.is_pass_end(step)] == [2, 4, 6, 7, 9]
    assert not TrainingPlan(21, 1, 42).is_pass_end(21), "of one data set nothing else is asked"
