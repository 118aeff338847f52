"""Build the task of a training with its initial weights and the statistics of its data."""

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
    """Raise CheckpointError if the initial weights are unavailable, or `start_from` is of another recipe."""
    if config.start_from is None:
        recipe.check_start(config)
    else:
        check_recipe(Checkpoint.open(Path(config.start_from)), (recipe.recipe, *recipe.starts_from))


def started_task(recipe: type[AnyRecipe], config: RecipeConfig, data: TrainingData, run: Run) -> AnyRecipe:
    """Return the task at its start; on resume its weights come from the run's checkpoint. Errors fail the run."""
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
        run.note(**task.run_metadata)
    return task


def build_task(recipe: type[AnyRecipe], config: RecipeConfig, *, resumed: bool) -> AnyRecipe:
    """Return the task with its initial weights. Raises CheckpointError if `config.start_from` does not fit.

    resumed: its own checkpoint will be loaded, so pretrained weights are not needed.
    """
    if resumed:
        return recipe(without_pretrained(config))
    if config.start_from is None:
        return recipe(config)
    task, checkpoint = recipe(without_pretrained(config)), Checkpoint.open(Path(config.start_from))
    load_weights(checkpoint, task, recipe=(recipe.recipe, *recipe.starts_from), without=recipe.of_data)
    task.started_from = f"{checkpoint.path}, step {checkpoint.header.step}"
    return task
