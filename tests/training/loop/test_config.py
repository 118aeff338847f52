"""What a configuration of a training may say."""

import pytest
from tests.refusals import refuses

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig, TrainingConfig


def test_max_steps_alone_sets_no_limit_of_epochs() -> None:
    assert resolve_config(TrainingConfig).max_epochs == 20
    config = resolve_config(TrainingConfig, overrides=["max_steps=100"])
    assert (config.max_steps, config.max_epochs) == (100, None)
    both = resolve_config(TrainingConfig, overrides=["max_steps=100", "max_epochs=3"])
    assert (both.max_steps, both.max_epochs) == (100, 3)


@pytest.mark.parametrize(
    ("model", "override", "names"),
    [
        (OptimizerConfig, "name=adanw", ("adamw",)),
        (TrainingConfig, 'loggers=["csv","tensorbord"]', ("tensorboard",)),
        (TrainingConfig, "max_epochs=null", ("max_epochs", "max_steps")),
        (ScheduleConfig, "milestones=[0.5,0.2]", ()),
        (ScheduleConfig, "milestones=[15]", ("milestones_in=epochs",)),
        (TrainingConfig, "precison=bf16", ("precision",)),
        (OptimizerConfig, "lr=0", ("0",)),
        (TrainingConfig, "strategy=ddp_spawn", ("auto", "ddp")),
        (TrainingConfig, "devices=-7", ("-7", "1", "auto")),
        (TrainingConfig, "workers=100000", ("512",)),
        (OptimizerConfig, "lr=1e400", ("lr",)),
        (TrainingConfig, "accelerator=gpux", ("gpux", "auto", "cpu")),
    ],
)
def test_invalid_values_are_refused_with_a_fix(model: type, override: str, names: tuple[str, ...]) -> None:
    with refuses(ConfigError, names=names):
        resolve_config(model, overrides=[override])


class Recipe(StrictModel):
    training: TrainingConfig = TrainingConfig(max_epochs=None, max_steps=2500, batch_size=16)


def test_max_epochs_replaces_the_default_of_max_steps() -> None:
    epochs = resolve_config(Recipe, overrides=["training.max_epochs=10"]).training
    assert (epochs.max_epochs, epochs.max_steps, epochs.batch_size) == (10, None, 16)
    both = resolve_config(Recipe, overrides=["training.max_epochs=10", "training.max_steps=50"]).training
    assert (both.max_epochs, both.max_steps, both.batch_size) == (10, 50, 16)
    assert resolve_config(Recipe, overrides=["training.batch_size=4"]).training == TrainingConfig(
        max_steps=2500, batch_size=4
    )
    assert resolve_config(Recipe, {"training": epochs.model_dump(mode="json")}).training == epochs
