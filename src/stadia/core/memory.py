"""Memory that this process uses, and may use on the machine and in its container."""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

# The version of cgroups gives: folder, files of limit and usage, key of the pages that the kernel frees first.
_FILES = {
    2: ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    1: ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory_bytes(system: Path = Path("/")) -> int:
    """Return the bytes that are free on the machine and within the limit of the container.

    system: the folder of `proc` and `sys`.

    Source: the kernel's documents cgroup-v1/memory.rst and cgroup-v2.rst.
    """
    free = (limit - used for limit, used in _read_limits(system))
    return max(0, min([psutil.virtual_memory().available, *free]))


def total_memory_bytes(system: Path = Path("/")) -> int:
    """Return the bytes of the machine, or the limit of the container if that is less.

    system: the folder of `proc` and `sys`.
    """
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _read_limits(system))])


def _read_limits(system: Path) -> Iterator[tuple[int, int]]:
    for line in _read(system / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        root, limit_file, usage_file, freed = _FILES[2 if number == "0" else 1]
        for part in (group, *PurePosixPath(group).parents):
            folder = system / root / str(part).lstrip("/")
            limit, usage = _read(folder / limit_file).strip(), _read(folder / usage_file).strip()
            if limit.isdecimal() and usage.isdecimal():
                stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
                yield int(limit), int(usage) - int(stat.get(freed, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def reset_peak_memory() -> None:
    """Let `peak_memory_bytes` start again from the memory of now; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc_pid_clear_refs


def peak_memory_bytes() -> int:
    """Return the largest resident memory of this process so far, plus the memory of its children.

    Running children count with their memory of now, or the largest ended child if that is more.
    """
    this = psutil.Process()
    running = sum(_resident_bytes(child) for child in this.children(recursive=True))
    if sys.platform == "win32":
        return int(this.memory_info().peak_wset) + running
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    own, ended = (resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Linux hands the largest memory of getrusage on to a program that replaces another one; VmHWM starts anew.
    of_program = re.search(r"^VmHWM:\s*(\d+) kB", _read(Path("/proc/self/status")), re.MULTILINE)
    return (int(of_program[1]) * 1024 if of_program else own) + max(running, ended)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0
