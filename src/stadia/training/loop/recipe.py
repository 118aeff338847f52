"""The base class of every recipe: networks, loss, data."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from rich.console import Console
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import TypeVar

from stadia.core.errors import ConfigError
from stadia.core.matrix_products import choose_matrix_products
from stadia.core.types import Batch, Camera, InputsT, Predictor, TargetsT
from stadia.io.input_files import find_private_folder
from stadia.io.run_facts import RecipeFacts
from stadia.losses.loss_report import LossReport
from stadia.training.loop import optim
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig
from stadia.training.loop.run_folder import Run


class HasOptimizer(Protocol):
    """The part of a recipe's configuration that the training loop reads."""

    @property
    def optimizer(self) -> OptimizerConfig:
        """Return the optimizer's configuration."""

    @property
    def schedule(self) -> ScheduleConfig:
        """Return the configuration of the learning-rate schedule."""


ConfigT = TypeVar("ConfigT", bound=HasOptimizer)
DataT = TypeVar("DataT")


class Recipe(nn.Module, Generic[ConfigT, DataT, InputsT, TargetsT]):
    """A module that opens its data, trains on it and predicts. Subclass it and define `training_step`.

    `Recipe[MyConfig, MyData]` trains on batches of video; `Recipe[MyConfig, MyData, MyInputs, MyTargets]` on its own.

    recipe: its name, written into checkpoints.
    best_metrics: the first of these in a validation chooses the best checkpoint, lower is better. They must not depend
        on the weights of the loss. Empty: the last checkpoint counts.
    supports_stages: `training.stages` may train it at several sizes.
    compatible_recipes: other recipes whose checkpoints `start_from` accepts.
    base_recipe: the recipe that it adds losses to, whose values are logged under this name.
    data_buffers: buffers that describe the training data; `start_from` does not copy them.
    own_values: numbers, flags and short texts of your own class, for run.json and `stadia compare`.
    """

    recipe: ClassVar[str]
    best_metrics: ClassVar[tuple[str, ...]] = ()
    supports_stages: ClassVar[bool] = False
    compatible_recipes: ClassVar[tuple[str, ...]] = ()
    base_recipe: ClassVar[str] = ""
    data_buffers: ClassVar[tuple[str, ...]] = ()
    own_values: ClassVar[Mapping[str, bool | int | float | str]] = {}

    def __init__(self, config: ConfigT) -> None:
        super().__init__()
        choose_matrix_products()
        self.config = config
        self.started_from = ""  # checkpoint of its start weights
        self.resumed_pretrained = False  # the resumed training started from published weights, if available
        self.start_steps = 0.0  # updates that made these weights, with those of their own starts
        self.found: list[Any] = []  # findings of the recipe; the training monitors collect them
        # Set by the training loop:
        self.plan: TrainingPlan | None = None
        self.optimizer: Optimizer | None = None
        self.global_step = 0  # updates made
        self.rank = 0  # of this process

    def keeps_start(self, metric: str) -> bool:
        """Return whether the start is the best checkpoint until another has a better score `metric`."""
        return False

    @property
    def last_step(self) -> int:
        """Return the last step of the training; 0 without one."""
        return self.plan.total_steps if self.plan else 0

    # -- training ------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch[InputsT, TargetsT]) -> LossReport:
        """Return the loss of a batch. With "bf16" and "fp16", runs under autocast."""
        raise NotImplementedError(f"{type(self).__name__} defines no training_step")

    def on_batch_start(self) -> None:
        """Prepare each training batch, in all processes."""

    def parameter_groups(self) -> optim.Groups:
        """Return the groups for the optimizer, every trainable parameter once."""
        return optim.group_parameters(self.parameters(), self.config.optimizer.weight_decay)

    def modules_to_compile(self) -> Iterable[nn.Module]:
        """Return the modules that `training.compile` compiles; by default the parts of its networks."""
        parts = [part for network in self.children() for part in network.children()]
        return [part for part in parts if any(weight.requires_grad for weight in part.parameters())]

    def compile_loss(self, **options: Any) -> None:
        """Compile the loss with these options of torch.compile; by default nothing."""

    def change_loss_config(self, changes: Mapping[str, Any]) -> Any:
        """Return the configuration `loss` with other values by key.

        Raises ConfigError for a recipe without one, or for refused values.
        """
        current = getattr(self.config, "loss", None)
        if not isinstance(current, BaseModel):
            found, fix = f"a recipe without the configuration 'loss', {self.recipe}", "leave training.finish.loss out"
            raise ConfigError("training.finish.loss", found=found, expected="a recipe with it", fix=fix)
        try:
            return type(current).model_validate({**current.model_dump(), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            key, what = ".".join(map(str, first["loc"])), first["msg"]
            fix = "see the keys of `loss` of this recipe"
            raise ConfigError(f"training.finish.loss.{key}", found=what, expected="a key of `loss`", fix=fix) from error

    def change_loss(self, changes: Mapping[str, Any]) -> None:
        """Compute the loss with other values of the configuration `loss` from now on."""
        loss: Any = getattr(self, "loss", None)
        self.loss = type(loss)(self.change_loss_config(changes))

    def images(self, batch: Batch[InputsT, TargetsT], report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """Return (H, W, 3) RGB images by label, drawn on the image sheet of a step."""
        return {}

    def training_state(self) -> dict[str, Any]:
        """Return the state that exact resume needs beyond weights and buffers. Called by all processes."""
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `training_state` returned."""

    # -- validation ----------------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Reset accumulated values before the first batch of a validation."""

    def validation_step(self, batch: Batch[InputsT, TargetsT]) -> Mapping[str, Tensor | float]:
        """Return scores of a validation batch by name: (B,), NaN for a sample without a score, or () for a batch mean.

        `val/NAME` is logged: the mean over the samples of the set and all processes, without NaN.
        """
        report = self.training_step(batch)
        return {"loss": report.total, **{f"term/{name}": value for name, value in report.terms.items()}}

    def validation_summary(self) -> Mapping[str, float]:
        """Return scores of the whole validation set that are not means over samples, such as a median.

        All processes call it after the last batch, and must return the same.
        """
        return {}

    def describe_score(self, name: str) -> str:
        """Return the printed name of a score `val/NAME`."""
        return name.removeprefix("val/")

    def validation_images(self) -> Mapping[str, NDArray[np.uint8]]:
        """Return (H, W, 3) RGB images by name of a finished validation. Called in the main process only."""
        return {}

    # -- data and weights before a training ----------------------------------------------------------------------------

    @classmethod
    def prepare(cls, config: ConfigT, console: Console) -> tuple[ConfigT, DataT]:
        """Open the data; return the configuration with every "auto" of it resolved. Raises DataError, ConfigError.

        Refuse what cannot work before anything is decoded.
        """
        raise NotImplementedError(f"{cls.__name__} opens no data")

    @classmethod
    def check_init_weights(cls, config: ConfigT) -> None:
        """Raise CheckpointError if the initial weights of a new training are missing."""

    def save_data_stats(self, data: DataT) -> None:
        """Store in buffers the facts of the training data that prediction needs, before training."""

    @property
    def weights(self) -> Mapping[str, str]:
        """Return the start of each network by name: "random", or "pretrained" and its source."""
        return {}

    @property
    def run_metadata(self) -> RecipeFacts:
        """Return facts of the recipe for run.json, written before training."""
        return RecipeFacts()

    def depth_range_m(self, camera: Camera) -> tuple[float, float] | None:
        """Return nearest and farthest depth that it can predict for a camera; None without bounds."""
        return None

    def loss_cases(self, batch: Batch[InputsT, TargetsT]) -> Mapping[str, Any]:
        """Return its losses by name on scenes whose minimum is known (`LossCase`). batch: one of the training."""
        return {}

    # -- a trained recipe ----------------------------------------------------------------------------------------------

    def predictor(self, size: tuple[int, int] | None = None) -> Predictor | None:
        """Return a predictor of depth and motion; None if the recipe predicts no depth.

        size: (height, width) to run at; by default the training's. Raises ConfigError for an unsupported one.
        """
        return None

    def finish_training(self, run: Run, console: Console) -> None:
        """Record facts of the trained recipe, with its best weights, before validation data are scored."""


AnyRecipe = Recipe[Any, Any, Any, Any]


# -- torch.compile, by `training.compile` ------------------------------------------------------------------------------

COMPILED_PARTS: dict[str, frozenset[str]] = {
    "off": frozenset(),
    "loss": frozenset({"loss"}),
    "networks": frozenset({"networks"}),
    "all": frozenset({"loss", "networks"}),
    "graphs": frozenset({"loss", "networks"}),
}
"""Each value of `training.compile` compiles these parts."""


def compile_recipe(recipe: AnyRecipe, kind: str) -> None:
    """Compile a recipe in place. Names of weights, hooks and checkpoints stay.

    The first batch of each image size compiles, which takes a minute or more; the code is kept on disk.

    kind: a value of `training.compile` but "auto".
    """
    parts = COMPILED_PARTS[kind]
    if parts:
        keep_compiled_code_private()
    options: dict[str, Any] = {"dynamic": False}
    if kind == "graphs":
        options["mode"] = "reduce-overhead"
    if "networks" in parts:
        for module in recipe.modules_to_compile():
            module.compile(**options)
    if "loss" in parts:
        recipe.compile_loss(**options)


def keep_compiled_code_private() -> None:
    """Let torch keep compiled code in a private folder of the user, not in a shared one in /tmp."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = find_private_folder("torch-compiled") or tempfile.mkdtemp(prefix="stadia-compiled-")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
