"""Save and restore the state of a training: weights, optimizer, position in the data, random numbers."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from stadia.core.errors import CheckpointError, summarize_exception
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch
from stadia.losses.loss_report import LossReport
from stadia.training.loop.batches import BatchStream
from stadia.training.loop.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from stadia.training.loop.clock import CommandEnd, PhaseClock, TimeLimit
from stadia.training.loop.config import OptimizerConfig, TrainingConfig
from stadia.training.loop.processes import use_global_batch_norm
from stadia.training.loop.recipe import AnyRecipe, BatchLoss, Groups, LearningRate, build_optimizer, compile_recipe
from stadia.training.loop.run_folder import Run


class BestScore(NamedTuple):
    """The score `val/NAME` of the best checkpoint, after so many updates."""

    name: str
    step: int
    value: float


class TrainingState:
    """A recipe on its devices with its optimizer, and the position of its training.

    step: updates made.  batch, report: the latest training batch and its loss; report is None between batches.
    losses, batch_losses: losses of the latest update's batches, on the device and as numbers.
    gradient_norm, lr: values of the latest update; () before clipping.
    metrics: means of the latest validation, `val/NAME`, equal in all processes.  best: of the best validation.
    start_score: name and value of the start's score that chooses `best`.
    best_score: score of the best checkpoint.

    fabric: launched.
    batches: the training stream.
    end: end of the command that trains, or None.
    """

    def __init__(
        self,
        fabric: Fabric,
        run: Run,
        recipe: AnyRecipe,
        batches: BatchStream,
        config: TrainingConfig,
        clock: PhaseClock,
        end: CommandEnd | None = None,
    ) -> None:
        self.fabric, self.run, self.recipe, self.config = fabric, run, recipe, config
        self.batches, self.plan, self.clock = batches, batches.plan, clock
        self.time_limit = TimeLimit(config.max_minutes, end)
        if config.global_batch_size is not None and fabric.world_size > 1:
            use_global_batch_norm(recipe)
        # Fabric wraps the model before the optimizer is built, because it may replace the weights.
        self.model = fabric.setup_module(StepForward(recipe))
        compile_recipe(recipe, config.compile)
        optimizer = build_optimizer(recipe, recipe.config.optimizer, recipe.parameter_groups())
        self.learning_rate = LearningRate(optimizer, recipe.config.schedule, self.plan)
        self.optimizer = fabric.setup_optimizers(optimizer)
        self.is_finishing = False
        if config.finish is not None and config.finish.loss:
            recipe.change_loss_config(config.finish.loss)  # a wrong key is found before the first step
        # fp16 scales its gradients; other precisions have no scaler.
        self.scaler = getattr(fabric.strategy.precision, "scaler", None)
        recipe.plan, recipe.optimizer, recipe.rank = self.plan, optimizer, fabric.global_rank
        self.step, self.lr, self.gradient_norm = 0, 0.0, torch.zeros(())
        self.losses: list[BatchLoss] = []
        self.batch_losses: list[float] = []
        self.batch: Batch[Any, Any] | None = None
        self.report: LossReport | None = None
        self.metrics: dict[str, float] = {}
        self.unscored: dict[str, tuple[int, int]] = {}  # samples without a score, and all, of the latest validation
        self.best: float | None = None
        self.start_score: tuple[str, float] | None = None
        self.best_score: BestScore | None = None
        self.generators: dict[str, Tensor] | None = None  # random states of a resumed training run, until it starts

    @property
    def finish_step(self) -> int:
        """Return the updates after which `training.finish` applies; all steps without it."""
        finish = self.config.finish
        return self.plan.total_steps if finish is None else max(round(finish.at * self.plan.total_steps), 1)

    def begin_finish(self) -> None:
        """Apply `training.finish`: another optimizer, and another loss."""
        finish, self.is_finishing = self.config.finish, True
        assert finish is not None
        if finish.loss:
            self.recipe.change_loss(finish.loss)
        if finish.optimizer is not None:
            optimizer = build_optimizer(self.recipe, finish.optimizer, self._make_groups(finish.optimizer))
            self.learning_rate = LearningRate(optimizer, self.recipe.config.schedule, self.plan)
            self.learning_rate.set(self.step, self.time_limit.share)
            self.optimizer, self.recipe.optimizer = self.fabric.setup_optimizers(optimizer), optimizer

    def _make_groups(self, config: OptimizerConfig) -> Groups:
        groups, first = self.recipe.parameter_groups(), self.recipe.config.optimizer
        for group in groups:
            if "lr" in group:
                group["lr"] = group["lr"] / first.lr * config.lr
            if group.get("weight_decay"):
                group["weight_decay"] = config.weight_decay
        return groups

    @property
    def is_finished(self) -> bool:
        """Return whether all steps are made, or the time is over."""
        return self.step >= self.plan.total_steps or self.time_limit.is_over

    @property
    def is_worse_than_start(self) -> bool:
        """Return whether no validation scored better than the start."""
        return self.start_score is not None and self.best is not None and not self.best < self.start_score[1]

    def forward(self, step_name: Literal["training_step", "validation_step"], batch: Batch[Any, Any]) -> Any:
        """Return what a step of the recipe returns, run as the forward of the distributed module."""
        steps: StepForward = self.model.module
        steps.batch = batch
        self.model(step_name)
        result, steps.result, steps.batch = steps.result, None, None
        return result

    def any_process(self, flag: bool) -> bool:
        """Return whether the flag is set in any process. Every process must call this."""
        if self.fabric.world_size == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum"))

    def largest_of_processes(self, value: float) -> float:
        """Return the largest value of all processes. Every process must call this."""
        if self.fabric.world_size == 1:
            return value
        return float(self.fabric.all_reduce(torch.tensor(value, device=self.fabric.device), reduce_op="max"))

    def save(self, name: str, kind: Literal["training", "weights"]) -> None:
        """Save a checkpoint. Called by all processes."""
        facts = self.recipe.run_metadata
        header = CheckpointHeader(
            recipe=self.recipe.recipe,
            config=self.run.config,
            kind=kind,
            step=self.step,
            epoch=self.plan.epoch_of(self.step),
            metrics={name: value for name, value in self.metrics.items() if math.isfinite(value)},
            licence=(facts.licence or "")[:200],
            scale_from=(facts.scale_from or "")[:1000],
        )
        state = self.state_dict() if kind == "training" else {"state_dict": self.recipe.state_dict()}
        if self.fabric.is_global_zero:
            write_checkpoint(self.run.checkpoints / f"{name}.safetensors", header, state)
        self.fabric.barrier()

    def state_dict(self) -> dict[str, Any]:
        """Return what exact resume needs. Called by all processes."""
        return {
            "state_dict": self.recipe.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # state of the gradient scaler
            "step": self.step,
            "spent_s": self.time_limit.spent_s,
            "times": self.clock.state_dict(),
            "best": self.best,
            "start_score": self.start_score and list(self.start_score),
            "best_score": self.best_score and list(self.best_score),
            "metrics": self.metrics,
            "random": {name: self.gather(state) for name, state in torch_state.capture_generators().items()},
            "recipe": self.recipe.training_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, in all processes."""
        self.recipe.load_state_dict(state["state_dict"])
        self.recipe.load_training_state(state["recipe"])
        if self.config.finish is not None and state["step"] > self.finish_step:
            self.begin_finish()
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step = self.recipe.global_step = state["step"]
        self.batches.position = self.step * self.plan.grad_accumulation_steps
        self.best = state["best"]
        self.metrics = state["metrics"]
        if state["best_score"] is not None:
            name, step, value = state["best_score"]
            self.best_score = BestScore(str(name), int(step), float(value))
        if state["start_score"] is not None:
            name, value = state["start_score"]
            self.start_score = str(name), float(value)
        self.clock.load_state_dict(state["times"])
        self.time_limit.restore(state["spent_s"])
        self.learning_rate.set(self.step, self.time_limit.share)
        rank = self.fabric.global_rank  # With more processes than before, some continue with equal random numbers.
        self.generators = {name: states[rank % len(states)] for name, states in state["random"].items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, in all processes. Raises CheckpointError if its state does not fit."""
        state = checkpoint.state()
        try:
            self.load_state_dict(state)
            if self.step != checkpoint.header.step or self.generators is None:
                raise ValueError(f"step {self.step}, but {checkpoint.header.step} in the header")
            if self.generators.keys() != torch_state.capture_generators().keys():
                raise ValueError("other random generators")
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            found = f"a training state that does not fit ({summarize_exception(error)})"
            expected, fix = "the training state of this run", "use another checkpoint of the run, or train again"
            raise CheckpointError(checkpoint.path, found=found, expected=expected, fix=fix) from error

    def gather(self, state: Tensor) -> Tensor:
        """Return (world_size, ...) the state of every process, by rank."""
        if self.fabric.world_size == 1:
            return state[None]
        mine = state.to(self.fabric.device)
        states = [torch.empty_like(mine) for _ in range(self.fabric.world_size)]
        torch.distributed.all_gather(states, mine)
        return torch.stack(states).cpu()


class StepForward(nn.Module):
    """Run a step of a recipe as the forward of a module, through which DistributedDataParallel synchronizes.

    Batch and result are attributes, because Fabric would convert the precision of arguments and results.
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
    """Put a module into evaluation mode; restore the mode of each part afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
