"""A user's own subclass of a recipe: check that it fits the recipe, and that commands can load its weights."""

from dataclasses import replace

from rich.console import Console

from stadia.core.errors import ConfigError, RunError
from stadia.differentiable import random_state
from stadia.judge.catalog import make_not_checked
from stadia.judge.finding import Finding, Stage, append_finding
from stadia.training.loop.fit import name_resume_call
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.config import RecipeConfig, without_pretrained
from stadia.training.start_checks import LOSS_CHECKS, print_unchecked

MAX_LISTED = 3
"""Names of weights that an error lists: enough to find the layer."""


def choose_class(config: RecipeConfig, own: type[AnyRecipe] | None) -> type[AnyRecipe]:
    """Return the class that trains a configuration: the user's `own` one, or the recipe's. Raises ConfigError."""
    base: type[AnyRecipe] = RECIPES.load(config.recipe)
    given: object = base if own is None else own
    if isinstance(given, type) and issubclass(given, base) and given.recipe == config.recipe:
        return given
    name = given.__name__ if isinstance(given, type) else f"an object of {type(given).__name__}"
    of = getattr(given, "recipe", None)
    found = f"{name}, a class of '{of}'" if of else f"{name}, which derives from no recipe"
    fix = f"pass a class that derives from {base.__name__}, and keep its name '{config.recipe}' in `recipe`"
    raise ConfigError("recipe_class", found=found, expected=f"a class of '{config.recipe}'", fix=fix)


def name_own_class(recipe_class: type[AnyRecipe]) -> str | None:
    """Return the name of a user's class; None for a recipe's."""
    return None if RECIPES.load(recipe_class.recipe) is recipe_class else recipe_class.__qualname__


def check_class(stopped: Run, recipe_class: type[AnyRecipe]) -> None:
    """Raise RunError if another class trained a run that is to be resumed."""
    before, now = stopped.facts.recipe_class, name_own_class(recipe_class)
    if before != now:
        known = f"the recipe '{recipe_class.recipe}' itself"
        fix = "leave recipe_class out"
        if before:
            fix = f"resume it from Python, with its configuration: {name_resume_call(stopped.folder, before)}"
        raise RunError(stopped.folder, found=now or known, expected=f"{before or known}, which trained it", fix=fix)


def check_own_weights(recipe: AnyRecipe) -> None:
    """Raise ConfigError if a user's class has other weights than its recipe: no command could load them."""
    if not name_own_class(type(recipe)):
        return
    with random_state.preserve_generators():
        base: AnyRecipe = RECIPES.load(recipe.recipe)(without_pretrained(recipe.config))
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
                "put them into a depth network of your own (model.network=module:Class),"
                " or add a recipe (docs/how-to/add-a-recipe.md)"
            ),
        )


def note_unchecked_loss(recipe_class: type[AnyRecipe]) -> list[Finding]:
    """Return a note if a user's class changes `training_step` but not `loss_cases`."""
    base: type[AnyRecipe] = RECIPES.load(recipe_class.recipe)
    if recipe_class.training_step is base.training_step or recipe_class.loss_cases is not base.loss_cases:
        return []
    name = recipe_class.__name__
    reason = f"{name} changes training_step but not loss_cases, so its part of the loss is not checked"
    note = make_not_checked(LOSS_CHECKS, reason, case="own_training_step")
    return [replace(note, stage=Stage.BEFORE_TRAINING)]  # a resume replaces the findings of the data


def check_own_class(recipe: AnyRecipe, run: Run | None, console: Console) -> None:
    """Raise ConfigError for a user's class whose weights no command can load, and print parts that the checks miss."""
    check_own_weights(recipe)
    notes = note_unchecked_loss(type(recipe))
    if run is not None:
        for note in notes:
            append_finding(run.folder / "findings.jsonl", note)
    print_unchecked(notes, console)
