"""Free memory is the machine's, or what the limit of a container leaves; the peak counts this process and others."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from stadia.core.memory import available_memory_bytes, total_memory_bytes

GB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GB, available=32 * GB))
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path


def write_group(system: Path, lines: str) -> None:
    (system / "proc" / "self" / "cgroup").write_text(lines)


def limit(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def test_without_a_container_the_machine_counts(system: Path) -> None:
    assert (available_memory_bytes(system), total_memory_bytes(system)) == (32 * GB, 64 * GB)
    write_group(system, "0::/user.slice\n")
    limit(system / "sys/fs/cgroup/user.slice", {"memory.max": "max", "memory.current": 5 * GB})
    assert (available_memory_bytes(system), total_memory_bytes(system)) == (32 * GB, 64 * GB)


@pytest.mark.parametrize("group", ["/", "/pod/trainer"])
def test_version_2_leaves_its_limit_less_what_is_used(system: Path, group: str) -> None:
    write_group(system, f"0::{group}\n")
    stat = f"anon {4 * GB}\ninactive_file {2 * GB}"
    limit(system / "sys/fs/cgroup", {"memory.max": 8 * GB, "memory.current": 6 * GB, "memory.stat": stat})
    assert (available_memory_bytes(system), total_memory_bytes(system)) == (4 * GB, 8 * GB)


MEASURE = """
import subprocess, sys, psutil
from stadia.core.memory import peak_memory_bytes, reset_peak_memory
reset_peak_memory()
before = peak_memory_bytes()
ballast = b"x" * (200 << 20)
del ballast
freed = peak_memory_bytes() - before
reset_peak_memory()
reset = peak_memory_bytes() - before
holds = [sys.executable, "-c", "held = b'x' * (400 << 20); print('held', flush=True); input()"]
with subprocess.Popen(holds, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    assert child.stdout.readline() == b"held\\n"
    child_bytes = peak_memory_bytes() - psutil.Process().memory_info().rss
print(freed >> 20, reset >> 20, child_bytes >> 20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak")
def test_the_peak_counts_what_was_freed_and_what_children_use() -> None:
    shown = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    freed, reset, child = map(int, shown.split())  # megabytes
    assert 150 < freed < 400
    assert reset < 100
    assert child > 350
