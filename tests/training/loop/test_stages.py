"""A training whose images grow: one stage is none, several go on from each other, and resume exactly within and
between.
"""

import io
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console
from tests.training.loop import small_recipe
from tests.training.loop.small_recipe import SmallLoader, SmallRecipe
from tests.training.loop.test_resume import At, table

from stadia.differentiable.batch import Batch
from stadia.training.loop.batches import StagedBatches
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.fit import fit
from stadia.training.loop.run_folder import Run

HALF = {"height": 2, "width": 3, "share": 0.5, "batch_size": 6}
WHOLE = {"height": small_recipe.HEIGHT, "width": small_recipe.WIDTH, "share": 0.5, "batch_size": 3}


def config(*stages: dict[str, Any], **values: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "max_steps": 20,
            "batch_size": 3,
            "log_every": 1,
            "workers": 0,
            "images_every": 0,
            "histograms_every": 0,
            "loggers": ("csv",),
        }
        | {"checkpoint_every": 4, "stages": stages}
        | values
    )


def staged(training: TrainingConfig) -> StagedBatches:
    return StagedBatches([SmallLoader(0, batch_size=int(stage.batch_size)) for stage in training.stages], training)


class AnySize(SmallRecipe):
    def training_step(self, batch: Batch) -> Any:
        self.seen = [*getattr(self, "seen", []), *([len(batch.meta)] if self.training else [])]
        return super().training_step(batch)


def train(
    out: Path, training: TrainingConfig, *, resume: Path | None = None, at: At | None = None, lr: float = 0.02
) -> tuple[Run, AnySize]:
    recipe, values = AnySize(), {"training": training.model_dump(mode="json")}
    run = Run.open(resume) if resume else Run.create(out, "small", values, recipe="small", seed=0)
    loader = staged(training) if training.stages else SmallLoader(0, batch_size=training.batch_size)
    console = Console(file=io.StringIO(), width=200)
    with run.held():
        fit(recipe, loader, SmallLoader(1, shuffled=False), training, run, resume=resume is not None, console=console,
            callbacks=[at] if at else [])  # fmt: skip
    recipe.said = console.file.getvalue()  # type: ignore[attr-defined]
    return run, recipe


@pytest.mark.slow
def test_stages_share_the_samples_and_tell_their_learning_rate(tmp_path: Path) -> None:
    run, recipe = train(tmp_path, config(HALF, WHOLE))
    assert recipe.seen[:5] == [6] * 5
    plan = recipe.plan
    assert plan is not None
    assert (plan.total_steps, [part.steps for part in plan.phases]) == (15, [5, 10])
    assert [plan.epoch_of(step) for step in (1, 3, 4, 5, 6, 12, 13, 15)] == [0, 0, 1, 1, 2, 2, 3, 3]
    rates = [float(row["train/lr"]) for row in table(run.folder)[1] if row["train/lr"]]
    _, alone = train(tmp_path / "constant", config(HALF, WHOLE, stage_lr_scaling="constant"))
    assert alone.said.count("learning rate 0.02 at") == 2  # type: ignore[attr-defined]
    constant = [float(row["train/lr"]) for row in table(next((tmp_path / "constant").iterdir()))[1] if row["train/lr"]]
    assert [a / b for a, b in zip(rates, constant, strict=True)] == pytest.approx([2**0.5] * 5 + [1] * 10)
    assert "stage 1: 3x2, batches of 6, steps 1 to 5, learning rate 0.0283 at the top" in recipe.said  # type: ignore[attr-defined]
    assert [(stage.first_step, stage.steps, stage.batch_size) for stage in run.facts.stages] == [(1, 5, 6), (6, 10, 3)]
    validated = [int(row["step"]) for row in table(run.folder)[1] if row["val/error"]]
    assert validated == [3, 5, 12, 15], "after each epoch of each, at its end, and last"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([HALF, WHOLE | {"share": 0.6}], r"1\.1"),
        ([HALF, WHOLE | {"batch_size": 4}], "batch_size=4"),
        ([HALF | {"share": 0.0}, WHOLE], "share"),
    ],
)
def test_stages_that_make_no_training(stages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(*stages)
