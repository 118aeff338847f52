"""Count floating point operations, and measure the peak of the machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stadia.core.errors import RunError

# -- How many floating point operations a piece of a program takes at least: its convolutions and products of matrices.

_paused = False


@contextlib.contextmanager
def pause_flop_counters() -> Iterator[None]:
    """What is computed within is no part of a step, as a measurement that is made now and then: every `FlopCount` looks
    away.
    """
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


class FlopCounter(TorchDispatchMode):
    """While entered, counts by torch's own formulas, two operations for each multiplication. What has no formula counts
    nothing.

    It looks on alone, where torch's FlopCounterMode takes composed operations apart, so nothing that it counts is
    computed otherwise.
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
            with contextlib.suppress(Exception):  # a shape that a formula does not know ends no training
                self.flops += int(formula(*args, **kwargs, out_val=out))
        return out


# -- Whether a timing can be true: operations a second against the best that this machine is seen to do.
#
# Everything that networks spend their time on is, or is slower than, large matrix products. A time that would need more
# operations a second
# than those reach was not measured: its clock was read before the work was done, as a GPU's is without waiting for it.

MATMUL_SIZES = {"cpu": ((384, 40), (1536, 5)), "cuda": ((8192, 7),)}
"""Sides of the matrices, and how often they are multiplied. A processor that others use as well is given away in the
middle of each long
product, and of some short ones: busy with three others it read 1 to 8 GFLOP/s of the large ones, and of the small ones
96 as when idle.
"""

MAX_PEAK_SHARE = 1.5
"""Of the measured peak. On a machine that many shared, exact attention read up to 1.24 times it; a clock that does not
wait reads tens of times as much.
"""


def measure_matmul_peak(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Floating point operations a second, two for each multiplication: the best of several products of square matrices.

    At torch's present number of threads. On CUDA float32 may use TF32, as convolutions do by default: it is a bound,
    not a promise.
    """
    device = torch.device(device)
    best = 0.0
    with torch.no_grad(), _tf32():
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
    """The peak of a device, with which times are compared.

    flops_per_s: of `matmul_peak`, at torch's number of threads; measured anew, and the better one kept, before a time
        is refused, since others may have worked on the machine.
    """

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = device, dtype
        self.flops_per_s = measure_matmul_peak(device, dtype)

    def share(self, what: str, flops: float, seconds: float) -> float:
        """What `flops` in `seconds` are of the peak. Raises RunError where it is above what can be.

        Args:
            what: was timed, for the error.
            flops: that it takes at least, two for each multiplication.
            seconds: that it is said to have taken.
        """
        if flops / seconds > MAX_PEAK_SHARE * self.flops_per_s:
            self.flops_per_s = max(self.flops_per_s, measure_matmul_peak(self.device, self.dtype))
        share = flops / seconds / self.flops_per_s
        if share > MAX_PEAK_SHARE:
            peak = f"the measured peak of {self.flops_per_s / 1e9:.3g} GFLOP/s"
            raise RunError(
                f"time of {what}",
                found=f"{seconds * 1e3:.3g} ms for {flops / 1e9:.3g} GFLOP, {share:.3g} times {peak}",
                expected=f"at most {MAX_PEAK_SHARE:g} times the peak",
                fix=(
                    "wait for the device before each look at the clock, and count the operations again; measure while"
                    " nothing else runs"
                ),
            )
        return share


def synchronize(device: torch.device | str) -> None:
    """Until the device has done what it was given; on a CPU there is nothing to wait for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.device(device).type == "mps":
        torch.mps.synchronize()


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
