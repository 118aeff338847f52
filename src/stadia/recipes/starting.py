"""The task of a training as it starts: which weights it has, and what it remembers of the data."""

from __future__ import annotations

import contextlib
from pathlib import Path

from stadia.core.errors import StadiaError
from stadia.recipes.config import RecipeConfig, without_pretrained
from stadia.recipes.recipe import AnyRecipe, TrainingData
from stadia.training import rng
from stadia.training.checkpoints import Checkpoint, check_recipe, load_weights
from stadia.training.run import Run


def check_start(recipe: type[AnyRecipe], config: RecipeConfig) -> None:
    """Raise CheckpointError where the weights that a new training starts from cannot be had, or `start_from` is of
    another recipe.
    """
    if config.start_from is None:
        recipe.check_start(config)
    else:
        check_recipe(Checkpoint.open(Path(config.start_from)), (recipe.recipe, *recipe.starts_from))


def started_task(recipe: type[AnyRecipe], config: RecipeConfig, data: TrainingData, run: Run) -> AnyRecipe:
    """The task as it starts, or about to be given the weights of the run's checkpoint. Where it cannot be made the run
    has failed.
    """
    resumed = (run.checkpoints / "last.safetensors").exists()
    try:
        rng.seed_all(config.seed, "training")
        task = build_task(recipe, config, resumed=resumed)
        task.remember(data)
    except BaseException as error:
        with contextlib.suppress(StadiaError):  # a full disk must not hide why it ended
            run.failed(error)
        raise
    if not resumed:  # what it started from was written then; the checkpoint is yet to be loaded
        run.note(**task.about)
    return task


def build_task(recipe: type[AnyRecipe], config: RecipeConfig, *, resumed: bool) -> AnyRecipe:
    """The task with the weights that it starts from. Raises CheckpointError where `config.start_from` is none of this
    recipe and model.

    resumed: a checkpoint of its own is about to be loaded, so pretrained weights are not asked for.
    """
    if resumed:
        return recipe(without_pretrained(config))
    if config.start_from is None:
        return recipe(config)
    task, checkpoint = recipe(without_pretrained(config)), Checkpoint.open(Path(config.start_from))
    load_weights(checkpoint, task, recipe=(recipe.recipe, *recipe.starts_from), without=recipe.of_data)
    task.started_from = f"{checkpoint.path}, step {checkpoint.header.step}"
    return task
