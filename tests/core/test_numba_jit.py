"""Kernels compile with a cache and without one, and nobody pays for Numba who runs none."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numba
import pytest

from stadia.core import numba_jit


def test_kernels_compile_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_cache(function: object, *, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available for file 'kernels.py'")
        return numba.njit(function, **options)

    monkeypatch.setattr(numba_jit, "njit", without_cache)

    @numba_jit.compile_loops
    def double(x: float) -> float:
        return 2 * x

    assert double(3.0) == 6.0


def test_arithmetic_is_exact_without_fastmath() -> None:
    @numba_jit.compile_loops
    def exact(big: float, small: float) -> float:
        return (big + small) - big

    @partial(numba_jit.compile_loops, fastmath={"reassoc", "nsz"})
    def reordered(big: float, small: float) -> float:
        return (big + small) - big

    assert exact(1e16, 1.0) == 0.0  # rounded, as Python has it
    assert reordered(1e16, 1.0) == 1.0


def test_a_configuration_needs_no_numba() -> None:
    program = """
import sys
from stadia.recipes import configure
configure("selfsup", data={"path": "x"})
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
