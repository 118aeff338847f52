"""Interface checks of recipes and their demos, for test_tables.py."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from stadia.core.config import StrictModel
from stadia.recipes import COMMANDS, CONFIGS, RECIPES
from stadia.recipes.base.runner import Commands
from stadia.training.recipe import Recipe


def recipe(name: str, part: Any, folder: Path) -> None:
    """A recipe with a configuration of the same name, with the metric of its best checkpoint."""
    config = CONFIGS.load(name)
    if part is config:  # a line of CONFIGS
        assert issubclass(part, StrictModel)
        assert list(CONFIGS) == list(RECIPES)
        return
    if part is COMMANDS.load(name):  # hooks of predict and evaluate
        assert issubclass(part, Commands)
        assert list(COMMANDS) == list(RECIPES)
        return
    assert issubclass(part, Recipe)
    assert part.recipe == name
    assert "best_metrics" in vars(part), "each names its metric; () keeps the last"


def demo(name: str, part: Any, folder: Path) -> None:
    """Of a recipe: takes the folder of runs and overrides of its configuration."""
    assert name in RECIPES
    assert list(inspect.signature(part).parameters) == ["out", "overrides"]


INTERFACE_CHECKS = (recipe, demo)
