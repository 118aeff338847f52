"""A training on several data sets: resumed exactly, validated when one has been gone through, each with scores of its
own.
"""

from pathlib import Path
from typing import Any

from tests.training.loop import small_recipe
from tests.training.loop.small_recipe import SmallLoader

from stadia.training.loading.loader import MixtureLoader, SequentialLoader
from stadia.training.loop.batches import TrainingPlan
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


def test_is_pass_end() -> None:
    plan = TrainingPlan.from_loader(
        mixture("sequential"), TrainingConfig(max_epochs=2, batch_size=3, grad_accumulation_steps=4)
    )
    assert plan.pass_ends == (7, 14, 21)
    assert [step for step in range(1, 11) if plan.is_pass_end(step)] == [2, 4, 6, 7, 9]
    assert not TrainingPlan(21, 1, 42).is_pass_end(21), "of one data set nothing else is asked"
