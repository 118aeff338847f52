"""Memory that this process may use: of the machine, and of the container that limits it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

from stadia.core.errors import StadiaError
from stadia.files.input_files import read_text

_PROCESS_CGROUPS = Path("/proc/self/cgroup")
_VERSION_2, _VERSION_1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
_FILES = {  # limit, usage, and in memory.stat the pages of files that the kernel frees first
    _VERSION_2: ("memory.max", "memory.current", "inactive_file"),
    _VERSION_1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory_bytes() -> int:
    """Return the bytes that can still be used: free on the machine, and within the limit of the container.

    A container's use counts as docker and kubernetes count it, without inactive pages of files.
    Source: the kernel's documents cgroup-v1/memory.rst and cgroup-v2.rst.
    """
    free = (limit - used for limit, used in _read_limits())
    return max(0, min(psutil.virtual_memory().available, *free))


def total_memory_bytes() -> int:
    """Return the bytes of the machine, or the limit of the container where that is less."""
    return min(psutil.virtual_memory().total, *(limit for limit, _ in _read_limits()))


def _read_limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use of the groups that hold this process, each and its parents; none on other systems."""
    yield 1 << 62, 0  # no limit
    for root, group in _find_groups():
        limit_file, usage_file, inactive = _FILES[root]
        for part in (group, *PurePosixPath(group).parents):
            folder = root / str(part).lstrip("/")
            limit, usage = _read_number(folder / limit_file), _read_number(folder / usage_file)
            if limit is not None and usage is not None:
                yield limit, usage - (_read_number(folder / "memory.stat", inactive) or 0)


def _find_groups() -> Iterator[tuple[Path, str]]:
    """Yield the root of each version of control groups, and the path of this process's group below it."""
    for line in _read(_PROCESS_CGROUPS).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" or "memory" in controllers.split(","):
            yield (_VERSION_2 if number == "0" else _VERSION_1), group


def _read_number(path: Path, key: str = "") -> int | None:
    """Return the number of a file, or of its line `key`; None without the file, or without a limit ("max")."""
    words = [line.split() for line in _read(path).splitlines()]
    found = next((line[-1] for line in words if line and (not key or line[0] == key)), "")
    return int(found) if found.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return read_text(path, expected="a control group's file")
    except StadiaError:
        return ""
