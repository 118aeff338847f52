"""Where a training's time goes: loading, forward, loss, backward, optimizer, and what is done beside them."""

from __future__ import annotations

import time
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import lightning.pytorch as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from stadia.core import random_state
from stadia.training.batches import TrainingPlan
from stadia.training.flops import FlopCounter, measure_matmul_peak
from stadia.training.run_folder import Run
from stadia.training.step_callback import StepCallback
from stadia.training.stopwatch import Stopwatch
from stadia.training.task import Task

WARM_UP = 3
"""Steps of each stage of a training that enter no median: kernels are chosen and compiled, memory is taken."""

PEAK_FROM_S = 120.0
"""A shorter training is not worth the second or so that measuring the machine's peak takes."""

COMPUTED = ("forward", "loss", "backward")


class PhaseClock(StepCallback):
    """Marks what a step has been doing; the first of a training's callbacks, with a `Mark` behind the others.

    forward: of the networks, the children of the recipe that can learn; loss: the rest of its step. metrics: scalars,
        histograms and the
    watch. other: what Lightning does between them. Every step is measured: a mark costs some microseconds, see
        benchmarks/phases.py.
    """

    def __init__(self, run: Run, plan: TrainingPlan) -> None:
        self.run, self.plan = run, plan
        self.watch = Stopwatch()
        self.hooks: list[RemovableHandle] = []
        self.inside = False  # of a training step, between loading and backward
        self.counter: FlopCounter | None = None
        self.flops: dict[str, int] = {}  # of a batch, the latest that was counted
        self.stretch, self.steps_of_stretch, self.steps = -1, 0, 0
        self.started_s = time.perf_counter()
        self.peak_flops_per_s: float | None = None
        self.found: dict[str, Any] = {}  # `facts`, once it has ended

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:
        self.watch, self.started_s = Stopwatch(trainer.strategy.root_device), time.perf_counter()
        for network in task.children():
            if any(p.requires_grad for p in network.parameters()):
                self.hooks.append(network.register_forward_pre_hook(self._before))
                self.hooks.append(network.register_forward_hook(self._after))

    def _before(self, network: nn.Module, arguments: Any) -> None:
        if self.inside:
            self.mark("loss")

    def _after(self, network: nn.Module, arguments: Any, answer: Any) -> None:
        if self.inside:
            self.mark("forward")

    def mark(self, phase: str) -> None:
        """The time since the last mark was this phase's, and so were the operations counted."""
        self.watch.mark(phase)
        if self.counter is not None and phase in COMPUTED:
            self.flops[phase] = self.flops.get(phase, 0) + self.counter.flops
            self.counter.flops = 0

    def on_train_batch_start(self, trainer: pl.Trainer, task: Task, batch: Any, batch_idx: int) -> None:
        self.mark("loading")  # to the device
        stretch = self.plan.place(trainer.global_step * self.plan.accumulate).stretch
        if stretch != self.stretch:
            self.stretch, self.steps_of_stretch, self.flops = stretch, 0, {}
            # of other images in other batches than those whose operations are counted from here on
            self.watch.forget_steps()
            self.counter = FlopCounter()
            self.counter.__enter__()
        self.inside = True

    def on_before_backward(self, trainer: pl.Trainer, task: Task, loss: torch.Tensor) -> None:
        self.mark("loss")

    def on_after_backward(self, trainer: pl.Trainer, task: Task) -> None:
        self.mark("backward")
        self.inside = False
        self._stop_counting()

    def _stop_counting(self) -> None:
        if self.counter is not None:
            counter, self.counter = self.counter, None
            counter.__exit__(None, None, None)

    def on_before_optimizer_step(self, trainer: pl.Trainer, task: Task, optimizer: Optimizer) -> None:
        self.mark("optimizer")  # the gradient's norm

    def on_train_batch_end(self, trainer: pl.Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.mark("optimizer")

    def on_validation_start(self, trainer: pl.Trainer, task: Task) -> None:
        self.mark("other")

    def on_validation_end(self, trainer: pl.Trainer, task: Task) -> None:
        self.mark("validation")

    def lap(self) -> dict[str, float]:
        """Seconds by phase since the last lap, what the row that asks has cost until now among them."""
        self.mark("metrics")
        return self.watch.lap()

    def step_is_over(self) -> None:
        """Told by the last `Mark` of a step."""
        self.steps += 1
        self.steps_of_stretch += 1
        self.watch.end_step(keep=self.steps_of_stretch > WARM_UP)

    def on_train_end(self, trainer: pl.Trainer, task: Task) -> None:
        self._release()
        self.mark("other")
        if not self.run.writes:
            return
        if time.perf_counter() - self.started_s >= PEAK_FROM_S and self.flops:
            self._measure_peak("bf16" in trainer.precision)
        self.found = self.facts()
        self.run.note(time=self.found)
        row = {f"speed/of_peak/{name}": share for name, share in self.found.get("of_peak", {}).items()}
        for callback in trainer.callbacks if row else ():
            if isinstance(callback, StepCallback):
                callback.on_row(trainer, task, trainer.global_step, row)

    def on_exception(self, trainer: pl.Trainer, task: Task, exception: BaseException) -> None:
        self._release()

    def _release(self) -> None:
        self._stop_counting()
        while self.hooks:
            self.hooks.pop().remove()

    def _measure_peak(self, bf16: bool) -> None:
        device = self.watch.device
        try:
            with random_state.preserve_generators():
                self.peak_flops_per_s = measure_matmul_peak(device, torch.bfloat16 if bf16 else torch.float32)
        except torch.OutOfMemoryError:
            return  # the training has filled the device
        finally:
            self.mark("other")

    def facts(self) -> dict[str, Any]:
        """For run.json: of this go, from its start or from where it was resumed.

        threads: of torch on the processor.
        wall_s: by the processor's clock.  phases_s: by phase, which add up to it.
        step_s: medians of a step, without warm-up.  flops: of a batch by phase.  flops_per_s, of_peak: by phase, of the
            median batch. All of them are of the last stage.
        """
        self.watch.lap()
        wall_s, step_s = time.perf_counter() - self.started_s, self.watch.medians()
        found: dict[str, Any] = {
            "device": self.watch.device.type,
            "threads": torch.get_num_threads(),
            "steps": self.steps,
            "wall_s": wall_s,
            "phases_s": dict(self.watch.totals),
            "step_s": step_s,
            "flops": dict(self.flops),
        }
        of_batch = {name: seconds / self.plan.accumulate for name, seconds in step_s.items() if seconds > 0}
        rates = {name: flops / of_batch[name] for name, flops in self.flops.items() if flops and name in of_batch}
        if sum(of_batch.values()) and self.flops:
            rates["step"] = sum(self.flops.values()) / sum(of_batch.values())
        found["flops_per_s"] = rates
        if self.peak_flops_per_s is not None:
            found["peak_flops_per_s"] = self.peak_flops_per_s
            found["of_peak"] = {name: rate / self.peak_flops_per_s for name, rate in rates.items()}
        return found


class Mark(pl.Callback):
    """Stands behind callbacks whose work is one phase: after a batch, and after a validation.

    last: of a step.
    """

    def __init__(self, clock: PhaseClock, phase: str, *, last: bool = False) -> None:
        self.clock, self.phase, self.last = clock, phase, last

    def on_before_optimizer_step(self, trainer: pl.Trainer, task: pl.LightningModule, optimizer: Optimizer) -> None:
        if self.last:
            self.clock.mark("metrics")  # histograms, and how large the update is

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.clock.mark(self.phase)
        if self.last and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.clock.step_is_over()

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.clock.mark(self.phase)


def on(facts: dict[str, Any]) -> str:
    """`here on 2 threads`, `here on cuda`."""
    threads = facts["threads"]
    return (
        f"here on {threads} thread{'s' * (threads != 1)}" if facts["device"] == "cpu" else f"here on {facts['device']}"
    )


def in_words(facts: dict[str, Any]) -> str:
    """`time: forward 31 %, backward 40 %, ... of 63 s`, the largest first, down to a hundredth."""
    wall_s = facts["wall_s"]
    parts = sorted(
        ((seconds / wall_s, name) for name, seconds in facts["phases_s"].items() if wall_s > 0), reverse=True
    )
    said = f"time: {', '.join(f'{name} {share:.0%}' for share, name in parts if share >= 0.01)} of {wall_s:.1f} s"
    of_peak = facts.get("of_peak", {}).get("step")
    return said + (
        f"; a step reaches {of_peak:.0%} of what large matrix products make {on(facts)},"
        f" {facts['peak_flops_per_s'] / 1e9:.3g} GFLOP/s"
        if of_peak
        else ""
    )
