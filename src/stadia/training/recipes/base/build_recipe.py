"""Build a recipe with initial weights (random, pretrained, or of another checkpoint), or load a trained one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import CheckpointError, ConfigError, StadiaError
from stadia.core.registry import OWN_PART, find_nearest_name
from stadia.core.types import Camera, DepthScale, PredictedMaps, Predictor
from stadia.data.config import DataConfig
from stadia.differentiable import torch_state
from stadia.differentiable.torch_state import choose_matrix_products
from stadia.io.run_facts import find_run_facts
from stadia.judge.finding import Finding
from stadia.networks import DEPTH_NETWORKS
from stadia.networks.config import DepthModelConfig
from stadia.networks.depth.depth_network import (
    DepthNetwork,
    build_depth_network,
    check_depth_network,
    list_adapter_names,
    name_for_adapters,
)
from stadia.networks.depth.midas import is_midas_file
from stadia.networks.depth.monodepth2 import describe_monodepth2
from stadia.networks.weight_files import limit_parameters, read_tensors, resolve_weights_file
from stadia.predict.networks import NETWORK_RECIPE
from stadia.predict.networks.published_networks import HUB, describe_licence, is_network_name, refuse_misspelt_network
from stadia.training.loop.batches import BatchIterable, EpochLoader
from stadia.training.loop.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    check_recipe,
    check_weights,
    load_weights,
    open_checkpoint,
    write_checkpoint,
)
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.config import RecipeConfig, read_stored_config, without_pretrained
from stadia.training.recipes.base.depth_predictor import DepthPredictor, make_predictor


class NetworkRecipeConfig(StrictModel):
    """A network without a training. `data` has the size of its images, and no path."""

    data: DataConfig
    model: DepthModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()


class NetworkRecipe(nn.Module):
    """A depth network with its published weights, for prediction only: it has what `DepthPredictor` takes of a recipe.

    height, width: size of the network's images.
    focal: fx / width () of its training; 0 if depth fits any camera.
    """

    recipe = NETWORK_RECIPE
    crop = "none"
    depth_pose_net = None
    focal: Tensor

    def __init__(self, config: NetworkRecipeConfig, model: DepthNetwork) -> None:
        super().__init__()
        choose_matrix_products()
        self.config = config
        self.model = model
        self.height = config.data.height
        self.width = config.data.width
        self.register_buffer("focal", torch.full((), model.training_focal or 0.0))

    @property
    def depth_network(self) -> DepthNetwork:
        """Return the network."""
        return self.model

    @property
    def depth_scale(self) -> DepthScale:
        """Return the scale of its depth."""
        return self.model.output

    @property
    def stride(self) -> int:
        """Return the number that divides both sides of the network's images."""
        return self.model.config.size_multiple

    def maps(self, image: Tensor, camera: Camera | None = None) -> PredictedMaps:
        """Predict all output maps of images (B, 3, H, W)."""
        left, _, log_uncertainty = self.model(image, camera)
        return PredictedMaps(left[0], None, log_uncertainty and log_uncertainty[0])

    def inverse_depth(self, image: Tensor, camera: Camera | None = None) -> Tensor:
        """Predict inverse depth, (B, 3, H, W) to (B, 1, H, W), see `depth_scale`."""
        return self.maps(image, camera).inverse_depth

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        """Predict motion, (B, 3, H, W) twice to (B, 4, 4); None for a network of depth alone."""
        predict_motion: Any = getattr(self.model, "T_later_earlier", None)
        motion: Tensor | None = None if predict_motion is None else predict_motion(now, following)
        return motion

    def predictor(self, size: tuple[int, int] | None = None) -> Predictor:
        """Return the predictor of images, at (height, width). Raises ConfigError for an unsupported size."""
        if size is not None:
            self.model.check_config(self.model.config, height=size[0], width=size[1])
        return DepthPredictor(self, size)


def make_network_recipe(config: DepthModelConfig, model: DepthNetwork, size: tuple[int, int]) -> NetworkRecipe:
    """Return the recipe of a network for images of a size (height, width)."""
    data = DataConfig.model_construct(path="", height=size[0], width=size[1], crop="none")
    return NetworkRecipe(NetworkRecipeConfig.model_construct(data=data, model=config), model).eval()


def describe_recipe(recipe: NetworkRecipe) -> dict[str, Any]:
    """Return the configuration in a checkpoint of the recipe."""
    data = {"height": recipe.height, "width": recipe.width}
    return {"data": data, "model": recipe.config.model.model_dump(mode="json")}


def load_network_recipe(checkpoint: Checkpoint) -> NetworkRecipe:
    """Return the recipe of an imported network. Raises CheckpointError if it does not fit."""
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


DEFAULT_SIZE = (480, 640)
"""This (height, width) sizes a network without an input."""

FindSize = Callable[[], tuple[int, int]]
"""A function that returns (height, width) of the images of an input."""


@dataclass(frozen=True)
class NetworkCheckpoint(Checkpoint):
    """A network that no run trained, for commands that take a checkpoint."""

    recipe: NetworkRecipe

    @property
    def built_recipe(self) -> NetworkRecipe:
        return self.recipe

    def resized(self, height: int, width: int) -> NetworkCheckpoint:
        """Return the same network for images of another size."""
        return make_network_checkpoint(str(self.path), self.recipe.config.model, self.recipe.model, (height, width))

    @property
    def licence(self) -> str:
        return self.recipe.model.licence

    @property
    def run_folder(self) -> Path:
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


def open_network_checkpoint(
    network: Path | str, find_size: FindSize = lambda: DEFAULT_SIZE, settings: Sequence[str] = ()
) -> Checkpoint:
    """Open the checkpoint of a run, or build one for a network without a run.

    network: one of: a checkpoint or the folder of a run; a name of `stadia list networks`; hf:ORG/NAME[@REVISION]; a
        folder of the package transformers; your own module:Class.
    find_size: returns (height, width) of the images; it sets the input size of a network without a run.
    settings: `network.KEY=VALUE` texts that configure a network without a run.

    Raises CheckpointError if the network is missing or damaged, and ConfigError for wrong settings.
    """
    text = str(network)
    if not is_network_name(text):
        if settings:
            found, fix = f"used together with the checkpoint {text}", "leave it out"
            raise ConfigError(settings[0], found=found, expected="a network without a run", fix=fix)
        refuse_misspelt_network(text)
        return Checkpoint.open(Path(text))
    config = configure_network(text, settings)
    model = build_depth_network(config).eval()
    if not model.predicts_depth_at_start:
        found, expected = "a network whose weights are random", "weights that predict depth"
        fix = "name them (network.weights=FILE), or train it: stadia train selfsup VIDEO model.network=..."
        raise CheckpointError(text, found=found, expected=expected, fix=fix)
    return make_network_checkpoint(text, config, model, find_size())


def make_network_checkpoint(
    name: str, config: DepthModelConfig, model: DepthNetwork, size: tuple[int, int]
) -> NetworkCheckpoint:
    """Return a network without a run for images of a size (height, width). Raises ConfigError."""
    height, width = model.image_size(*size)
    check_depth_network(config, [(height, width)])
    recipe = make_network_recipe(config, model, (height, width))
    header = CheckpointHeader(
        recipe=NETWORK_RECIPE, config=describe_recipe(recipe), kind="weights", step=0, epoch=0, metrics={}
    )
    return NetworkCheckpoint(Path(name), header, None, "", (), recipe)


def configure_network(name: str, settings: Sequence[str] = ()) -> DepthModelConfig:
    """Return the configuration of a network by its name, with `network.KEY=VALUE` settings. Raises ConfigError."""
    is_own = name in DEPTH_NETWORKS or (not name.startswith(HUB) and OWN_PART.fullmatch(name) is not None)
    values: Mapping[str, Any] = {"name": name} if is_own else {"name": "published", "source": name}
    return resolve_config(DepthModelConfig, {"network": dict(values)}, settings)


def describe_network(checkpoint: Checkpoint) -> str:
    """Return the line about the licence of a network's weights."""
    return describe_licence(checkpoint.recipe.model.licence) if isinstance(checkpoint, NetworkCheckpoint) else ""


def describe_import(source: Path, kind: str) -> dict[str, Any]:
    """Return `model.network` for published files of another program.

    Raises ConfigError for another kind, CheckpointError for missing or damaged files.
    """
    if kind not in IMPORTS:
        fix = f"did you mean '{near}'?" if (near := find_nearest_name(kind, list(IMPORTS))) else "choose one of them"
        raise ConfigError("--as", found=f"'{kind}'", expected=f"one of {', '.join(IMPORTS)}", fix=fix)
    if kind == "monodepth2":
        return {"name": "monodepth2", **describe_monodepth2(source)}
    path = resolve_weights_file(source)
    if is_midas_file(read_tensors(path)):
        return {"name": "midas", "weights": str(path)}
    is_hybrid = any(".patch_embed.backbone." in name for name in read_tensors(path))
    known = {"scale": 0.00006016, "shift": 0.00579} if path.name.startswith("dpt_hybrid-kitti") else {}
    known = {"scale": 0.000305, "shift": 0.1378} if path.name.startswith("dpt_hybrid-nyu") else known
    return {"name": "dpt", "size": "hybrid" if is_hybrid else "large", "weights": str(path), **known}


IMPORTS = ("monodepth2", "dpt", "midas")
"""Published files of these programs are imported; midas is MiDaS 2.1, and MiDaS 3 has files of DPT."""


def import_network(source: Path, kind: str, out: Path, settings: Sequence[str] = ()) -> NetworkRecipe:
    """Write published files of another program as a checkpoint of stadia; return its recipe.

    Raises CheckpointError for weights that are missing, left over or of another shape.
    """
    if out.suffix != ".safetensors":
        fix = f"--out {out.with_suffix('.safetensors').name}"
        raise ConfigError("--out", found=f"'{out.name}'", expected="a new .safetensors", fix=fix)
    if out.exists():
        raise ConfigError(
            "--out", found=f"{out}, which exists", expected="a new file", fix="choose a file name that does not exist"
        )
    config = resolve_config(DepthModelConfig, {"network": describe_import(source, kind)}, settings)
    model = build_depth_network(config).eval()
    recipe = make_network_recipe(config, model, model.image_size(*DEFAULT_SIZE))
    header = CheckpointHeader(
        recipe=NETWORK_RECIPE, config=describe_recipe(recipe), kind="weights", step=0, epoch=0, metrics={}
    )
    write_checkpoint(out, header, {"state_dict": dict(recipe.state_dict())})
    return recipe


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
    with torch_state.preserve_generators():
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
        torch_state.seed_generators(config.seed, "training")
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
    """Create a recipe with the initial weights of its networks.

    recipe_class: class of the recipe.
    config: its configuration.
    resumed: whether its own checkpoint will be loaded, so that pretrained weights are unnecessary.

    Raises CheckpointError if `config.start_from` does not fit.
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


def load_predictor(checkpoint: Checkpoint | Path, size: tuple[int, int] | None = None, *, flip: bool = False) -> Any:
    """Load a trained network as a predictor of depth, and of camera motion if it was trained.

    Its methods take NumPy arrays, as `core.types.Predictor`, or torch tensors, and return the same kind.

    checkpoint: an opened checkpoint, or the path of a checkpoint or a run's folder.
    size: (height, width) of the network's input; None takes the size of the training.
    flip: whether to average each depth map with the map of the mirrored image.

    Raises CheckpointError if the checkpoint is damaged or predicts no depth, and ConfigError for an unsupported size.
    """
    opened = open_checkpoint(checkpoint)
    return make_predictor(load_recipe(opened), opened.path, size, flip=flip)


def load_recipe(checkpoint: Checkpoint | Path, recipe_class: type[AnyRecipe] | None = None) -> AnyRecipe:
    """Load a trained recipe: its networks with their weights, and the code of its training.

    checkpoint: an opened checkpoint, the path of a checkpoint, or a run's folder (the best checkpoint, or else the
        last).
    recipe_class: your own subclass that trained it; None takes the class of the recipe.

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
