"""What a configuration of a training may say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError
from stadia.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig


def test_defaults_are_valid_and_survive_json() -> None:
    for model in (OptimizerConfig, ScheduleConfig, TrainingConfig):
        assert resolve_config(model, model().model_dump(mode="json")) == model()


def test_max_steps_alone_sets_no_limit_of_epochs() -> None:
    assert resolve_config(TrainingConfig).max_epochs == 20
    config = resolve_config(TrainingConfig, overrides=["max_steps=100"])
    assert (config.max_steps, config.max_epochs) == (100, None)
    both = resolve_config(TrainingConfig, overrides=["max_steps=100", "max_epochs=3"])
    assert (both.max_steps, both.max_epochs) == (100, 3)


@pytest.mark.parametrize(
    ("model", "override", "message"),
    [
        (OptimizerConfig, "name=adanw", "did you mean 'adamw'"),
        (TrainingConfig, 'loggers=["csv","tensorbord"]', "did you mean 'tensorboard'"),
        (TrainingConfig, "max_epochs=null", "a training has to end"),
        (ScheduleConfig, "milestones=[0.5,0.2]", "milestones must rise"),
        (ScheduleConfig, "milestones=[15]", "set milestones_in=epochs"),
        (TrainingConfig, "precison=bf16", "did you mean 'precision'"),
        (OptimizerConfig, "lr=0", "greater than 0"),
        (TrainingConfig, "strategy=ddp_spawn", "expected 'auto', 'ddp'"),
        (TrainingConfig, "devices=-7", "devices: found -7; expected a number greater than or equal to 1 or 'auto'"),
        (TrainingConfig, "workers=100000", "less than or equal to 512"),
        (OptimizerConfig, "lr=1e400", "a finite number"),
        (TrainingConfig, "accelerator=gpux", "accelerator: found 'gpux'; expected 'auto', 'cpu', 'gpu'"),
    ],
)
def test_invalid_values_are_refused_with_a_fix(model: type, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config(model, overrides=[override])


def test_neither_configuration_nor_run_folder_imports_torch() -> None:
    check = "import sys, stadia.training.config, stadia.training.run_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


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
