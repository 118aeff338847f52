"""The training loop: batch, forward, backward, clip, update, validate, checkpoint, stop. Below it, its callbacks."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
import torch
from lightning_fabric import Fabric

from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch
from stadia.io.run_facts import RunFacts, TrainingTimes
from stadia.training.loop.batches import BatchIterable, BatchStream, ValidationScores
from stadia.training.loop.checkpoint import name_kept_checkpoint
from stadia.training.loop.clock import CommandEnd, PhaseClock
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.recipe import AnyRecipe, BatchLoss, explain_gradient, explain_loss
from stadia.training.loop.run_folder import Run
from stadia.training.loop.training_state import BestScore, TrainingState, evaluation_mode


class TrainingLoop(TrainingState):
    """Train a recipe for all steps of its plan. The attributes are the state of the training, for callbacks.

    times: durations of the phases; None before the end.

    val_batches: the batches of a validation, or None.
    callbacks: called in this order.
    stop_requested: whether a signal, or closed output, requested a stop.
    The others: see `TrainingState`.
    """

    def __init__(
        self,
        fabric: Fabric,
        run: Run,
        recipe: AnyRecipe,
        batches: BatchStream,
        val_batches: BatchIterable | None,
        config: TrainingConfig,
        clock: PhaseClock,
        stop_requested: Callable[[], bool] = lambda: False,
        end: CommandEnd | None = None,
    ) -> None:
        super().__init__(fabric, run, recipe, batches, config, clock, end)
        self.val_batches = val_batches
        self.callbacks: Sequence[Callback] = ()
        self.stop_requested = stop_requested
        self.times: TrainingTimes | None = None

    def train(self) -> None:
        """Train until all steps are made or the time is over. Raises StopRequest if a stop was requested."""
        try:
            self.start()
            if self.step == 0 and self.val_batches is not None:
                self.score_start()
            stream = iter(self.batches)
            while not self.is_finished:
                self.train_step(stream)
                if validates := self.is_validation_due:
                    self.validate()
                self.save_checkpoints(after_validation=validates)
            self.measure_times()
        except BaseException as error:
            self.clock.release()
            for callback in self.callbacks:
                callback.on_exception(self, error)
            raise
        finally:
            for callback in self.callbacks:
                callback.on_train_end(self)

    def score_start(self) -> None:
        """Score the start weights, if they predict; save them if they count as best."""
        if not self.recipe.started_from and not any(map(self.recipe.keeps_start, self.recipe.best_metrics)):
            return
        self.metrics = self.score_validation()
        score = self.find_score(self.metrics)
        is_kept = score is not None and self.recipe.keeps_start(score[0])
        if is_kept:
            self.save_if_best()
        self.start_score = score if is_kept or self.recipe.started_from else None
        self.metrics = {}
        self.time_limit.restart()

    def measure_times(self) -> None:
        """Write the times of the phases into run.json."""
        self.clock.release()
        self.clock.mark("other")
        if not self.run.writes or not self.clock.new_steps:
            return
        times = self.times = self.clock.measure()
        self.run.update_facts(lambda facts: replace(facts, time=times))

    def start(self) -> None:
        """Start the clock and the callbacks, then set the random generators: nothing may draw a number in between."""
        self.clock.start(self.fabric.device, self.recipe)
        self.time_limit.restart()
        self.call("on_train_start")
        if self.generators is None:
            torch_state.seed_generators(self.run.seed, "training", self.fabric.global_rank)
        else:
            torch_state.restore_generators(self.generators)

    def train_step(self, stream: Iterator[Batch[Any, Any]]) -> None:
        """Update the weights once, by the gradients of `grad_accumulation_steps` batches."""
        if self.config.finish is not None and not self.is_finishing and self.step >= self.finish_step:
            self.begin_finish()
        self.optimizer.zero_grad()
        self.losses = []
        if self.config.compile == "graphs":  # the outputs of the last step may be overwritten from here on
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        for number in range(1, self.plan.grad_accumulation_steps + 1):
            is_last = number == self.plan.grad_accumulation_steps
            self.batch = next(stream).to(self.fabric.device, non_blocking=True)
            self.clock.begin_batch(self.step)
            self.recipe.on_batch_start()
            self.call("on_batch_start", is_last)

            with self.fabric.no_backward_sync(self.model, enabled=not is_last):
                self.report = self.forward("training_step", self.batch)
                self.clock.mark("loss")
                self.fabric.backward(self.report.total / self.plan.grad_accumulation_steps)
                self.clock.end_backward()

            self.losses.append(BatchLoss.from_report(self.report, self.batch.meta))
            if is_last:
                self.check_gradients()
                self.update_weights()
            self.clock.mark("optimizer")
            self.call("on_batch_end")
            if is_last:
                self.time_limit.add_step(self.largest_of_processes)  # callbacks find the last step by `is_finished`
                self.call("on_step_end")
            self.report = None  # its maps would stay in memory during the next forward
        self.clock.end_step()
        self.learning_rate.set(self.step, self.time_limit.share)

    def check_gradients(self) -> None:
        """Measure the gradient norm. Raise NotFiniteError before the weights change if it or a loss is not finite.

        All values are read from the device at once. In fp16 the scaler skips an update whose gradient overflows.
        """
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer.optimizer)
        gradients = [p.grad for p in self.recipe.parameters() if p.grad is not None]
        self.gradient_norm = torch.nn.utils.get_total_norm(gradients)
        *self.batch_losses, norm = torch.stack(
            [*(loss.total for loss in self.losses), self.gradient_norm.float()]
        ).tolist()
        for loss, value in zip(self.losses, self.batch_losses, strict=True):
            if not math.isfinite(value):
                raise explain_loss(loss, step=self.step + 1)
        if not math.isfinite(norm) and (self.scaler is None or self.scaler.get_scale() <= 1):
            raise explain_gradient(self.recipe, norm, step=self.step + 1)

    def update_weights(self) -> None:
        """Clip the gradient, and update the weights."""
        self.clock.mark("optimizer")
        self.call("on_before_update")
        if self.config.clip_norm is not None:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(parameters, self.config.clip_norm, self.gradient_norm)
        self.lr = self.learning_rate.value
        self.optimizer.step()
        self.step += 1
        self.recipe.global_step = self.step

    def validate(self) -> None:
        """Score the validation set, between the hooks of the callbacks."""
        self.clock.mark("other")
        self.call("on_validation_start")
        self.metrics = self.score_validation()
        self.call("on_validation_end")
        self.time_limit.restart()

    @torch.no_grad()
    def score_validation(self) -> dict[str, float]:
        """Return the scores of the validation set. Modes and random generators stay."""
        assert self.val_batches is not None
        scores = ValidationScores()
        with torch_state.preserve_generators(), evaluation_mode(self.recipe):
            self.recipe.on_validation_start()
            for batch in self.val_batches:
                scores.add(batch.meta, self.forward("validation_step", batch.to(self.fabric.device, non_blocking=True)))
            means = scores.means() | dict(self.recipe.validation_summary())
        self.clock.mark("validation")
        if scores.unscored != self.unscored and self.fabric.is_global_zero:
            scores.warn_of_unscored()
        self.unscored = scores.unscored
        return {f"val/{name}": value for name, value in means.items()}

    def find_score(self, metrics: Mapping[str, float]) -> tuple[str, float] | None:
        """Return name and value of the score that chooses the best checkpoint: the recipe's first finite one."""
        scores = ((name, metrics.get(name, math.nan)) for name in self.recipe.best_metrics)
        return next(((name, score) for name, score in scores if math.isfinite(score)), None)

    def save_checkpoints(self, *, after_validation: bool) -> None:
        """Save the best and the last checkpoint if due. Raise StopRequest if any process received a signal."""
        stops = self.any_process(self.stop_requested())
        if after_validation:
            self.save_if_best()
        if self.config.keep_every and self.step % self.config.keep_every == 0:
            self.save(name_kept_checkpoint(self.step), "weights")
        if after_validation or stops or self.is_finished or self.step % self.config.checkpoint_every == 0:
            self.clock.mark("checkpoints")
            # first, because a run that is resumed at its end makes no step
            self.run.update_facts(self.describe_progress)
            self.save("last", "training")
            self.time_limit.restart()
        self.clock.mark("checkpoints")
        if stops:
            raise StopRequest

    def save_if_best(self) -> None:
        """Save the best checkpoint if the latest validation has the best score."""
        score = self.find_score(self.metrics)
        if score is None:
            return
        name, value = score
        if self.best is None or value < self.best:
            self.best, self.best_score = value, BestScore(name, self.step, value)
            self.save("best", "weights")

    def describe_progress(self, facts: RunFacts) -> RunFacts:
        """Return the record of the run with the results until now."""
        return replace(
            facts,
            time=self.clock.measure(),
            worse_than_start=None if self.start_score is None else self.is_worse_than_start,
        )

    @property
    def is_validation_due(self) -> bool:
        """Return whether to validate now: every `validate_every` steps, by default each epoch, and at the end."""
        if self.val_batches is None:
            return False
        if self.config.validate_every is None and self.plan.validates_by_pass:
            return self.is_finished or self.plan.is_pass_end(self.step)
        every = self.config.validate_every or max(round(self.plan.steps_per_epoch), 1)
        return self.is_finished or self.step % every == 0

    def call(self, hook: str, *arguments: Any) -> None:
        """Call a hook of every callback that overrides it, and count its time."""
        for callback in self.callbacks:
            if getattr(type(callback), hook) is not getattr(Callback, hook):
                getattr(callback, hook)(self, *arguments)
                self.clock.mark(callback.phase)


class StopRequest(Exception):
    """Raised after a step, once its checkpoint is written, if a stop was requested."""


class Callback:
    """Hooks of the training loop; by default they do nothing. `loop` has the state of the training.

    phase: the clock's phase of the hooks.
    """

    phase: ClassVar[str] = "metrics"

    def on_train_start(self, loop: TrainingLoop) -> None:
        """Run before the first step; a resumed training run has its state by now."""

    def on_batch_start(self, loop: TrainingLoop, is_last: bool) -> None:
        """Run before the forward pass of a batch. `is_last`: the weights are updated after it."""

    def on_before_update(self, loop: TrainingLoop) -> None:
        """Run when the gradients are complete, before they are clipped."""

    def on_batch_end(self, loop: TrainingLoop) -> None:
        """Run after each batch, and after the update that follows the last batch of a step."""

    def on_step_end(self, loop: TrainingLoop) -> None:
        """Run after update number `loop.step`, from 1."""

    def on_validation_start(self, loop: TrainingLoop) -> None:
        """Run before a validation."""

    def on_validation_end(self, loop: TrainingLoop) -> None:
        """Run after a validation; `loop.metrics` holds its means."""

    def on_row(self, loop: TrainingLoop, step: int, row: Mapping[str, float]) -> None:
        """Run after scalars were logged; `row` has the means over all processes, in each process."""

    def on_train_end(self, loop: TrainingLoop) -> None:
        """Run after the last step, or when an exception ends the training."""

    def on_exception(self, loop: TrainingLoop, error: BaseException) -> None:
        """Run before `on_train_end` if an exception ends the training."""
