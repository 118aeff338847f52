"""Run compiled loops on bands of rows, on as many threads as torch has."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int8]

row_kernel = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath={"contract", "arcp", "nsz"})
# the order of operations is free, so several pixels run at once
row_sum = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

_ROWS = 32  # rows per band: large enough to amortize scheduling, small enough to balance the threads


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; a fork does not inherit its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="stadia-reprojection")


def run_in_bands(
    kernel: Callable[..., None], height: int, of_sample: Sequence[NDArray[Any] | None], shared: Sequence[Any]
) -> None:
    """Run `kernel(first row, last row, *arrays of one sample, *shared)` on bands of rows, on torch's threads."""
    assert of_sample[0] is not None
    bands = [(b, y, min(y + _ROWS, height)) for b in range(len(of_sample[0])) for y in range(0, height, _ROWS)]

    remaining = iter(bands)  # shared: each thread takes the next band when it finishes one

    def work() -> None:
        for sample, first, last in remaining:
            kernel(first, last, *(None if array is None else array[sample] for array in of_sample), *shared)

    threads = torch.get_num_threads()
    others = [_pool(os.getpid(), threads - 1).submit(work) for _ in range(threads - 1)]
    work()  # this thread works too, because others may wake late
    for other in others:
        if not other.cancel():  # it has begun
            other.result()
