"""Loops in Python, compiled with Numba: released from Python's lock, cached on disk where a cache can be written.

Imports Numba, which takes a second: for files that hold kernels, and are themselves imported when one is to run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from numba import njit

_F = TypeVar("_F", bound=Callable[..., object])


def compiled(function: _F, *, fastmath: Collection[str] = ()) -> _F:
    """Compile at the first call, and keep the result beside the source, in the user's cache folder, or in memory alone.

    Serial: whoever wants more cores calls it from several threads. A result then cannot depend on their number, and
        nothing
    breaks where a program forks later.

    Args:
        fastmath: what LLVM may change in the arithmetic ("contract", "arcp", ...); nothing by default, so that results
            are the same to the last bit.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # "cannot cache function": no folder can be written to
        return njit(function, **options)
