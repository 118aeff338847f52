"""Compile Python loops with Numba."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from numba import njit

_F = TypeVar("_F", bound=Callable[..., object])


def compile_loops(function: _F, *, fastmath: Collection[str] = ()) -> _F:
    """Compile a function at its first call, and cache the result on disk where that is possible.

    The kernel releases Python's global lock and is serial; callers may run it in several threads. So results do not
    depend on the number of threads, and a later fork is safe.

    Args:
        fastmath: what LLVM may change in the arithmetic ("contract", "arcp", ...). Nothing by default, so that results
            are equal bit for bit.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # Numba found no folder for its cache that it can write to
        return njit(function, **options)
