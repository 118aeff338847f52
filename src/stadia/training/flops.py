"""Count the floating point operations of convolutions and matrix products, and measure the peak of a device.

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
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


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
