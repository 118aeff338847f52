"""Another optimizer and another loss near the end of a training, also of one that is resumed."""

from pathlib import Path
from typing import Any

import pytest
from tests.combinations import mark_others
from tests.refusals import refuses
from tests.training.loop.small_recipe import SmallConfig, SmallRecipe, train

from stadia.core.errors import ConfigError
from stadia.io.metrics_table import read_rows
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.training.loop.loop import Callback, TrainingLoop

FINISH = {"at": 0.5, "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.5}}


class Optimizers(Callback):
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_step_end(self, loop: TrainingLoop) -> None:
        self.names.append(type(loop.optimizer.optimizer).__name__)


def losses(run: Any) -> list[float]:
    return [row["train/loss"] for row in read_rows(run.metrics_csv) if row.get("train/loss")]


@pytest.mark.slow
@pytest.mark.parametrize("stop", mark_others([5, 10, 15], [5, 15]))
def test_a_resumed_training_is_the_undisturbed_one(stop: int, tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", training_finish=FINISH)

    class Stop(Callback):
        def on_batch_start(self, loop: TrainingLoop, is_last: bool) -> None:
            if loop.step == stop:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        train(tmp_path / "part", callbacks=[Stop()], training_finish=FINISH)
    (folder,) = (tmp_path / "part").iterdir()
    resumed, _ = train(tmp_path / "part", resume=folder, training_finish=FINISH)
    assert losses(resumed) == losses(whole)


class LossRecipe(SmallRecipe):
    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.config = SmallLossConfig(self.config.optimizer, self.config.schedule, SelfSupervisedLossConfig())
        self.loss = SelfSupervisedLoss(self.config.loss)


class SmallLossConfig(SmallConfig):
    def __init__(self, optimizer: Any, schedule: Any, loss: SelfSupervisedLossConfig) -> None:
        super().__init__(optimizer, schedule)
        self.loss = loss


class Residuals(Callback):
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_step_end(self, loop: TrainingLoop) -> None:
        self.names.append(loop.recipe.loss.config.residual)


@pytest.mark.slow
def test_the_loss_changes_and_the_optimizer_stays(tmp_path: Path) -> None:
    optimizers, residuals = Optimizers(), Residuals()
    finish = {"at": 0.75, "loss": {"residual": "mse"}}
    train(tmp_path, recipe=LossRecipe(), callbacks=[optimizers, residuals], training_finish=finish)
    assert residuals.names == ["ssim_l1"] * 15 + ["mse"] * 5
    assert set(optimizers.names) == {"AdamW"}


def test_wrong_keys_of_the_loss_are_found_before_the_first_step(tmp_path: Path) -> None:
    seen = Optimizers()
    with refuses(ConfigError, where="training.finish.loss.residuall"):
        train(
            tmp_path, recipe=LossRecipe(), callbacks=[seen], training_finish={"at": 0.5, "loss": {"residuall": "mse"}}
        )
    with refuses(ConfigError, where="training.finish.loss", found="loss"):
        train(tmp_path, callbacks=[seen], training_finish={"at": 0.5, "loss": {"residual": "mse"}})
    assert seen.names == []
