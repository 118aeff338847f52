"""Free memory is that of the machine, or what a container's limit leaves."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from stadia.core import memory
from stadia.core.memory import available_memory_bytes, total_memory_bytes

GB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    machine = SimpleNamespace(total=64 * GB, available=32 * GB)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: machine)
    roots = {memory._VERSION_2: tmp_path, memory._VERSION_1: tmp_path / "memory"}
    monkeypatch.setattr(memory, "_FILES", {roots[old]: names for old, names in memory._FILES.items()})
    monkeypatch.setattr(memory, "_VERSION_2", tmp_path)
    monkeypatch.setattr(memory, "_VERSION_1", tmp_path / "memory")
    monkeypatch.setattr(memory, "_PROCESS_CGROUPS", tmp_path / "cgroup")
    return tmp_path


def limit(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def test_without_a_container_the_machine_counts(machine: Path) -> None:
    assert (available_memory_bytes(), total_memory_bytes()) == (32 * GB, 64 * GB)
    (machine / "cgroup").write_text("0::/user.slice\n")
    limit(machine / "user.slice", {"memory.max": "max", "memory.current": 5 * GB})
    assert (available_memory_bytes(), total_memory_bytes()) == (32 * GB, 64 * GB)


@pytest.mark.parametrize("group", ["/", "/pod/trainer"])
def test_version_2_leaves_its_limit_less_what_is_used(machine: Path, group: str) -> None:
    (machine / "cgroup").write_text(f"0::{group}\n")
    stat = f"anon {4 * GB}\ninactive_file {2 * GB}"
    limit(machine, {"memory.max": 8 * GB, "memory.current": 6 * GB, "memory.stat": stat})
    assert (available_memory_bytes(), total_memory_bytes()) == (4 * GB, 8 * GB)


def test_version_1_leaves_its_limit_less_what_is_used(machine: Path) -> None:
    (machine / "cgroup").write_text("5:devices:/\n4:memory:/docker/0a1b\n0::/\n")
    stat = f"inactive_file 0\ntotal_inactive_file {1 * GB}"
    files = {"memory.limit_in_bytes": 8 * GB, "memory.usage_in_bytes": 6 * GB, "memory.stat": stat}
    limit(machine / "memory", files)
    assert (available_memory_bytes(), total_memory_bytes()) == (3 * GB, 8 * GB)
    limit(machine / "memory", {"memory.limit_in_bytes": 9223372036854771712})
    assert (available_memory_bytes(), total_memory_bytes()) == (32 * GB, 64 * GB)
