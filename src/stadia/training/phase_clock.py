"""Measure where the time of a training goes: loading, forward, loss, backward, optimizer, and the rest."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from stadia.core import seeds
from stadia.files.run_facts import RunFacts, TrainingTimes
from stadia.training.batches import TrainingPlan
from stadia.training.flops import MAX_PEAK_SHARE, FlopCounter, measure_matmul_peak, synchronize
from stadia.training.run_folder import Run

KEPT_STEPS = 1000
"""The medians are over so many last steps."""

WARM_UP = 3
"""Steps of each stage of a training that enter no median: kernels are chosen and compiled, memory is allocated."""

PEAK_FROM_S = 120.0
"""A shorter training does not measure the peak of the machine, which takes about a second."""

COMPUTED = ("forward", "loss", "backward")


class Stopwatch:
    """Book the time between two marks to a phase, so that nothing is counted twice or left out.

    On CUDA a mark is an event in the queue of the GPU. The time between two events is what the GPU spent between them,
    working or idle, however far ahead the processor runs; nothing waits for it. Elsewhere it is the clock of the
    processor, on other devices after they have finished.

    totals: seconds by phase since the start, of the events that have passed.
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
        """Count the marks that a GPU has passed."""
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
        """Start the medians anew, with the next step that ends. Waits for the device."""
        self.settle()
        self.steps.clear()

    def medians(self) -> dict[str, float]:
        """Return the median of a step by phase, over the last KEPT_STEPS kept steps."""
        phases = dict.fromkeys(phase for step in self.steps for phase in step)
        return {phase: statistics.median(step.get(phase, 0.0) for step in self.steps) for phase in phases}


class PhaseClock:
    """Measure the phases of every step of a training loop, and count the operations of a batch.

    forward: of the networks, the children of the recipe with trainable weights.  loss: the rest of `training_step`.
    metrics: scalars, histograms, monitors.  other: what the loop does between them. A mark takes some microseconds.

    times: after the training; None before.
    before: times at the checkpoint that a resumed training goes on from; its parts are added.
    """

    def __init__(self, run: Run, plan: TrainingPlan, precision: str = "32") -> None:
        self.run, self.plan, self.precision = run, plan, precision
        self.stopwatch = Stopwatch()
        self.hooks: list[RemovableHandle] = []
        self.in_step = False  # of the recipe: between loading and backward
        self.counter: FlopCounter | None = None
        self.counting = contextlib.ExitStack()
        self.flops: dict[str, int] = {}  # of a batch, the latest that was counted
        self.stage, self.steps_of_stage, self.steps = -1, 0, 0
        self.started_s = time.perf_counter()
        self.peak_flops_per_s: float | None = None
        self.times: TrainingTimes | None = None
        self.before: TrainingTimes | None = None

    def start(self, device: torch.device, recipe: nn.Module) -> None:
        """Start, and mark the forward of each network by hooks."""
        self.stopwatch, self.started_s = Stopwatch(device), time.perf_counter()
        for network in recipe.children():
            if any(p.requires_grad for p in network.parameters()):
                self.hooks.append(network.register_forward_pre_hook(lambda *_: self._mark_in_step("loss")))
                self.hooks.append(network.register_forward_hook(lambda *_: self._mark_in_step("forward")))

    def _mark_in_step(self, phase: str) -> None:
        if self.in_step:
            self.mark(phase)

    def mark(self, phase: str) -> None:
        """Book the time since the last mark, and the operations, to this phase."""
        self.stopwatch.mark(phase)
        if self.counter is not None and phase in COMPUTED:
            self.flops[phase] = self.flops.get(phase, 0) + self.counter.flops
            self.counter.flops = 0

    def begin_batch(self, step: int) -> None:
        """Begin a batch that is on the device by now. The first of each stage is counted.

        step: updates made before it.
        """
        self.mark("loading")
        stage = self.plan.place(step * self.plan.grad_accumulation_steps).phase
        if stage != self.stage:
            self.stage, self.steps_of_stage, self.flops = stage, 0, {}
            self.stopwatch.forget_steps()  # of another image size or batch size than the one counted from here on
            # Networks that `training.compile` compiles would stay uncompiled where a counter sees their first batch.
            self.counting.enter_context(torch.compiler.set_stance("force_eager"))
            self.counter = self.counting.enter_context(FlopCounter())
        self.in_step = True

    def end_backward(self) -> None:
        """End the computation of a batch."""
        self.mark("backward")
        self.in_step = False
        self._stop_counting()

    def end_step(self) -> None:
        """End a step."""
        self.steps += 1
        self.steps_of_stage += 1
        self.stopwatch.end_step(keep=self.steps_of_stage > WARM_UP)

    def lap(self) -> dict[str, float]:
        """Return seconds by phase since the last lap, the work on the metrics until now included."""
        self.mark("metrics")
        return self.stopwatch.lap()

    def record(self) -> None:
        """Write the times so far into run.json, before a checkpoint, for a training that is resumed from it.

        Those of the checkpoint before stay beside them: a training that is killed now is resumed from that one.
        """
        if self.run.writes and self.steps:
            times = self.measure()
            self.run.update_facts(
                lambda facts: replace(facts, time=times, earlier_time=find_earlier_times(facts, times.steps - 1))
            )

    def finish(self) -> dict[str, float]:
        """End a training: write the times into run.json; return a row of shares of the machine's peak, if measured.

        A resumed training that has no step left keeps the times of run.json.
        """
        self.release()
        self.mark("other")
        if not self.run.writes or not self.steps:
            return {}
        if time.perf_counter() - self.started_s >= PEAK_FROM_S and self.flops:
            self._measure_peak()
        times = self.times = self.measure()
        self.run.update_facts(lambda facts: replace(facts, time=times))
        return {f"speed/of_peak/{name}": share for name, share in times.of_peak.items()}

    def release(self) -> None:
        """Remove the hooks."""
        self._stop_counting()
        while self.hooks:
            self.hooks.pop().remove()

    def _stop_counting(self) -> None:
        self.counter = None
        self.counting.close()

    def _measure_peak(self) -> None:
        dtype = {"32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        try:
            with seeds.preserve_generators():
                self.peak_flops_per_s = measure_matmul_peak(self.stopwatch.device, dtype)
                if max(self.measure().of_peak.values(), default=0.0) > MAX_PEAK_SHARE:  # another process was busy
                    again = measure_matmul_peak(self.stopwatch.device, dtype)
                    self.peak_flops_per_s = max(self.peak_flops_per_s, again)
        except torch.OutOfMemoryError:
            return  # the training has filled the device
        finally:
            self.mark("other")

    def measure(self) -> TrainingTimes:
        """Return the times of the training from its first step on. Rates and medians are of the last stage."""
        self.stopwatch.settle()
        wall_s, step_s = time.perf_counter() - self.started_s, self.stopwatch.medians()
        batches = self.plan.grad_accumulation_steps
        of_batch = {name: seconds / batches for name, seconds in step_s.items() if seconds > 0}
        rates = {name: flops / of_batch[name] for name, flops in self.flops.items() if flops and name in of_batch}
        if sum(of_batch.values()) and self.flops:
            rates["step"] = sum(self.flops.values()) / sum(of_batch.values())
        before, peak = self.before, self.peak_flops_per_s
        phases_s = dict(before.phases_s) if before else {}
        for phase, seconds in self.stopwatch.totals.items():
            phases_s[phase] = phases_s.get(phase, 0.0) + seconds
        return TrainingTimes(
            device=self.stopwatch.device.type,
            threads=torch.get_num_threads(),
            steps=self.steps + (before.steps if before else 0),
            wall_s=wall_s + (before.wall_s if before else 0.0),
            phases_s=phases_s,
            step_s=step_s,
            flops=dict(self.flops),
            flops_per_s=rates,
            peak_flops_per_s=peak,
            of_peak={} if peak is None else {name: rate / peak for name, rate in rates.items()},
        )


def find_earlier_times(facts: RunFacts, step: int) -> TrainingTimes | None:
    """Return the latest times of a record that are of no step after `step`, for a training that goes on there."""
    known = [times for times in (facts.time, facts.earlier_time) if times is not None and times.steps <= step]
    return max(known, key=lambda times: times.steps, default=None)


def describe_device(times: TrainingTimes) -> str:
    """Return `here on 2 threads` or `here on cuda`."""
    if times.device != "cpu":
        return f"here on {times.device}"
    return f"here on {times.threads} thread{'s' * (times.threads != 1)}"


def describe_times(times: TrainingTimes) -> str:
    """Return `time: forward 31 %, backward 40 %, ... of 63 s`, the largest first, down to 1 %."""
    shares = [(seconds / times.wall_s, name) for name, seconds in times.phases_s.items() if times.wall_s > 0]
    listed = ", ".join(f"{name} {share:.0%}" for share, name in sorted(shares, reverse=True) if share >= 0.01)
    line = f"time: {listed} of {times.wall_s:.1f} s"
    of_peak, peak = times.of_peak.get("step"), times.peak_flops_per_s
    if not of_peak or peak is None:
        return line
    reached = f"a step reaches {of_peak:.0%} of large matrix products {describe_device(times)}"
    return f"{line}; {reached}, {peak / 1e9:.3g} GFLOP/s"


class TimeLimit:
    """The time limit of a training (`training.max_minutes`): its steps count, validations and checkpoints do not.

    Kept in checkpoints.

    is_over: whether the steps have taken that long, in all processes alike; the latest step is the last one then.
    share: of the time that the steps have taken, in [0, 1] and in all processes alike; 0 without a limit.

    Args:
        minutes: None for any.
    """

    def __init__(self, minutes: float | None) -> None:
        self.limit_s = None if minutes is None else 60 * minutes
        self.spent_s, self.since_s, self.share = 0.0, time.perf_counter(), 0.0

    @property
    def is_over(self) -> bool:
        """Return whether the time is over."""
        return self.share >= 1

    @property
    def left_s(self) -> float:
        """Return the seconds that are left for steps; infinite without a limit."""
        return math.inf if self.limit_s is None else max(self.limit_s - self.spent_s, 0.0)

    def restart(self) -> None:
        """Count from now on."""
        self.since_s = time.perf_counter()

    def add_step(self, largest: Callable[[float], float]) -> None:
        """Add the time since the last step, or since `restart`.

        largest: returns the largest value of all processes.
        """
        now_s = time.perf_counter()
        self.spent_s, self.since_s = self.spent_s + now_s - self.since_s, now_s
        if self.limit_s is not None:
            self.share = min(largest(self.spent_s / self.limit_s), 1.0)

    def restore(self, spent_s: float) -> None:
        """Continue after so many seconds of a checkpoint."""
        self.spent_s = spent_s
        self.share = 0.0 if self.limit_s is None else min(spent_s / self.limit_s, 1.0)
