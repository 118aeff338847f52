"""How every kernel of RoadWorld is compiled: serial, releasing the GIL, cached where a cache can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

_F = TypeVar("_F", bound=Callable)


def compiled(function: _F) -> _F:
    """Compile with Numba.

    Kernels are serial, and frames are rendered by as many threads as wanted: a picture then cannot depend on their number,
    and nothing breaks when a program forks later. Without fastmath, so that a compiler may not reorder what is compared bit by bit.
    """
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither the installation nor the user's cache folder can be written to
        return njit(nogil=True, error_model="numpy")(function)
