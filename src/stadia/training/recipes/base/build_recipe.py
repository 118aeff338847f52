"""Build a recipe with initial weights (random, pretrained, or of another checkpoint), or load a trained one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from stadia.checks.finding import Finding
from stadia.core import seeds
from stadia.core.errors import StadiaError
from stadia.core.types import Predictor
from stadia.evaluation.predict_frames import make_predictor
from stadia.io.run_facts import find_run_facts
from stadia.networks.depth.depth_network import DepthNetwork, list_adapter_names, name_for_adapters
from stadia.networks.pretrained_weights import limit_parameters
from stadia.training.loop.batches import BatchIterable, EpochLoader
from stadia.training.loop.checkpoint import Checkpoint, check_recipe, check_weights, load_weights, open_checkpoint
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.config import NETWORK_RECIPE, RecipeConfig, read_stored_config, without_pretrained
from stadia.training.recipes.base.network_checkpoint import load_network_recipe


class TrainingData(Protocol):
    """Data of a training (`recipes.base.video_data.VideoData` for video).

    train, val: loaders of batches; val may be None.
    facts: identity of the data for run.json; a resumed run must have the same.
    """

    @property
    def train(self) -> EpochLoader:
        """Return the loader of the training batches."""

    @property
    def val(self) -> BatchIterable | None:
        """Return the validation batches; None without validation."""

    @property
    def facts(self) -> dict[str, object]:
        """Return facts for the run's record."""

    def findings(self) -> list[Finding]:
        """Return the findings of the data checks."""
        ...


def check_init_weights(recipe: type[AnyRecipe], config: RecipeConfig) -> None:
    """Raise CheckpointError if the initial weights are unavailable, or of another recipe or model."""
    if config.start_from is None:
        recipe.check_init_weights(config)
        return
    checkpoint = Checkpoint.open(Path(config.start_from))
    read_stored_config(checkpoint.path, checkpoint.header.recipe, checkpoint.header.config)
    check_recipe(checkpoint, (recipe.recipe, *recipe.compatible_recipes))
    if checkpoint.header.config.get("model") != config.model_dump(mode="json").get("model"):
        _check_start_fits(recipe, config, checkpoint)


def _check_start_fits(recipe_class: type[AnyRecipe], config: RecipeConfig, checkpoint: Checkpoint) -> None:
    with seeds.preserve_generators():
        try:
            recipe = recipe_class(without_pretrained(config))
        except Exception:
            return
    parameters = dict(recipe.named_parameters())
    adapters = list_adapter_names(parameters)
    plain = name_for_adapters(read_plain_weights(checkpoint), parameters)
    exchanged = list_exchanged(plain, recipe.state_dict())
    saved = {name: tensor for name, tensor in plain.items() if name in parameters and name not in exchanged}
    buffers = recipe.state_dict().keys() - parameters.keys()
    check_weights(checkpoint, saved, recipe, without={*buffers, *adapters, *exchanged})


def list_exchanged(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> set[str]:
    """Return the names of attention cores that differ between two networks, in names or shapes.

    A training may start from another attention: its projections are kept, and the core's own weights are new.
    """
    cores = {name for name in {*weights, *own} if ".core." in name}
    return {name for name in cores if name not in weights or name not in own or weights[name].shape != own[name].shape}


def read_plain_weights(checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """Return the weights of a checkpoint under plain names, with its adapters merged."""
    if not list_adapter_names(checkpoint.names):
        return checkpoint.weights()
    return dict(load_recipe(checkpoint).state_dict())


def create_recipe(recipe_class: type[AnyRecipe], config: RecipeConfig, data: TrainingData, run: Run) -> AnyRecipe:
    """Return the recipe at its start; on resume its checkpoint is loaded later. Errors fail the run."""
    resumed = (run.checkpoints / "last.safetensors").exists()
    with contextlib.nullcontext() if resumed else record_failure(run):  # a failed resume changes nothing
        seeds.seed_generators(config.seed, "training")
        recipe = init_recipe(recipe_class, config, resumed=resumed)
        recipe.save_data_stats(data)
    if not resumed:  # run.json has its start; the checkpoint is loaded later
        run.update_facts(lambda facts: replace(facts, recipe_facts=recipe.run_metadata))
    return recipe


@contextlib.contextmanager
def record_failure(run: Run) -> Iterator[None]:
    """Record an error of the block as the end of the run."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(StadiaError):  # a full disk must not hide why it ended
            run.failed(error)
        raise


def init_recipe(recipe_class: type[AnyRecipe], config: RecipeConfig, *, resumed: bool) -> AnyRecipe:
    """Return the recipe with its initial weights. Raises CheckpointError if `config.start_from` does not fit.

    resumed: its own checkpoint will be loaded, so pretrained weights are unnecessary.
    """
    if resumed:
        recipe = recipe_class(without_pretrained(config))
        recipe.resumed_pretrained = bool(getattr(getattr(config, "model", None), "pretrained", False))
        return recipe
    if config.start_from is None:
        return recipe_class(config)
    recipe, checkpoint = recipe_class(without_pretrained(config)), Checkpoint.open(Path(config.start_from))
    names = (recipe.recipe, *recipe.compatible_recipes)
    adapters = list_adapter_names(recipe.state_dict())
    plain = name_for_adapters(read_plain_weights(checkpoint), recipe.state_dict())
    exchanged = list_exchanged(plain, recipe.state_dict())
    without = (*recipe.data_buffers, *adapters, *exchanged)
    kept = {name: tensor for name, tensor in plain.items() if name not in exchanged}
    load_weights(checkpoint, recipe, recipe=names, without=without, weights=kept)
    recipe.started_from = f"{checkpoint.path}, step {checkpoint.header.step}"
    facts = find_run_facts(checkpoint.run_folder)
    recipe.start_steps = checkpoint.header.step + (facts.start_steps if facts else 0)
    return recipe


def load_predictor(
    checkpoint: Checkpoint | Path, size: tuple[int, int] | None = None, *, flip: bool = False
) -> Predictor:
    """Return a predictor of a trained recipe: depth, and motion if it was trained.

    checkpoint: opened, or the path of a checkpoint or a run's folder.
    size: (height, width) of the network; by default the training's.
    flip: average each map with the mirrored image's.
    Raises the errors of `load_recipe`, CheckpointError without depth, ConfigError for an unsupported size.
    """
    opened = open_checkpoint(checkpoint)
    return make_predictor(load_recipe(opened), opened.path, size, flip=flip)


def load_recipe(checkpoint: Checkpoint | Path, recipe_class: type[AnyRecipe] | None = None) -> AnyRecipe:
    """Load a trained recipe from a checkpoint or a run's folder (its best checkpoint, or its last).

    recipe_class: the user's own class that trained it; by default the recipe's.

    Raises CheckpointError if it is missing, damaged, of an unknown recipe, or does not fit its own configuration.
    """
    opened = open_checkpoint(checkpoint)
    if (built := opened.built_recipe) is not None:
        return built
    name = opened.header.recipe
    if name == NETWORK_RECIPE:
        network_recipe: Any = load_network_recipe(opened)  # has what predictions and exports take of a recipe
        return network_recipe
    config = read_stored_config(opened.path, name, opened.header.config)
    with limit_parameters(opened.path, opened.count_numbers()):
        recipe: AnyRecipe = (recipe_class or RECIPES.load(name))(without_pretrained(config))
    load_weights(opened, recipe, recipe=name)
    network = getattr(recipe, "depth_network", None)
    if isinstance(network, DepthNetwork):
        network.finish_training()
    return recipe.eval()
