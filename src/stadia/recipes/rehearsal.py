"""The dry run: check a training and measure three full steps. Nothing is kept."""

from __future__ import annotations

from rich.console import Console

from stadia.diagnostics.finding import OnStop
from stadia.recipes import RECIPES
from stadia.recipes.config import RecipeConfig
from stadia.recipes.contract import contract
from stadia.recipes.recipe import AnyRecipe
from stadia.recipes.stages import check_stages, prepare, prepared_stages
from stadia.recipes.starting import build_task
from stadia.recipes.trial import Rehearsal, tried
from stadia.recipes.workflow import CONTRACT, report_findings


def rehearse(config: RecipeConfig, *, on_stop: OnStop = OnStop.HALT) -> Rehearsal:
    """Open and check the data, build the networks, check the losses, and train three steps in a temporary folder.

    Each data set and each stage trains that many steps. Raises what `workflow.train` raises before training, and
    RunError if memory does not suffice, with the step.
    """
    console = Console(stderr=True)
    recipe: type[AnyRecipe] = RECIPES.load(config.recipe)
    check_stages(recipe, config)
    config, data = prepare(recipe, config, console)
    report_findings(data.findings(), console, on_stop)
    task = build_task(recipe, config, resumed=False)
    task.remember(data)
    report_findings(contract(task, config, data, console), console, on_stop, of=CONTRACT)
    del task  # the steps' peak of memory is without it
    if not config.training.stages:
        return tried(recipe, config, data)
    each = [tried(recipe, *prepared) for prepared in prepared_stages(recipe, config)]
    peaks, seconds = ([number for one in each for number in getattr(one, name)] for name in ("peak_bytes", "seconds"))
    return Rehearsal(each[-1].device, tuple(peaks), tuple(seconds))
