"""Measure the phases of a training step, and end the steps after a time or before the end of the command."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from stadia.io.run_facts import TrainingTimes
from stadia.training.loop.batches import TrainingPlan


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
