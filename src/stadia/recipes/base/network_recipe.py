"""`NetworkRecipe`: a depth network without a training, where commands take a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from stadia.core.config import StrictModel
from stadia.core.errors import CheckpointError
from stadia.core.types import Camera, DepthScale, PredictedMaps
from stadia.dataloading.config import DataConfig
from stadia.models.depth.config import DepthModelConfig
from stadia.models.depth.depth_network import DepthNetwork, build_depth_network
from stadia.models.pretrained_weights import limit_parameters
from stadia.recipes.base.config import NETWORK_RECIPE
from stadia.recipes.base.depth_recipe import DepthRecipe
from stadia.training.checkpoint import Checkpoint, load_weights
from stadia.training.config import OptimizerConfig, ScheduleConfig


class NetworkRecipeConfig(StrictModel):
    """A network without a training. `data` has the size of its images, and no path."""

    data: DataConfig
    model: DepthModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()


class NetworkRecipe(DepthRecipe[NetworkRecipeConfig]):
    """A depth network with its published weights, for prediction alone."""

    recipe = NETWORK_RECIPE

    def __init__(self, config: NetworkRecipeConfig, model: DepthNetwork) -> None:
        super().__init__(config)
        self.model = model
        self.focal.fill_(model.training_focal or 0.0)  # 0: depth stays as it is with any camera

    @property
    def depth_scale(self) -> DepthScale:
        return self.model.output

    def maps(self, image: Tensor, camera: Camera | None = None) -> PredictedMaps:
        left, _, log_uncertainty = self.model(image, camera)
        return PredictedMaps(left[0], None, log_uncertainty and log_uncertainty[0])

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        predict_motion: Any = getattr(self.model, "T_later_earlier", None)
        motion: Tensor | None = None if predict_motion is None else predict_motion(now, following)
        return motion


def make_network_recipe(config: DepthModelConfig, model: DepthNetwork, size: tuple[int, int]) -> NetworkRecipe:
    """Return the recipe of a network for images of a size (height, width)."""
    data = DataConfig.model_construct(path="", height=size[0], width=size[1], crop="none")
    return NetworkRecipe(NetworkRecipeConfig.model_construct(data=data, model=config), model).eval()


def describe_recipe(recipe: NetworkRecipe) -> dict[str, Any]:
    """Return the configuration that a checkpoint of the recipe holds."""
    data = {"height": recipe.height, "width": recipe.width}
    return {"data": data, "model": recipe.config.model.model_dump(mode="json")}


def load_network_recipe(checkpoint: Checkpoint) -> NetworkRecipe:
    """Return the recipe of an imported network. Raises CheckpointError where it does not fit."""
    values: Mapping[str, Any] = checkpoint.header.config
    try:
        config = DepthModelConfig.model_validate({**values["model"], "pretrained": False})
        size = int(values["data"]["height"]), int(values["data"]["width"])
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        found, fix = f"a damaged configuration ({type(error).__name__})", "import the network again"
        raise CheckpointError(checkpoint.path, found=found, expected="one of `stadia import`", fix=fix) from error
    with limit_parameters(checkpoint.path, checkpoint.count_numbers()):
        model = build_depth_network(config)
    recipe = make_network_recipe(config, model, size)
    load_weights(checkpoint, recipe, recipe=NETWORK_RECIPE)
    return recipe.eval()
