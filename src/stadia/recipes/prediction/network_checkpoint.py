"""Open what a command calls a network: a checkpoint or a run, or a published or own network that no run trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.registry import find_nearest_name
from stadia.core.types import DepthScale
from stadia.dataloading.config import DataConfig
from stadia.files.run_facts import RecipeFacts
from stadia.models import DEPTH_NETWORKS
from stadia.models.depth.config import DepthModelConfig
from stadia.models.depth.depth_network import DepthNetwork, build_depth_network, check_depth_network
from stadia.models.published_files import HUB
from stadia.models.published_networks import PUBLISHED_NETWORKS, describe_licence
from stadia.recipes.base.depth_recipe import DepthRecipe
from stadia.recipes.prediction.prediction_inputs import open_inputs
from stadia.recipes.prediction.requests import NETWORK_RECIPE, OWN_NETWORK, is_network_name
from stadia.training.checkpoint import Checkpoint, CheckpointHeader
from stadia.training.config import OptimizerConfig, ScheduleConfig

DEFAULT_SIZE = (480, 640)
"""(height, width) of the image that sizes a network where no input does: `stadia export`."""

FindSize = Callable[[], tuple[int, int]]
"""Returns (height, width) of the images of an input."""


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

    @property
    def run_metadata(self) -> RecipeFacts:
        return super().run_metadata


@dataclass(frozen=True)
class NetworkCheckpoint(Checkpoint):
    """A network that no run trained, where commands take a checkpoint.

    recipe: that predicts by it.
    """

    recipe: NetworkRecipe

    @property
    def built_recipe(self) -> NetworkRecipe:
        return self.recipe

    @property
    def licence(self) -> str:
        return self.recipe.model.licence

    @property
    def run_folder(self) -> Path:
        """Return a folder that never exists: no run trained it."""
        return self.path / "no-run"

    @property
    def title(self) -> str:
        return self.recipe.model.config.title

    def weights(self) -> dict[str, torch.Tensor]:
        return dict(self.recipe.state_dict())

    def buffer(self, name: str) -> tuple[float, ...]:
        values = self.weights().get(name)
        return () if values is None else tuple(values.flatten().tolist())

    def count_numbers(self) -> int:
        return sum(tensor.numel() for tensor in self.weights().values())


def open_network(
    network: Path | str, find_size: FindSize = lambda: DEFAULT_SIZE, settings: Sequence[str] = ()
) -> Checkpoint:
    """Return the checkpoint of a run, or a network without one.

    Args:
        network: a checkpoint, a run's folder; a name of `stadia list networks`, hf:ORG/NAME[@REVISION], a folder of
            transformers, or module:Class of your own.
        find_size: returns (height, width) of the images, which size a network without a run.
        settings: its keys, `network.KEY=VALUE`.

    Raises CheckpointError and ConfigError for what is none of these.
    """
    text = str(network)
    if not is_network_name(text):
        if settings:
            found, fix = f"used together with the checkpoint {text}", "leave it out"
            raise ConfigError(settings[0], found=found, expected="a network without a run", fix=fix)
        near = None if Path(text).exists() else find_nearest_name(text, list(PUBLISHED_NETWORKS))
        if near is not None:
            expected = "a checkpoint, a run's folder, or a published network"
            raise ConfigError(text, found="no such network or file", expected=expected, fix=f"did you mean '{near}'?")
        return Checkpoint.open(Path(text))
    config = configure_network(text, settings)
    model = build_depth_network(config).eval()
    if not model.predicts_depth_at_start:
        found, expected = "a network whose weights are random", "weights that predict depth"
        fix = "name them (network.weights=FILE), or train it: stadia train selfsup VIDEO model.network=..."
        raise CheckpointError(text, found=found, expected=expected, fix=fix)
    height, width = model.image_size(*find_size())
    check_depth_network(config, [(height, width)])
    data = DataConfig.model_construct(path="", height=height, width=width, crop="none")
    recipe = NetworkRecipe(NetworkRecipeConfig.model_construct(data=data, model=config), model).eval()
    values: dict[str, Any] = {"data": {"height": height, "width": width}, "model": config.model_dump(mode="json")}
    header = CheckpointHeader(recipe=NETWORK_RECIPE, config=values, kind="weights", step=0, epoch=0, metrics={})
    return NetworkCheckpoint(Path(text), header, None, {}, recipe)


def open_network_for(
    network: Path | str, source: Path, options: Mapping[str, Any], settings: Sequence[str]
) -> Checkpoint:
    """Return what `open_network` does, for the images of an input.

    Args:
        source: the input.
        options: how to open it, from `parse_source_options`.
    """

    def find_size() -> tuple[int, int]:
        first = next(iter(open_inputs(source, **options)[0].frames))
        height, width = first.image.shape[:2]
        return height, width

    return open_network(network, find_size, settings)


def configure_network(name: str, settings: Sequence[str] = ()) -> DepthModelConfig:
    """Return the configuration of a network by its name, with `network.KEY=VALUE` settings. Raises ConfigError."""
    is_own = name in DEPTH_NETWORKS or (not name.startswith(HUB) and OWN_NETWORK.fullmatch(name) is not None)
    values: Mapping[str, Any] = {"name": name} if is_own else {"name": "published", "source": name}
    return resolve_config(DepthModelConfig, {"network": dict(values)}, settings)


def describe_network(checkpoint: Checkpoint) -> str:
    """Return the line about the licence of a network's weights; "" where none is known."""
    return describe_licence(checkpoint.recipe.model.licence) if isinstance(checkpoint, NetworkCheckpoint) else ""
