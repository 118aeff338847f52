"""Whether a timing can be true: operations a second against the best that this machine is seen to do.

Everything that networks spend their time on is, or is slower than, large matrix products. A time that would need more
operations a second
than those reach was not measured: its clock was read before the work was done, as a GPU's is without waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stadia.core.errors import RunError

PRODUCTS = {"cpu": ((384, 40), (1536, 5)), "cuda": ((8192, 7),)}
"""Sides of the matrices, and how often they are multiplied. A processor that others use as well is given away in the
middle of each long
product, and of some short ones: busy with three others it read 1 to 8 GFLOP/s of the large ones, and of the small ones
96 as when idle.
"""

MOST_OF_PEAK = 1.5
"""Of the measured peak. On a machine that many shared, exact attention read up to 1.24 times it; a clock that does not
wait reads tens of times as much.
"""


def matmul_peak(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Floating point operations a second, two for each multiplication: the best of several products of square matrices.

    At torch's present number of threads. On CUDA float32 may use TF32, as convolutions do by default: it is a bound,
    not a promise.
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
    """The peak of a device, with which times are compared.

    flops_per_s: of `matmul_peak`, at torch's number of threads; measured anew, and the better one kept, before a time
        is refused, since others may have worked on the machine.
    """

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = device, dtype
        self.flops_per_s = matmul_peak(device, dtype)

    def share(self, what: str, flops: float, seconds: float) -> float:
        """What `flops` in `seconds` are of the peak. Raises RunError where it is above what can be.

        Args:
            what: was timed, for the error.
            flops: that it takes at least, two for each multiplication.
            seconds: that it is said to have taken.
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
                fix=(
                    "wait for the device before each look at the clock, and count the operations again; measure while"
                    " nothing else runs"
                ),
            )
        return share


def wait_for(device: torch.device | str) -> None:
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
