"""A recipe class of the user (`workflow.train(recipe_class=...)`): choose it, check it, and name how it is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
    return f"recipes.train(config, resume={str(run)!r}, recipe_class={own_class.rpartition('.')[2]})"


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
    own, known = ({name: tensor.shape for name, tensor in one.state_dict().items()} for one in (recipe, base))
    differing = sorted(name for name in own.keys() | known.keys() if own.get(name) != known.get(name))
    if differing:
        found = f"{type(recipe).__name__} with other weights: {', '.join(differing[:MAX_LISTED])}"
        found += " ..." * (len(differing) > MAX_LISTED)
        fix = "keep the networks of the recipe and set numbers of the loss by hand, or add a recipe of your own"
        fix += " (docs/how-to/add-a-recipe.md)"
        expected = f"the weights of '{recipe.recipe}', which `stadia predict` loads"
        raise ConfigError("recipe_class", found=found, expected=expected, fix=fix)


def note_unchecked_loss(recipe_class: type[AnyRecipe]) -> list[Finding]:
    """Return a note where a user's class changes `training_step`, and the loss checks do not see what it adds."""
    base: type[AnyRecipe] = RECIPES.load(recipe_class.recipe)
    if recipe_class.training_step is base.training_step or recipe_class.loss_cases is not base.loss_cases:
        return []
    name = recipe_class.__name__
    reason = f"{name} changes training_step and not loss_cases: what it adds to the loss is not checked"
    note = make_not_checked(LOSS_CHECKS, reason, case="own_training_step")
    return [replace(note, stage=Stage.BEFORE_TRAINING)]  # a resume replaces the findings of the data
