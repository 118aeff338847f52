"""Compare a timing with the peak of a device. A time that needs a higher rate is wrong: the clock did not wait."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stadia.core.errors import RunError
from stadia.training.loop.clock import synchronize


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


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    """Allow TF32. Not for a CPU: after precision "medium", writing this switch makes reading the precision an error."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class PeakFlops:
    """The peak of a device by `measure_matmul_peak`.

    Before a time is refused the peak is measured again, and the higher one kept: the machine may have been busy.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.flops_per_s = measure_matmul_peak(device)

    def share(self, what: str, flops: float, seconds: float) -> float:
        """Return the rate of `flops` in `seconds` over the peak. Raises RunError above MAX_PEAK_SHARE.

        Args:
            what: was timed, for the error.
            flops: at least needed, two for each multiplication.
            seconds: measured.
        """
        if flops / seconds > MAX_PEAK_SHARE * self.flops_per_s:
            self.flops_per_s = max(self.flops_per_s, measure_matmul_peak(self.device))
        share = flops / seconds / self.flops_per_s
        if share > MAX_PEAK_SHARE:
            peak = f"the measured peak of {self.flops_per_s / 1e9:.3g} GFLOP/s"
            found = f"{seconds * 1e3:.3g} ms for {flops / 1e9:.3g} GFLOP, {share:.3g} times {peak}"
            expected = f"at most {MAX_PEAK_SHARE:g} times the peak"
            fix = "synchronize the device before reading the clock; measure on an idle machine"
            raise RunError(f"time of {what}", found=found, expected=expected, fix=fix)
        return share
