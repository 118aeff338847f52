"""Choose what the C library does with freed memory: keep it for the next step, or return it to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
"""Numbers of the parameters of `mallopt`, from malloc.h of glibc."""

_NEVER, _NO_MAPS, _MOST_MAPS, _ONE_ARENA = -1, 0, 65536, 1

LARGE_BLOCK, MOST_KEPT = 16 << 20, 64 << 20
"""Bytes: `return_large_blocks` returns blocks of this size, and what is free beyond the second number."""

_USER_VARIABLES = frozenset(
    {"MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}
)


def keep_freed_memory() -> bool:
    """Keep freed memory in this process; return whether the C library does.

    glibc maps each block of more than 32 MB anew, and unmaps it when it is freed. The kernel then fills all its pages
    with zeros, one after the other: 18 ms for the 47 MB of a decoder's features (640x192, batch 4), of which a step
    writes several. Kept blocks are used again by the next step. The largest memory of the process stays nearly the
    same, but it remains at that size until `return_large_blocks`. Threads share one arena: others hold at most 64 MB.

    Only trainings call this: `return_large_blocks` is for predictions. What the user set in the environment stays.
    Other C libraries have no such setting. Speed: docs/results/training-speed.md.

    Source: mallopt(3) of the Linux manual; glibc's malloc.c, which limits the threshold of maps to 32 MB.
    """
    return _set_parameters((_MMAP_MAX, _NO_MAPS), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, _ONE_ARENA))


def return_large_blocks() -> bool:
    """Return each large block to the system when it is freed; return whether the C library does.

    glibc itself raises that size up to 32 MB, and keeps memory in an arena for each thread: an eighth of the memory of
    a prediction of 8K video at 2048x2048. Smaller blocks are kept, as glibc's own limit would not: it returns what is
    free beyond 128 kB once a size is set. What the user set in the environment stays. Ends
    `keep_freed_memory`.
    """
    limits = (_MMAP_MAX, _MOST_MAPS), (_MMAP_THRESHOLD, LARGE_BLOCK), (_TRIM_THRESHOLD, MOST_KEPT)
    return _set_parameters(*limits, (_ARENA_MAX, _ONE_ARENA))


def return_freed_memory() -> None:
    """Return what is free to the system, where the C library can: after a training, or to measure."""
    if (malloc_trim := _find_function("malloc_trim")) is not None:
        malloc_trim(ctypes.c_size_t(0))


def _set_parameters(*parameters: tuple[int, int]) -> bool:
    mallopt = _find_function("mallopt")
    if mallopt is None or _USER_VARIABLES & os.environ.keys():
        return False
    return all(mallopt(*parameter) for parameter in parameters)


def _find_function(name: str) -> Callable[..., int] | None:
    """Return a function of the C library; None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
