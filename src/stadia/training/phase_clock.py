"""Measure where the time of a training goes: loading, forward, loss, backward, optimizer, and the rest."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.hooks import RemovableHandle

from stadia.core import seeds
from stadia.files.run_facts import TrainingTimes
from stadia.training.batches import TrainingPlan


class FlopCounter(TorchDispatchMode):
    """While entered, count by the formulas of torch, two operations for each multiplication; without a formula, none.

    torch's FlopCounterMode decomposes operations, such as the gradient of SiLU: the last digits of a counted batch
    differ from those of another one, and a resumed training from one that was not stopped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            with contextlib.suppress(Exception):  # a shape that a formula does not support must not end a training
                self.flops += int(formula(*args, **kwargs, out_val=out))
        return out


def _count_convolution_backward(grad_out: Tensor, image: Tensor, weight: Tensor, *options: Any, **_: Any) -> int:
    """Count the gradients of a convolution from the arguments of `convolution_backward`.

    The formula of torch (2.13) counts the gradient of the weight as if there were one group, too many by their number.
    """
    is_transposed, needs_gradient = options[4], options[7]
    places = (image if is_transposed else grad_out).shape
    return 2 * places[0] * math.prod(places[2:]) * weight.numel() * sum(map(bool, needs_gradient[:2]))


_FORMULAS = {**flop_registry, torch.ops.aten.convolution_backward: _count_convolution_backward}


MATMUL_SIZES = {"cpu": ((384, 40), (1536, 5)), "cuda": ((8192, 7),)}
"""The peak is measured with these sides of matrices and repeats. On a busy processor each long product is interrupted,
but only some short ones: beside three processes the large ones reached 1 to 8 GFLOP/s, the small ones 96 as alone.
"""

MAX_PEAK_SHARE = 1.5
"""Largest possible share of the measured peak. On a busy machine, exact attention reached up to 1.24 of it; without
synchronization a clock gives tens of times the peak.
"""

MAX_TIMING_SHARE = 2.5
"""Largest possible share for the times of a training: its end, where the peak is measured, may be busier than the rest.
On a shared processor a correct training reached 1.56.
"""


def measure_matmul_peak(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Measure floating point operations per second, two for each multiplication: the best of several matrix products.

    At the present number of threads of torch. On CUDA, float32 may use TF32, as convolutions do by default.
    """
    device = torch.device(device)
    best = 0.0
    with torch.no_grad(), _tf32() if device.type == "cuda" else contextlib.nullcontext():
        for size, repeats in MATMUL_SIZES.get(device.type, MATMUL_SIZES["cuda"]):
            a = torch.randn(size, size, device=device, dtype=dtype)
            out = torch.empty_like(a)
            for _ in range(repeats):
                synchronize(device)
                start = time.perf_counter()
                torch.mm(a, a, out=out)
                synchronize(device)
                best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has finished its queue; a CPU has none."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.device(device).type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    """Allow TF32. Not for a CPU: after precision "medium", writing this switch makes reading the precision an error."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


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

    steps, wall_s, phases_s: of the training until now, with its parts before a resume.
    """

    def __init__(self, plan: TrainingPlan, precision: str = "32") -> None:
        self.plan, self.precision = plan, precision
        self.stopwatch = Stopwatch()
        self.steps = 0
        self.new_steps = 0  # without those before a resume
        self.wall_s_before = 0.0
        self.phases_s_before: dict[str, float] = {}
        self.started_s = time.perf_counter()
        self.hooks: list[RemovableHandle] = []
        self.in_step = False  # of the recipe: between loading and backward
        self.counter: FlopCounter | None = None
        self.counting = contextlib.ExitStack()
        self.flops: dict[str, int] = {}  # of a batch, the latest that was counted
        self.stage, self.steps_of_stage = -1, 0
        self.peak_flops_per_s: float | None = None

    @property
    def wall_s(self) -> float:
        """Return the seconds of the training, without the time in which it was stopped."""
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
        """Return what a resumed training adds its times to. Waits for the device."""
        self.stopwatch.settle()
        return {"steps": self.steps, "wall_s": self.wall_s, "phases_s": self.phases_s}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the times of a checkpoint."""
        self.steps = int(state["steps"])
        self.wall_s_before = float(state["wall_s"])
        self.phases_s_before = {str(name): float(seconds) for name, seconds in state["phases_s"].items()}

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
        self.new_steps += 1
        self.steps_of_stage += 1
        self.stopwatch.end_step(keep=self.steps_of_stage > WARM_UP)

    def lap(self) -> dict[str, float]:
        """Return seconds by phase since the last lap, the work on the metrics until now included."""
        self.mark("metrics")
        return self.stopwatch.lap()

    def release(self) -> None:
        """Remove the hooks."""
        self._stop_counting()
        while self.hooks:
            self.hooks.pop().remove()

    def _stop_counting(self) -> None:
        self.counter = None
        self.counting.close()

    def measure_peak(self) -> None:
        """Measure the peak of the machine after a training that is long enough, for the shares of it."""
        if time.perf_counter() - self.started_s < PEAK_FROM_S or not self.flops:
            return
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
        wall_s = self.wall_s
        step_s = self.stopwatch.medians()
        batches = self.plan.grad_accumulation_steps
        of_batch = {name: seconds / batches for name, seconds in step_s.items() if seconds > 0}
        rates = {name: flops / of_batch[name] for name, flops in self.flops.items() if flops and name in of_batch}
        if sum(of_batch.values()) and self.flops:
            rates["step"] = sum(self.flops.values()) / sum(of_batch.values())
        peak = self.peak_flops_per_s
        return TrainingTimes(
            device=self.stopwatch.device.type,
            threads=torch.get_num_threads(),
            steps=self.steps,
            wall_s=wall_s,
            phases_s=self.phases_s,
            step_s=step_s,
            flops=dict(self.flops),
            flops_per_s=rates,
            peak_flops_per_s=peak,
            of_peak={} if peak is None else {name: rate / peak for name, rate in rates.items()},
        )


def describe_times(times: TrainingTimes) -> str:
    """Return `time: forward 31 %, backward 40 %, ... of 63 s`, the largest first, down to 1 %."""
    shares = [(seconds / times.wall_s, name) for name, seconds in times.phases_s.items() if times.wall_s > 0]
    listed = ", ".join(f"{name} {share:.0%}" for share, name in sorted(shares, reverse=True) if share >= 0.01)
    line = f"time: {listed} of {times.wall_s:.1f} s"
    of_peak, peak = times.of_peak.get("step"), times.peak_flops_per_s
    if not of_peak or peak is None:
        return line
    where = f"on {times.threads} thread{'s' * (times.threads != 1)}" if times.device == "cpu" else f"on {times.device}"
    return f"{line}; a step reaches {of_peak:.0%} of large matrix products here {where}, {peak / 1e9:.3g} GFLOP/s"
