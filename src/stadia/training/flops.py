"""Count the floating point operations of convolutions and matrix products, and check timings against the peak.

Large matrix products are the fastest operations of a network. A time that needs a higher rate is wrong: the clock was
read before the work was done, as happens on a GPU without synchronization.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stadia.core.errors import RunError

_paused = False


@contextlib.contextmanager
def pause_flop_counters() -> Iterator[None]:
    """Pause every `FlopCounter`: what is computed within is no part of a step (an occasional measurement)."""
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


class FlopCounter(TorchDispatchMode):
    """While entered, count by the formulas of torch, two operations for each multiplication; without a formula, none.

    Unlike torch's FlopCounterMode it does not decompose operations, so it changes no result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None and not _paused:
            with contextlib.suppress(Exception):  # a shape that a formula does not support must not end a training
                grouped = _count_grouped_backward(func, args)
                self.flops += grouped if grouped is not None else int(formula(*args, **kwargs, out_val=out))
        return out


def _count_grouped_backward(func: Any, args: Sequence[Any]) -> int | None:
    """Return the operations of the backward pass of a grouped convolution; None for any other operation.

    The formula of torch counts the gradient of the weight as if there were one group: too many by their number.
    """
    if func._overloadpacket is not torch.ops.aten.convolution_backward or args[9] == 1:
        return None
    grad_out, image, weight, is_transposed, needs = args[0], args[1], args[2], args[7], args[10]
    places = (image if is_transposed else grad_out).shape
    return 2 * places[0] * math.prod(places[2:]) * weight.numel() * sum(map(bool, needs[:2]))


MATMUL_SIZES = {"cpu": ((384, 40), (1536, 5)), "cuda": ((8192, 7),)}
"""Sides of the matrices, and repeats. On a busy processor each long product is interrupted, but only some short ones:
with three other processes the large ones reached 1 to 8 GFLOP/s, the small ones 96 as on an idle machine.
"""

MAX_PEAK_SHARE = 1.5
"""Of the measured peak. On a busy machine, exact attention reached up to 1.24 of it; without synchronization a clock
gives tens of times the peak.
"""

MAX_TIMING_SHARE = 2.5
"""Of the measured peak, for the times of a training: its end, where the peak is measured, may be busier than the rest.
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


class PeakFlops:
    """The peak of a device, to compare times with.

    flops_per_s: of `measure_matmul_peak`. Before a time is refused it is measured again, and the higher one kept: the
        machine may have been busy.
    """

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = device, dtype
        self.flops_per_s = measure_matmul_peak(device, dtype)

    def share(self, what: str, flops: float, seconds: float) -> float:
        """Return the rate of `flops` in `seconds` over the peak. Raises RunError above MAX_PEAK_SHARE.

        Args:
            what: was timed, for the error.
            flops: at least needed, two for each multiplication.
            seconds: measured.
        """
        if flops / seconds > MAX_PEAK_SHARE * self.flops_per_s:
            self.flops_per_s = max(self.flops_per_s, measure_matmul_peak(self.device, self.dtype))
        share = flops / seconds / self.flops_per_s
        if share > MAX_PEAK_SHARE:
            peak = f"the measured peak of {self.flops_per_s / 1e9:.3g} GFLOP/s"
            found = f"{seconds * 1e3:.3g} ms for {flops / 1e9:.3g} GFLOP, {share:.3g} times {peak}"
            expected = f"at most {MAX_PEAK_SHARE:g} times the peak"
            fix = "synchronize the device before reading the clock; measure on an idle machine"
            raise RunError(f"time of {what}", found=found, expected=expected, fix=fix)
        return share


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
