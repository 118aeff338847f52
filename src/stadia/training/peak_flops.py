"""Check timings against the measured peak of the machine, in operations per second.

Large matrix products are the fastest operations of a network. A time that needs a higher rate is wrong: the clock was
read before the work was done, as happens on a GPU without synchronization.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stadia.core.errors import RunError

PRODUCTS = {"cpu": ((384, 40), (1536, 5)), "cuda": ((8192, 7),)}
"""Sides of the matrices, and repeats. On a busy processor each long product is interrupted, but only some short ones:
with three other processes the large ones reached 1 to 8 GFLOP/s, the small ones 96 as on an idle machine.
"""

MOST_OF_PEAK = 1.5
"""Of the measured peak. On a busy machine, exact attention reached up to 1.24 of it; without synchronization a clock
gives tens of times the peak.
"""


def matmul_peak(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Measure floating point operations per second, two for each multiplication: the best of several matrix products.

    At the present number of threads of torch. On CUDA, float32 may use TF32, as convolutions do by default.
    """
    device = torch.device(device)
    best = 0.0
    with torch.no_grad(), _tf32():
        for size, repeats in PRODUCTS.get(device.type, PRODUCTS["cuda"]):
            a = torch.randn(size, size, device=device, dtype=dtype)
            out = torch.empty_like(a)
            for _ in range(repeats):
                wait_for(device)
                start = time.perf_counter()
                torch.mm(a, a, out=out)
                wait_for(device)
                best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


class Peak:
    """The peak of a device, to compare times with.

    flops_per_s: of `matmul_peak`. Before a time is refused it is measured again, and the higher one kept: the machine
        may have been busy.
    """

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = device, dtype
        self.flops_per_s = matmul_peak(device, dtype)

    def share(self, what: str, flops: float, seconds: float) -> float:
        """Return the rate of `flops` in `seconds` over the peak. Raises RunError above MOST_OF_PEAK.

        Args:
            what: was timed, for the error.
            flops: at least needed, two for each multiplication.
            seconds: measured.
        """
        if flops / seconds > MOST_OF_PEAK * self.flops_per_s:
            self.flops_per_s = max(self.flops_per_s, matmul_peak(self.device, self.dtype))
        share = flops / seconds / self.flops_per_s
        if share > MOST_OF_PEAK:
            peak = f"the measured peak of {self.flops_per_s / 1e9:.3g} GFLOP/s"
            raise RunError(
                f"time of {what}",
                found=f"{seconds * 1e3:.3g} ms for {flops / 1e9:.3g} GFLOP, {share:.3g} times {peak}",
                expected=f"at most {MOST_OF_PEAK:g} times the peak",
                fix="synchronize the device before reading the clock; measure on an idle machine",
            )
        return share


def wait_for(device: torch.device | str) -> None:
    """Wait until the device has finished its queue; a CPU has none."""
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
