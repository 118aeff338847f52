"""The state of a training: weights, optimizer, position in the data, random numbers. How it is saved and restored."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import stadia.process.torchvision_shim  # noqa: F401

# isort: split
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from stadia.core import seeds
from stadia.core.errors import CheckpointError, summarize_exception
from stadia.core.types import Batch
from stadia.losses.loss_report import LossReport
from stadia.training import optim
from stadia.training.batches import BatchStream
from stadia.training.best_checkpoint import ValidationScore
from stadia.training.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from stadia.training.compilation import compile_recipe
from stadia.training.config import TrainingConfig
from stadia.training.phase_clock import TimeLimit
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run


class TrainingState:
    """A recipe on its devices with its optimizer, and the position of its training.

    step: updates made.  batch, report: the latest training batch and its loss; report is None between batches.
    losses: of the batches of the latest update, on the device.  batch_losses: the same as numbers.
    gradient_norm, lr: of the latest update; () before clipping.
    metrics: means of the latest validation by name, `val/NAME`, equal in all processes.  best: of the best validation.
    start_score: name and value of the score that chooses `best`, of the weights that the training started from.
    best_score, last_score: that score of the best and of the latest validation, by sample.

    Args:
        fabric: launched.
        run: the folder for checkpoints, and the seed.
        batches: the training stream.
    """

    def __init__(
        self, fabric: Fabric, run: Run, recipe: AnyRecipe, batches: BatchStream, config: TrainingConfig
    ) -> None:
        self.fabric, self.run, self.recipe, self.config = fabric, run, recipe, config
        self.batches, self.plan = batches, batches.plan
        self.time_limit = TimeLimit(config.max_minutes)
        self.model = fabric.setup_module(StepForward(recipe))  # before the optimizer: it may replace the weights
        compile_recipe(recipe, config.compile)
        optimizer = optim.build_optimizer(recipe, recipe.config.optimizer, recipe.parameter_groups())
        self.learning_rate = optim.LearningRate(optimizer, recipe.config.schedule, self.plan)
        self.optimizer = fabric.setup_optimizers(optimizer)
        self.scaler = getattr(fabric.strategy.precision, "scaler", None)  # of gradients, in fp16 alone
        recipe.plan, recipe.optimizer, recipe.rank = self.plan, optimizer, fabric.global_rank
        self.step, self.lr, self.gradient_norm = 0, 0.0, torch.zeros(())
        self.losses: list[optim.BatchLoss] = []
        self.batch_losses: list[float] = []
        self.batch: Batch[Any, Any] | None = None
        self.report: LossReport | None = None
        self.metrics: dict[str, float] = {}
        self.unscored: dict[str, tuple[int, int]] = {}  # of the latest validation: samples without a score, and all
        self.best: float | None = None
        self.start_score: tuple[str, float] | None = None
        self.best_score: ValidationScore | None = None
        self.last_score: ValidationScore | None = None
        self.generators: dict[str, Tensor] | None = None  # of a resumed training, until it starts

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the weights alone, see `training.sharding`."""
        return self.config.strategy == "fsdp"

    @property
    def is_finished(self) -> bool:
        """Whether all steps are made, or the time is over."""
        return self.step >= self.plan.total_steps or self.time_limit.is_over

    @property
    def is_worse_than_start(self) -> bool:
        """Whether no validation scored better than the weights that the training started from."""
        return self.start_score is not None and self.best is not None and not self.best < self.start_score[1]

    def forward(self, step_name: Literal["training_step", "validation_step"], batch: Batch[Any, Any]) -> Any:
        """Return what a step of the recipe returns, run under autocast and as the forward of the distributed module."""
        steps: StepForward = self.model.module
        steps.batch = batch
        self.model(step_name)
        result, steps.result, steps.batch = steps.result, None, None
        return result

    def any_process(self, flag: bool) -> bool:
        """Return whether the flag is set in any process. Called by all."""
        if self.fabric.world_size == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum"))

    def largest_of_processes(self, value: float) -> float:
        """Return the largest value of all processes. Called by all."""
        if self.fabric.world_size == 1:
            return value
        return float(self.fabric.all_reduce(torch.tensor(value, device=self.fabric.device), reduce_op="max"))

    def save(self, name: str, kind: Literal["training", "weights"]) -> None:
        """Save a checkpoint. Called by all processes."""
        metrics = {name: value for name, value in self.metrics.items() if math.isfinite(value)}
        position = {"step": self.step, "epoch": self.plan.epoch_of(self.step)}
        recipe, config = self.recipe.recipe, self.run.config
        header = CheckpointHeader(recipe=recipe, config=config, kind=kind, metrics=metrics, **position)
        state = self.state_dict() if kind == "training" else {"state_dict": self.recipe.state_dict()}
        if self.fabric.is_global_zero:
            write_checkpoint(self.run.checkpoints / f"{name}.safetensors", header, state)
        self.fabric.barrier()

    def state_dict(self) -> dict[str, Any]:
        """Return what exact resume needs. Called by all processes."""
        return {
            "state_dict": self.recipe.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # of the gradient scaler
            "step": self.step,
            "spent_s": self.time_limit.spent_s,
            "best": self.best,
            "start_score": self.start_score and list(self.start_score),
            "best_score": self.best_score and [self.best_score.name, self.best_score.step, self.best_score.value],
            "metrics": self.metrics,
            "random": {name: self.gather(state) for name, state in seeds.capture_generators().items()},
            "recipe": self.recipe.training_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in all processes."""
        self.recipe.load_state_dict(state["state_dict"])
        self.recipe.load_training_state(state["recipe"])
        self.optimizer.load_state_dict(state["optimizer"])
        optim.follow_restored_update(self.optimizer.optimizer)
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step = self.recipe.global_step = state["step"]
        self.batches.position = self.step * self.plan.grad_accumulation_steps
        self.best, self.metrics = state["best"], state["metrics"]
        start, best = state.get("start_score"), state.get("best_score")  # checkpoints of earlier versions have none
        self.best_score = None if best is None else ValidationScore(str(best[0]), int(best[1]), float(best[2]))
        self.start_score = None if start is None else (str(start[0]), float(start[1]))
        self.time_limit.restore(state["spent_s"])
        self.learning_rate.set(self.step, self.time_limit.share)
        self.generators = {name: states[self.fabric.global_rank] for name, states in state["random"].items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, in all processes. Raises CheckpointError where its state does not fit."""
        state = checkpoint.state()
        try:
            self.load_state_dict(state)
            self._check_restored(checkpoint.header.step)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            found = f"a training state that does not fit ({summarize_exception(error)})"
            expected, fix = "the training state of this run", "use another checkpoint of the run, or train again"
            raise CheckpointError(checkpoint.path, found=found, expected=expected, fix=fix) from error

    def _check_restored(self, step: int) -> None:
        """Raise ValueError where the state is of another step, or of other parameters or random generators."""
        if self.step != step or not 0 <= self.step <= self.plan.total_steps:
            raise ValueError(f"step {self.step}, where the header has {step} of {self.plan.total_steps}")
        if type(self.time_limit.spent_s) is not float or not 0 <= self.time_limit.spent_s < math.inf:
            raise ValueError(f"{self.time_limit.spent_s!r} s spent")
        for parameter, values in self.optimizer.state.items():
            if wrong := [name for name, one in values.items() if _has_other_shape(one, parameter)]:
                raise ValueError(f"'{wrong[0]}' of the optimizer in another shape than its parameter")
        now = seeds.capture_generators()
        if self.generators is None or self.generators.keys() != now.keys():
            raise ValueError("other random generators")
        for name, one in self.generators.items():
            if one.dtype != now[name].dtype or one.shape != now[name].shape:
                raise ValueError(f"a state of random generator '{name}' in another shape")

    def gather(self, state: Tensor) -> Tensor:
        """Return (world_size, ...) the state of every process, by rank."""
        if self.fabric.world_size == 1:
            return state[None]
        mine = state.to(self.fabric.device)
        states = [torch.empty_like(mine) for _ in range(self.fabric.world_size)]
        torch.distributed.all_gather(states, mine)
        return torch.stack(states).cpu()


def _has_other_shape(value: Any, parameter: Tensor) -> bool:
    """Return whether a value of the optimizer's state is a tensor, no scalar, and of another shape."""
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape != parameter.shape


class StepForward(nn.Module):
    """Run a step of a recipe as the forward of a module, through which DistributedDataParallel synchronizes.

    Batch and result are attributes, since Fabric would convert the precision of arguments and results.
    """

    def __init__(self, recipe: AnyRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.batch: Batch[Any, Any] | None = None
        self.result: Any = None

    def forward(self, step_name: str) -> Tensor | None:
        self.result = getattr(self.recipe, step_name)(self.batch)
        return self.result.total if step_name == "training_step" else None


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode; afterwards each of its modules has the mode that it had (some are frozen)."""
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for one, training in modes:
            one.training = training
