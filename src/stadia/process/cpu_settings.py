"""Configure the C libraries below torch on a CPU; the user's settings stay (docs/results/speed.md)."""

import ctypes
import os
from collections.abc import Callable
from functools import cache

# -- waiting of OpenMP's threads

SPINS = "1000"
"""A thread of GNU OpenMP waits actively for this many rounds, a few microseconds, before it sleeps."""


def choose_waiting() -> None:
    """Let threads wait actively for a moment, and then sleep. Call it before torch loads OpenMP."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["GOMP_SPINCOUNT"] = SPINS


# -- freed memory in the C library

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # numbers of `mallopt`, from glibc's malloc.h
_NEVER, _NO_MAPS, _DEFAULT_MAPS, _ONE_ARENA, _TWO_ARENAS = -1, 0, 65536, 1, 2

LARGE_BLOCK_BYTES = 16 << 20
"""`return_large_blocks` returns larger blocks at once."""

MAX_KEPT_BYTES = 64 << 20
"""`return_large_blocks` keeps this much free memory."""

_USER_VARIABLES = frozenset(
    {"MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}
)


def keep_freed_memory() -> bool:
    """Keep freed memory for the next step of a training; return whether the C library does.

    Otherwise glibc maps each block above 32 MB again, and the kernel fills it with zeros (mallopt(3)).
    """
    return _set_parameters((_MMAP_MAX, _NO_MAPS), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, _ONE_ARENA))


def return_large_blocks() -> bool:
    """Return each large block to the system once it is freed, for predictions; return whether that is set."""
    limits = (_MMAP_MAX, _DEFAULT_MAPS), (_MMAP_THRESHOLD, LARGE_BLOCK_BYTES), (_TRIM_THRESHOLD, MAX_KEPT_BYTES)
    return _set_parameters(*limits, (_ARENA_MAX, _ONE_ARENA))


def share_arenas() -> bool:
    """Let threads share two arenas of memory: otherwise the memory of a server grows for hours."""
    return _set_parameters((_ARENA_MAX, _TWO_ARENAS))


def return_freed_memory() -> None:
    """Return free memory to the system, if the C library can."""
    if (malloc_trim := _find_function("malloc_trim")) is not None:
        malloc_trim(ctypes.c_size_t(0))


def _set_parameters(*parameters: tuple[int, int]) -> bool:
    mallopt = _find_function("mallopt")
    if mallopt is None or _USER_VARIABLES & os.environ.keys():
        return False
    return all(mallopt(*parameter) for parameter in parameters)


def _find_function(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None


# -- the library that multiplies matrices

ROUNDING = 1e-5
"""This is the largest relative error of an exact product: float32 has some 3e-7, rounding to bfloat16 2e-3."""

_SHAPES = ((1, 512, 64), (33, 512, 96), (128, 384, 128))  # rows, inputs and outputs of the tested products


@cache
def choose_matrix_products() -> bool:
    """Let torch compute products by oneDNN on an AMD processor without a GPU; return whether it does now.

    MKL, torch's default, has half the speed there. oneDNN may round to bfloat16; then MKL stays.
    """
    import torch

    if not _is_amd() or torch.cuda.is_available() or _read_precision() != "highest":
        return False
    torch.set_float32_matmul_precision("medium")
    is_exact = find_product_error() < ROUNDING
    if not is_exact:
        torch.set_float32_matmul_precision("highest")
    return is_exact


def find_product_error() -> float:
    """Return the largest relative error of some products (Frobenius norms), compared with float64."""
    import torch

    generator = torch.Generator().manual_seed(0)
    errors = list[float]()
    for rows, inputs, outputs in _SHAPES:
        x = torch.randn(rows, inputs, generator=generator, device="cpu", dtype=torch.float32)
        weight = torch.randn(outputs, inputs, generator=generator, device="cpu", dtype=torch.float32)
        exact = x.double() @ weight.double().T
        with torch.autocast("cpu", enabled=False):
            linear = torch.nn.functional.linear(x, weight)
            products = linear, torch.mm(x, weight.T), torch.bmm(x[None], weight.T[None])[0]
        errors += [float((product - exact).norm() / exact.norm()) for product in products]
    return max(errors)


def _is_amd() -> bool:
    import torch

    find = getattr(torch.cpu, "get_capabilities", None)
    return find is not None and str(find().get("cpu_name", "")).startswith("AMD")


def _read_precision() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the user set it for one library only
        return "set by the user"
