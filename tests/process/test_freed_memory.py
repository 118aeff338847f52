"""Memory that was freed is used again without new pages; what the user has set is kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stadia.process.freed_memory import keep_freed_memory

pytestmark = pytest.mark.slow

_COUNT = """
import resource, sys
import numpy as np
from stadia.process.freed_memory import keep_freed_memory, return_large_blocks

choose = {"keep": keep_freed_memory, "return": return_large_blocks, "plain": lambda: False}
kept, faults = choose[sys.argv[1]](), []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(int(sys.argv[2]) << 18, np.float32).fill(1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(kept), faults[-1])
"""


def _count_new_pages(word: str, megabytes: int = 64, **environment: str) -> tuple[bool, int]:
    """Return whether a setting was made, and the new pages of the third of three equal blocks."""
    command = [sys.executable, "-c", _COUNT, word, str(megabytes)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    kept, pages = map(int, done.stdout.split())
    return bool(kept), pages


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of Linux")
def test_a_freed_block_is_kept_or_returned_as_chosen() -> None:
    if not keep_freed_memory():
        pytest.skip("this C library has no mallopt, or the environment sets its memory")
    huge = {"NUMPY_MADVISE_HUGEPAGE": "0"}  # pages of 2 MB would be few in any case
    assert _count_new_pages("keep", **huge) <= (True, 100)
    assert _count_new_pages("plain", **huge)[1] > 1000
    assert _count_new_pages("plain", 24, **huge)[1] < 100, "glibc keeps blocks of up to 32 MB by itself"
    returned, pages = _count_new_pages("return", 24, **huge)
    assert returned
    assert pages > 1000
    assert _count_new_pages("return", 8, **huge)[1] < 100


_RETURN = """
import numpy as np
import psutil
from stadia.process.freed_memory import keep_freed_memory, return_freed_memory

keep_freed_memory()
below, above = (np.ones(size) for size in (16 << 20, 1 << 20))  # 128 and 8 MB: memory in use above stays
del below
kept = psutil.Process().memory_info().rss
return_freed_memory()
print(kept - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of Linux")
def test_kept_memory_is_returned_on_demand() -> None:
    if not keep_freed_memory():
        pytest.skip("this C library has no mallopt, or the environment sets its memory")
    done = subprocess.run([sys.executable, "-c", _RETURN], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of Linux")
@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"])
def test_what_the_user_set_is_kept(name: str) -> None:
    assert not _count_new_pages("keep", **{name: "1000000"})[0]
    assert not _count_new_pages("return", **{name: "1000000"})[0]


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stadia.process.freed_memory.ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()


_BOTH = """
import resource
import numpy as np
from stadia.process.freed_memory import keep_freed_memory, return_large_blocks

for choose in (keep_freed_memory, return_large_blocks, keep_freed_memory):
    print(choose())
    np.empty(16 << 20, np.float32).fill(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(16 << 20, np.float32).fill(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before > 1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of Linux")
def test_the_last_choice_counts() -> None:
    if not keep_freed_memory():
        pytest.skip("this C library has no mallopt, or the environment sets its memory")
    env = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    done = subprocess.run([sys.executable, "-c", _BOTH], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True", "True", "True", "False"]
