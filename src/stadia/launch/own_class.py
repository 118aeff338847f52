"""A recipe class of the user (`launch.train(recipe_class=...)`): choose it, check it, and list its values."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from stadia.core import seeds
from stadia.core.errors import ConfigError, RunError
from stadia.diagnostics.finding import Finding, Stage
from stadia.diagnostics.not_checked import make_not_checked
from stadia.recipes import RECIPES
from stadia.recipes.base.config import RecipeConfig, without_pretrained
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run

LOSS_CHECKS = "loss checks"

MAX_LISTED = 3
"""Weights that an error names."""

MAX_VALUES = 100
"""Values of a class that run.json keeps: a module may have any number of constants."""

MAX_TEXT = 80
"""Characters of a text that is a value: a longer one is no setting."""


def choose_class(config: RecipeConfig, own: type[AnyRecipe] | None) -> type[AnyRecipe]:
    """Return the class that trains a configuration: the user's `own` one, or that of the recipe.

    Raises ConfigError where `own` is no class that derives from the recipe's.
    """
    base: type[AnyRecipe] = RECIPES.load(config.recipe)
    if own is None:
        return base
    fix = f"derive from {base.__name__}, and keep its name '{config.recipe}' in `recipe`"
    given: object = own
    if not isinstance(given, type):
        found, fix = f"an object of {type(own).__name__}", f"pass the class itself: recipe_class={type(own).__name__}"
    elif not issubclass(own, base):
        of = getattr(own, "recipe", None)
        found = f"{own.__name__}, a class of '{of}'" if of else f"{own.__name__}, which derives from no recipe"
    elif own.recipe != config.recipe:
        found = f"{own.__name__} with the name '{own.recipe}'"
    else:
        return own
    raise ConfigError("recipe_class", found=found, expected=f"a class of '{config.recipe}'", fix=fix)


def name_own_class(recipe_class: type[AnyRecipe]) -> str | None:
    """Return the name of a user's class; None for that of a recipe."""
    return None if RECIPES.load(recipe_class.recipe) is recipe_class else recipe_class.__qualname__


def check_class(stopped: Run, recipe_class: type[AnyRecipe]) -> None:
    """Raise RunError if another class than this one trained a run that shall be resumed."""
    before, now = stopped.facts.recipe_class, name_own_class(recipe_class)
    if before != now:
        known = f"the recipe '{recipe_class.recipe}' itself"
        fix = "leave recipe_class out"
        if before:
            fix = f"resume it from Python, with its configuration: {resume_line(stopped.folder, before)}"
        raise RunError(stopped.folder, found=now or known, expected=f"{before or known}, which trained it", fix=fix)


def resume_line(run: Path, own_class: str) -> str:
    """Return the line of Python that resumes a run of a user's class."""
    return f"launch.train(config, resume={str(run)!r}, recipe_class={own_class.rpartition('.')[2]})"


def describe_resume(run: Run) -> str:
    """Return how an interrupted run is resumed: a command, or Python where a user's class trains it."""
    if own_class := run.facts.recipe_class:
        return f"{resume_line(run.folder, own_class)} in Python, with the config of before"
    return f"stadia train {run.recipe} --resume {run.folder}"


def build_base(recipe: AnyRecipe) -> AnyRecipe | None:
    """Return the recipe from which a user's class derives, with its configuration; None for a recipe itself.

    Does not change the random number generators.
    """
    if not name_own_class(type(recipe)):
        return None
    with seeds.preserve_generators():
        base: AnyRecipe = RECIPES.load(recipe.recipe)(without_pretrained(recipe.config))
    return base


def check_own_weights(recipe: AnyRecipe, base: AnyRecipe) -> None:
    """Raise ConfigError where a user's class has other weights than its recipe: no command could load them.

    base: of `build_base`.
    """
    own = {name: tensor.shape for name, tensor in recipe.state_dict().items()}
    known = {name: tensor.shape for name, tensor in base.state_dict().items()}
    differing = sorted(name for name in own.keys() | known.keys() if own.get(name) != known.get(name))
    if differing:
        listed = ", ".join(differing[:MAX_LISTED]) + " ..." * (len(differing) > MAX_LISTED)
        raise ConfigError(
            "recipe_class",
            found=f"{type(recipe).__name__} with other weights: {listed}",
            expected=f"the weights of '{recipe.recipe}', which `stadia predict` loads",
            fix=(
                "put them into a depth network of your own, which model.network=module:Class selects; or set numbers of"
                " the loss by hand, or add a recipe of your own (docs/how-to/add-a-recipe.md)"
            ),
        )


def note_unchecked_loss(recipe_class: type[AnyRecipe]) -> list[Finding]:
    """Return a note where a user's class changes `training_step`, and the loss checks do not see what it adds."""
    base: type[AnyRecipe] = RECIPES.load(recipe_class.recipe)
    if recipe_class.training_step is base.training_step or recipe_class.loss_cases is not base.loss_cases:
        return []
    name = recipe_class.__name__
    reason = f"{name} changes training_step and not loss_cases: what it adds to the loss is not checked"
    note = make_not_checked(LOSS_CHECKS, reason, case="own_training_step")
    return [replace(note, stage=Stage.BEFORE_TRAINING)]  # a resume replaces the findings of the data


# -- values of a class for run.json: `stadia compare` lists those that differ

_LIBRARIES = {"stadia", "torch", "timm", "numpy", "builtins", *sys.stdlib_module_names}

_SET_BY_TRAINING = {"recipe", "training", "started_from", "start_steps", "plan", "optimizer", "global_step", "rank"}
"""Attributes of every recipe and module, also those that a training sets: they are no values of a class."""


def list_own_values(recipe: AnyRecipe, base: AnyRecipe) -> dict[str, bool | float | str]:
    """Return values by name: constants of the module, class attributes, and attributes that the constructor sets.

    Objects of the user's classes, and dataclasses, are listed by their own attributes: `loss.weight`. Constants of a
    module have names in capitals. Only numbers, flags and short texts are kept (of modules numbers alone).

    recipe: of the user's class.  base: the recipe from which it derives, whose attributes are left out.
    """
    classes = [cls for cls in reversed(type(recipe).__mro__) if not isinstance(base, cls) and not _is_library(cls)]
    values: dict[str, bool | float | str] = {}
    for module in dict.fromkeys(cls.__module__ for cls in classes):
        attributes = vars(sys.modules[module]) if module in sys.modules else {}  # none where text was executed
        constants = {name: value for name, value in attributes.items() if name.isupper()}
        values |= {name: value for name, value in _list_values(constants) if not isinstance(value, str)}
    for cls in classes:
        values |= dict(_list_values(vars(cls)))
    known = dict(_list_values({**vars(base), **dict(base.named_children())}))
    set_by_constructor = dict(_list_values({**vars(recipe), **dict(recipe.named_children())}))
    values |= {name: value for name, value in set_by_constructor.items() if value != known.get(name)}
    return dict(list(values.items())[:MAX_VALUES])


def _list_values(attributes: Mapping[str, Any]) -> Iterator[tuple[str, bool | float | str]]:
    """Yield values by name, of objects of the user by the names of both."""
    for name, value in attributes.items():
        if name.startswith("_") or name in _SET_BY_TRAINING:
            continue
        if _is_value(value):
            yield name, value
        elif _is_own_object(value):
            for inner_name, inner_value in vars(value).items():
                if not inner_name.startswith("_") and inner_name not in _SET_BY_TRAINING and _is_value(inner_value):
                    yield f"{name}.{inner_name}", inner_value


def _is_own_object(value: object) -> bool:
    """Return whether a value is a dataclass, or an object of a class of the user."""
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return False
    return is_dataclass(value) or not _is_library(type(value))


def _is_value(value: object) -> bool:
    """Return whether a value is a flag, a finite number or a short text, which JSON has."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _is_library(cls: type) -> bool:
    return cls.__module__ != "__main__" and cls.__module__.partition(".")[0] in _LIBRARIES
