"""Build a recipe with its initial weights: random, pretrained, or of another checkpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path

from stadia.core import random_state
from stadia.core.errors import StadiaError
from stadia.recipes.base.config import RecipeConfig, without_pretrained
from stadia.recipes.base.recipe import TrainingData
from stadia.training.checkpoint import Checkpoint, check_recipe, load_weights
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run


def check_init_weights(recipe: type[AnyRecipe], config: RecipeConfig) -> None:
    """Raise CheckpointError if the initial weights are unavailable, or `start_from` is of another recipe."""
    if config.start_from is None:
        recipe.check_init_weights(config)
    else:
        check_recipe(Checkpoint.open(Path(config.start_from)), (recipe.recipe, *recipe.compatible_recipes))


def create_task(recipe: type[AnyRecipe], config: RecipeConfig, data: TrainingData, run: Run) -> AnyRecipe:
    """Return the task at its start; on resume its weights come from the run's checkpoint. Errors fail the run."""
    resumed = (run.checkpoints / "last.safetensors").exists()
    try:
        random_state.seed_generators(config.seed, "training")
        task = build_task(recipe, config, resumed=resumed)
        task.save_data_stats(data)
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
    load_weights(checkpoint, task, recipe=(recipe.recipe, *recipe.compatible_recipes), without=recipe.data_buffers)
    task.started_from = f"{checkpoint.path}, step {checkpoint.header.step}"
    return task
