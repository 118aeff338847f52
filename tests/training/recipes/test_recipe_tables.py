"""The tables of recipes: equal names, flat classes, a configuration that imports no torch."""

import inspect

import pytest
from tests.refusals import refuses

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError
from stadia.predict import TASKS
from stadia.predict.tasks import Task
from stadia.training.loop.recipe import Recipe
from stadia.training.recipes import CONFIGS, RECIPES


def test_every_recipe_has_a_configuration_and_commands() -> None:
    assert set(RECIPES) == set(CONFIGS) == set(TASKS)
    assert all(issubclass(TASKS.load(name), Task) for name in TASKS)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_name_of_a_run_is_checked_with_its_configuration(name: str) -> None:
    with refuses(ConfigError, where="name", found="../a"):
        resolve_config(CONFIGS.load(name), {"data": {"path": "anywhere"}}, ["name=../a"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_at_most_one_class_between_itself_and_the_base(name: str) -> None:
    ours = [one for one in inspect.getmro(RECIPES.load(name)) if one.__module__.startswith("stadia.")]
    assert ours[-1] is Recipe
    assert len(ours) <= 3, [one.__name__ for one in ours]


@pytest.mark.parametrize("name", ["selfsup", "metric", "supervised"])
def test_the_training_step_fits_on_one_screen(name: str) -> None:
    source = inspect.getsource(RECIPES.load(name).training_step)
    assert source.count("\n") <= 25
