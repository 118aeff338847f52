"""Save and restore the state of a training: weights, optimizer, position in the data, random numbers."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import stadia.core.torchvision_operators  # noqa: F401

# isort: split
import statistics
from collections import deque

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stadia.core import seeds
from stadia.core.errors import CheckpointError, summarize_exception
from stadia.core.types import Batch
from stadia.io.run_facts import TrainingTimes
from stadia.losses.loss_report import LossReport
from stadia.training.loop.batches import BatchStream, TrainingPlan
from stadia.training.loop.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from stadia.training.loop.config import OptimizerConfig, TrainingConfig
from stadia.training.loop.processes import use_global_batch_norm
from stadia.training.loop.recipe import AnyRecipe, BatchLoss, Groups, LearningRate, build_optimizer, compile_recipe
from stadia.training.loop.run_folder import Run


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has finished its queue; a CPU has none."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.device(device).type == "mps":
        torch.mps.synchronize()


KEPT_STEPS = 1000
"""The medians are over this many last steps."""

WARM_UP = 3
"""Kernels are chosen and compiled in these steps of each stage, so they enter no median."""


class Stopwatch:
    """Book the time between two marks to a phase.

    On CUDA a mark is an event in the GPU's queue; elsewhere it is the processor's clock.

    totals: seconds by phase since the start, of past events.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.totals: dict[str, float] = {}
        self.steps: deque[dict[str, float]] = deque(maxlen=KEPT_STEPS)
        self._pending: deque[tuple[str | None, Any]] = deque()
        self._step: dict[str, float] = {}
        self._lapped: dict[str, float] = {}
        self._last = self._now()

    def _now(self) -> Any:
        if self.device.type != "cuda":
            synchronize(self.device)
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def mark(self, phase: str) -> None:
        """Book the time since the last mark to this phase."""
        self._pending.append((phase, self._now()))
        if self.device.type != "cuda":
            self._settle()

    def end_step(self, keep: bool = True) -> None:
        """End a step. `keep`: its phases enter the medians."""
        self._pending.append(("" if keep else None, None))
        self._settle()

    def _settle(self) -> None:
        while self._pending:
            phase, moment = self._pending[0]
            if moment is None:
                if phase is not None:
                    self.steps.append(self._step)
                self._step = {}
            elif self.device.type == "cuda" and not moment.query():
                return
            else:
                assert phase is not None
                seconds = self._last.elapsed_time(moment) / 1e3 if self.device.type == "cuda" else moment - self._last
                self._last = moment
                self.totals[phase] = self.totals.get(phase, 0.0) + seconds
                self._step[phase] = self._step.get(phase, 0.0) + seconds
            self._pending.popleft()

    def settle(self) -> None:
        """Count all marks. Waits for the device."""
        synchronize(self.device)
        self._settle()

    def lap(self) -> dict[str, float]:
        """Return seconds by phase since the last lap. Waits for the device."""
        self.settle()
        lapped, self._lapped = self._lapped, dict(self.totals)
        return {phase: seconds - lapped.get(phase, 0.0) for phase, seconds in self.totals.items()}

    def forget_steps(self) -> None:
        """Forget the measured steps, so that the medians start again. Waits for the device."""
        self.settle()
        self.steps.clear()

    def medians(self) -> dict[str, float]:
        """Return the median of a step by phase."""
        phases = dict.fromkeys(phase for step in self.steps for phase in step)
        return {phase: statistics.median(step.get(phase, 0.0) for step in self.steps) for phase in phases}


class PhaseClock:
    """Measure the phases of every step of a training loop.

    forward: the recipe's networks with trainable weights.  loss: the rest of `training_step`.
    metrics: scalars, histograms, monitors.  other: the loop between them.

    steps, wall_s, phases_s: totals, including parts before a resume.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan = plan
        self.stopwatch = Stopwatch()
        self.steps = 0
        self.new_steps = 0  # number of steps since the last resume
        self.wall_s_before = 0.0
        self.phases_s_before: dict[str, float] = {}
        self.started_s = time.perf_counter()
        self.hooks: list[RemovableHandle] = []
        self.in_step = False  # whether the recipe computes: from loading to backward
        self.stage, self.steps_of_stage = -1, 0

    @property
    def wall_s(self) -> float:
        """Return the seconds of the training, without stops."""
        return self.wall_s_before + time.perf_counter() - self.started_s

    @property
    def phases_s(self) -> dict[str, float]:
        """Return the seconds of each phase; they add up to `wall_s`."""
        phases = dict.fromkeys([*self.phases_s_before, *self.stopwatch.totals])
        return {name: self.phases_s_before.get(name, 0.0) + self.stopwatch.totals.get(name, 0.0) for name in phases}

    def start(self, device: torch.device, recipe: nn.Module) -> None:
        """Start, and mark the forward of each network by hooks."""
        self.stopwatch, self.started_s = Stopwatch(device), time.perf_counter()
        for network in recipe.children():
            if any(p.requires_grad for p in network.parameters()):
                self.hooks.append(network.register_forward_pre_hook(lambda *_: self._mark_in_step("loss")))
                self.hooks.append(network.register_forward_hook(lambda *_: self._mark_in_step("forward")))

    def state_dict(self) -> dict[str, Any]:
        """Return the times that a resumed training continues from. Waits for the device."""
        self.stopwatch.settle()
        return {"steps": self.steps, "wall_s": self.wall_s, "phases_s": self.phases_s}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the times of a checkpoint."""
        self.steps = int(state["steps"])
        self.wall_s_before = float(state["wall_s"])
        self.phases_s_before = {str(name): float(seconds) for name, seconds in state["phases_s"].items()}

    def _mark_in_step(self, phase: str) -> None:
        if self.in_step:
            self.mark(phase)

    def mark(self, phase: str) -> None:
        """Book the time since the last mark to this phase."""
        self.stopwatch.mark(phase)

    def begin_batch(self, step: int) -> None:
        """Begin a batch that is on the device.

        step: updates made before it.
        """
        self.mark("loading")
        stage = self.plan.place(step * self.plan.grad_accumulation_steps).phase
        if stage != self.stage:
            self.stage, self.steps_of_stage = stage, 0
            self.stopwatch.forget_steps()  # Steps at another image size or batch size take another time.
        self.in_step = True

    def end_backward(self) -> None:
        """End the computation of a batch."""
        self.mark("backward")
        self.in_step = False

    def end_step(self) -> None:
        """End a step."""
        self.steps += 1
        self.new_steps += 1
        self.steps_of_stage += 1
        self.stopwatch.end_step(keep=self.steps_of_stage > WARM_UP)

    def lap(self) -> dict[str, float]:
        """Return seconds by phase since the last lap."""
        self.mark("metrics")
        return self.stopwatch.lap()

    def release(self) -> None:
        """Remove the hooks."""
        while self.hooks:
            self.hooks.pop().remove()

    def measure(self) -> TrainingTimes:
        """Return the times of the training."""
        self.stopwatch.settle()
        return TrainingTimes(
            device=self.stopwatch.device.type,
            threads=torch.get_num_threads(),
            steps=self.steps,
            wall_s=self.wall_s,
            phases_s=self.phases_s,
            step_s=self.stopwatch.medians(),
        )


def describe_times(times: TrainingTimes) -> str:
    """Return `time: forward 31 %, backward 40 %, ... of 63 s`, the largest first."""
    shares = [(seconds / times.wall_s, name) for name, seconds in times.phases_s.items() if times.wall_s > 0]
    listed = ", ".join(f"{name} {share:.0%}" for share, name in sorted(shares, reverse=True) if share >= 0.01)
    return f"time: {listed} of {times.wall_s:.1f} s"


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
        end: "CommandEnd | None" = None,
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
            "random": {name: self.gather(state) for name, state in seeds.capture_generators().items()},
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
            if self.generators.keys() != seeds.capture_generators().keys():
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


@dataclass(frozen=True)
class CommandEnd:
    """The end of a command by the clock.

    at_s: the time by time.perf_counter, seconds.
    after_s: seconds of the command after its training's steps.
    """

    at_s: float
    after_s: float


class TimeLimit:
    """The time limit of a training (`training.max_minutes`): its steps count, validations and checkpoints do not.

    With the end of a command the clock counts: the steps end early enough for the rest, at their latest pace.

    share: share of the time that is over, equal in all processes; 0 without a limit.
    """

    def __init__(self, minutes: float | None, end: CommandEnd | None = None) -> None:
        self.limit_s = None if minutes is None else 60 * minutes
        self.end = end
        self.spent_s = 0.0
        self.begun_s = self.since_s = time.perf_counter()
        self.share = 0.0

    @property
    def is_over(self) -> bool:
        """Return whether the time is over; the latest step is the last then."""
        return self.share >= 1

    @property
    def left_s(self) -> float:
        """Return the seconds that are left for steps; infinite without a limit."""
        if self.end is not None:
            return max(self.end.at_s - self.end.after_s - time.perf_counter(), 0.0)
        return math.inf if self.limit_s is None else max(self.limit_s - self.spent_s, 0.0)

    def restart(self) -> None:
        """Count from now on."""
        self.since_s = time.perf_counter()

    def add_step(self, largest: Callable[[float], float]) -> None:
        """Add the time since the last step, or since `restart`.

        largest: returns the largest value of all processes.
        """
        now_s = time.perf_counter()
        step_s = now_s - self.since_s
        self.spent_s += step_s
        self.since_s = now_s
        if self.end is not None:
            ended_s = now_s + step_s / 2  # half of the last steps end after it, half before
            share = (ended_s - self.begun_s) / max(self.end.at_s - self.end.after_s - self.begun_s, 1e-9)
            self.share = min(max(largest(share), 0.0), 1.0)
        elif self.limit_s is not None:
            self.share = min(largest(self.spent_s / self.limit_s), 1.0)

    def restore(self, spent_s: float) -> None:
        """Continue after so many seconds of a checkpoint."""
        self.spent_s = spent_s
        self.share = 0.0 if self.limit_s is None else min(spent_s / self.limit_s, 1.0)


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
