"""Threads, memory and products of matrices are set as measured to be faster; what the user has set is kept."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from stadia.process import cpu_settings
from stadia.process.cpu_settings import (
    ROUNDING,
    SPINS,
    choose_matrix_products,
    choose_waiting,
    find_product_error,
    keep_freed_memory,
)

# -- Threads.


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
    ],
)
def test_threads_wait_for_a_moment_unless_the_user_chose(monkeypatch, given, expected):
    monkeypatch.setattr(os, "environ", given)
    choose_waiting()
    assert os.environ == expected


# -- Memory.

_COUNT = """
import resource, sys
import numpy as np
from stadia.process.cpu_settings import keep_freed_memory, return_large_blocks

choices = {"keep": keep_freed_memory, "return": return_large_blocks, "plain": lambda: False}
for choice in sys.argv[2:]:
    chosen, faults = choices[choice](), []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(int(sys.argv[1]) << 18, np.float32).fill(1)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(chosen), faults[-1])
"""

needs_mallopt = pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of Linux")


def _count_new_pages(megabytes: int, *choices: str, **environment: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", _COUNT, str(megabytes), *choices]
    given = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment  # pages of 2 MB would be few in any case
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    chosen, pages = map(int, done.stdout.split())
    return bool(chosen), pages


@pytest.mark.slow
@needs_mallopt
def test_a_freed_block_is_kept_or_returned_as_chosen_last():
    if not keep_freed_memory():
        pytest.skip("this C library has no mallopt, or the environment sets its memory")
    assert _count_new_pages(64, "plain")[1] > 1000
    assert _count_new_pages(64, "return", "keep") <= (True, 100)
    assert _count_new_pages(24, "plain")[1] < 100, "glibc keeps blocks of up to 32 MB by itself"
    assert _count_new_pages(24, "return")[1] > 1000
    assert _count_new_pages(64, "keep", "return")[1] > 1000
    assert _count_new_pages(8, "return")[1] < 100
    for choice in ("keep", "return"):
        assert not _count_new_pages(8, choice, MALLOC_ARENA_MAX="1000000")[0], "what the user set is kept"


# -- Products of matrices.


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "AMD EPYC"}, raising=False)
    monkeypatch.setattr(cpu_settings, "find_product_error", lambda: 3e-7)
    choose_matrix_products.cache_clear()
    yield
    choose_matrix_products.cache_clear()
    monkeypatch.undo()
    torch.set_float32_matmul_precision("highest")


def test_the_error_tells_rounding_to_bfloat16_from_float32(monkeypatch):
    assert find_product_error() < ROUNDING / 5
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: mm(a.bfloat16().float(), b.bfloat16().float()))
    assert find_product_error() > 50 * ROUNDING


@pytest.mark.usefixtures("amd")
def test_an_amd_processor_multiplies_by_onednn_where_it_is_exact():
    assert choose_matrix_products()
    assert torch.get_float32_matmul_precision() == "medium"
