"""Interface checks of recipes and their demos, for test_tables.py."""

import inspect
from pathlib import Path
from typing import Any

from stadia.core.config import StrictModel
from stadia.predict import TASKS
from stadia.predict.tasks import Task
from stadia.training.loop.recipe import Recipe
from stadia.training.recipes import CONFIGS, RECIPES


def recipe(name: str, part: Any, folder: Path) -> None:
    """A recipe with a configuration of the same name, with the metric of its best checkpoint."""
    config = CONFIGS.load(name)
    if part is config:  # a line of CONFIGS
        assert issubclass(part, StrictModel)
        assert list(CONFIGS) == list(RECIPES)
        return
    assert issubclass(part, Recipe)
    assert part.recipe == name
    assert "best_metrics" in vars(part), "each names its metric; () keeps the last"
    assert part.base_recipe in ("", *(other for other in RECIPES if other != name))


def demo(name: str, part: Any, folder: Path) -> None:
    """Of a recipe: takes the folder of runs and overrides of its configuration."""
    assert name in RECIPES
    assert list(inspect.signature(part).parameters) == ["out", "overrides"]


def task(name: str, part: Any, folder: Path) -> None:
    """It implements what the runner needs for `predict` and `evaluate`, one row for each recipe."""
    assert list(TASKS) == list(RECIPES)
    assert issubclass(part, Task)
    of_depth = name in ("selfsup", "metric", "supervised")  # `Network.open` opens their inputs
    for hook in ("open_labeled", "score") if of_depth else ("open", "open_labeled", "score"):
        assert getattr(part, hook) is not getattr(Task, hook), f"{part.__name__} does not implement {hook}"


INTERFACE_CHECKS = (recipe, demo, task)
