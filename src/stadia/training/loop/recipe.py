"""The base class of every recipe: networks, loss, data."""

import math
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from rich.console import Console
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import TypeVar

from stadia.core.errors import ConfigError, NotFiniteError, RunError
from stadia.core.types import Camera, Predictor
from stadia.differentiable.batch import Batch, InputsT, Meta, TargetsT
from stadia.differentiable.torch_state import choose_matrix_products
from stadia.io.input_files import find_private_folder
from stadia.io.run_facts import RecipeFacts
from stadia.losses.loss_report import LossReport
from stadia.training.loop import OPTIMIZERS, SCHEDULES
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig
from stadia.training.loop.run_folder import Run

Groups = list[dict[str, Any]]


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
        self.rank = 0  # rank of this process

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
        """Run before each training batch, in every process; by default do nothing."""

    def parameter_groups(self) -> Groups:
        """Return the groups for the optimizer, every trainable parameter once."""
        return group_parameters(self.parameters(), self.config.optimizer.weight_decay)

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
        """Return its losses by name on scenes whose minimum is known (`LossCase`).

        batch: a batch of the training.
        """
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
        # The array API looks up the library of an array in a cache, which the compiler may trace through.
        warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
        recipe.compile_loss(**options)


def keep_compiled_code_private() -> None:
    """Let torch keep compiled code in a private folder of the user, not in a shared one in /tmp."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = find_private_folder("torch-compiled") or tempfile.mkdtemp(prefix="stadia-compiled-")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


SAMPLE_SIZE = 4096
"""This many values of each weight measure the size of an update."""


# -- optimizers --------------------------------------------------------------------------------------------------------


def adam(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Adam (arXiv 1412.6980); weight decay is added to the gradient."""
    return torch.optim.Adam(groups, lr=config.lr, betas=config.betas, fused=has_fused_update(groups))


def adamw(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Adam with decoupled weight decay (arXiv 1711.05101)."""
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=has_fused_update(groups))


def sgd(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Gradient descent, with Nesterov's momentum unless it is 0."""
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


FUSED_DEVICES = ("cpu", "cuda")


def has_fused_update(groups: Groups) -> bool | None:
    """Return True if Adam can update each weight in one fused operation; None leaves the choice to torch."""
    is_supported = all(weight.device.type in FUSED_DEVICES for group in groups for weight in group["params"])
    return True if is_supported else None


def group_parameters(parameters: Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Return two groups: weights with decay, and biases and normalization layers without."""
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def check_groups(module: nn.Module, groups: Groups) -> None:
    """Raise RunError unless the groups have every trainable parameter of the module once, and nothing else."""
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    keys = [id(p) for group in groups for p in group["params"]]
    wrong = [f"'{name}' left out" for key, name in names.items() if key not in keys]
    counts = Counter(keys)
    wrong += [f"'{names[key]}' {count} times" for key, count in counts.items() if key in names and count > 1]
    wrong += ["a parameter of another module" for key in counts if key not in names]
    if wrong or not names:
        found = "; ".join(wrong[:3]) + f"; and {len(wrong) - 3} more" * (len(wrong) > 3)
        expected = "each trainable parameter of the model exactly once in the groups of the recipe"
        raise RunError("optimizer", found=found or "no trainable parameter", expected=expected)


def build_optimizer(module: nn.Module, config: OptimizerConfig, groups: Groups | None = None) -> Optimizer:
    """Return the optimizer of a module."""
    groups = group_parameters(module.parameters(), config.weight_decay) if groups is None else groups
    check_groups(module, groups)
    optimizer: Optimizer = OPTIMIZERS.load(config.name)(groups, config)
    return optimizer


# -- learning rate -----------------------------------------------------------------------------------------------------


# A schedule is a factor of the learning rate of update number `update` (from 0), counted from the end of the warm-up.


def constant(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """Return 1 from the first step to the last."""
    return 1.0


def step(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """Return `gamma` to the power of passed milestones; the update after a milestone is the first with the new rate."""
    return config.gamma ** sum(update >= milestone for milestone in milestone_steps)


def cosine(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """Return half a cosine from 1 to final_factor (SGDR, arXiv 1608.03983, eq. 5, one period)."""
    progress = min(update / max(total_steps, 1), 1.0)
    return config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def compute_lr_factor(step: int, config: ScheduleConfig, *, total_steps: int, steps_per_epoch: float) -> float:
    """Return the factor of `optimizer.lr` for update number `step` (from 0): the warm-up, then the schedule.

    The warm-up gives 1/n, 2/n, ... 1. A warm-up at a later epoch multiplies the schedule there.
    """
    start = round(config.warmup_from_epoch * steps_per_epoch)
    warmup = config.warmup_steps if start == 0 else 0
    if step < warmup:
        return (step + 1) / warmup
    is_warming = start > 0 and start <= step < start + config.warmup_steps
    ramp = (step - start + 1) / config.warmup_steps if is_warming else 1.0
    unit = total_steps if config.milestones_in == "fractions" else steps_per_epoch
    milestones = tuple(milestone * unit - warmup for milestone in config.milestones)
    schedule: Callable[..., float] = SCHEDULES.load(config.name)
    of_schedule = schedule(step - warmup, config=config, total_steps=total_steps - warmup, milestone_steps=milestones)
    return ramp * of_schedule


class LearningRate:
    """Set the learning rate of each update: the rate of the parameter group, times schedule and stage.

    It depends on the step, and on the time with `training.max_minutes`. A group with `from_step` waits for that step.
    """

    def __init__(self, optimizer: Optimizer, config: ScheduleConfig, plan: TrainingPlan) -> None:
        self.optimizer, self.config, self.plan = optimizer, config, plan
        self.of_groups = [group["lr"] for group in optimizer.param_groups]
        self.set(0)

    @property
    def value(self) -> float:
        """Return the rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set(self, step: int, time_share: float = 0.0) -> None:
        """Set the rate of update number `step`, from 0.

        time_share: share of the training's time that is over; the schedule is at least that far.
        """
        total_steps, steps_per_epoch = self.plan.total_steps, self.plan.steps_per_epoch
        scheduled_step = max(step, int(time_share * total_steps)) if step >= self.config.warmup_steps else step
        scheduled = compute_lr_factor(
            scheduled_step, self.config, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        for group, lr in zip(self.optimizer.param_groups, self.of_groups, strict=True):
            is_held = step < group.get("from_step", 0)
            group["lr"] = 0.0 if is_held else lr * (self.plan.lr_factor(step) * scheduled)


# -- updates -----------------------------------------------------------------------------------------------------------


class UpdateRatio:
    """Measure |update| / |weight| of one update: `measure_before`, `measure_after`.

    It is about 1e-3 in a healthy training. Only weights with two axes or more count.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[nn.Parameter, Tensor]] = []

    def measure_before(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keep a sample of the weights that have a gradient."""
        self._kept = [(p, sample_values(p).clone()) for p in parameters if p.ndim > 1 and p.grad is not None]

    def measure_after(self) -> Tensor | None:
        """Return the ratio () over all samples together, or None, without waiting for a device."""
        kept, self._kept = self._kept, []
        if not kept:
            return None
        moved = torch.stack([(sample_values(p) - was).float().norm() for p, was in kept]).norm()
        size = torch.stack([was.float().norm() for _, was in kept]).norm()
        return moved / size.clamp(min=torch.finfo(torch.float32).tiny)


def sample_values(weight: Tensor) -> Tensor:
    """Return about SAMPLE_SIZE values (n,) of a weight.

    Their distance and number share no divisor, because the sample might otherwise be one corner of each 3x3 kernel.
    """
    flat = weight.detach().flatten()
    distance = max(flat.numel() // SAMPLE_SIZE, 1)
    while math.gcd(distance, flat.numel()) > 1:
        distance -= 1
    return flat[::distance]


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a batch on its device, and the cause if it is not finite.

    total: (), float32.
    terms: () each, by name.
    sample_sums: (B,) of all maps.
    meta: origins of the B samples.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    sample_sums: Tensor
    meta: tuple[Meta, ...]

    @classmethod
    def from_report(cls, report: LossReport, meta: tuple[Meta, ...]) -> "BatchLoss":
        """Return the numbers of a report without its maps, and without waiting for a device."""
        sums = torch.zeros(len(meta), device=report.total.device)
        for values in report.maps.values():
            if values.shape[:1] == sums.shape:
                sums = sums + values.detach().reshape(len(meta), -1).sum(1, dtype=torch.float32)
        terms = {name: value.clone() for name, value in report.terms.items()}  # CUDA graphs reuse their outputs
        return cls(report.total.detach().float().clone(), terms, sums, meta)

    @property
    def samples(self) -> tuple[str, ...]:
        """Return "RECORDING INDEX" of each sample."""
        return tuple(f"{meta.recording} {meta.index}" for meta in self.meta)


def explain_loss(loss: BatchLoss, step: int) -> NotFiniteError:
    """Return an error that names the terms, and the samples if the maps show them."""
    terms = [name for name, value in loss.terms.items() if not torch.isfinite(value).all()]
    broken = (~torch.isfinite(loss.sample_sums)).tolist()
    samples = [name for name, is_broken in zip(loss.samples, broken, strict=True) if is_broken] or loss.samples
    found = f"{loss.total.item()} (terms: {', '.join(terms) or 'all finite'}; samples: {', '.join(samples)})"
    fix = "look at these samples with `stadia check`, or lower optimizer.lr"
    return NotFiniteError(f"loss of step {step}", found=found, expected="a finite loss", fix=fix)


def explain_gradient(module: nn.Module, norm: float, step: int) -> NotFiniteError:
    """Return an error that names the parameters."""
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    broken = [name for name, grad in gradients.items() if not torch.isfinite(grad).all()]
    found = f"{norm} in {len(broken)} parameters, first '{broken[0] if broken else 'none alone'}'"
    fix = "lower optimizer.lr, or find the division or square root at 0 in the loss"
    return NotFiniteError(f"gradient of step {step}", found=found, expected="a finite gradient", fix=fix)
