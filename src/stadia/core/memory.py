"""Memory that this process uses, and may use on the machine and in its container."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Self

import psutil

_PROCESS_CGROUPS = Path("/proc/self/cgroup")
_VERSION_2, _VERSION_1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
_FILES = {  # limit, usage, and in memory.stat the pages of files that the kernel frees first
    _VERSION_2: ("memory.max", "memory.current", "inactive_file"),
    _VERSION_1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory_bytes() -> int:
    """Return the bytes that are free on the machine and within the limit of the container.

    Source: the kernel's documents cgroup-v1/memory.rst and cgroup-v2.rst.
    """
    free = (limit - used for limit, used in _read_limits())
    return max(0, min(psutil.virtual_memory().available, *free))


def total_memory_bytes() -> int:
    """Return the bytes of the machine, or the limit of the container if that is less."""
    return min(psutil.virtual_memory().total, *(limit for limit, _ in _read_limits()))


def _read_limits() -> Iterator[tuple[int, int]]:
    yield 1 << 62, 0  # no limit
    for root, group in _find_groups():
        limit_file, usage_file, inactive = _FILES[root]
        for part in (group, *PurePosixPath(group).parents):
            folder = root / str(part).lstrip("/")
            limit, usage = _read_number(folder / limit_file), _read_number(folder / usage_file)
            if limit is not None and usage is not None:
                yield limit, usage - (_read_number(folder / "memory.stat", inactive) or 0)


def _find_groups() -> Iterator[tuple[Path, str]]:
    for line in _read(_PROCESS_CGROUPS).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" or "memory" in controllers.split(","):
            yield (_VERSION_2 if number == "0" else _VERSION_1), group


def _read_number(path: Path, key: str = "") -> int | None:
    words = [line.split() for line in _read(path).splitlines()]
    found = next((line[-1] for line in words if line and (not key or line[0] == key)), "")
    return int(found) if found.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


# -- memory that this process and its children use ---------------------------------------------------------------------

CHILDREN_INTERVAL_S = 1.0
"""Listing children more often would slow the steps down."""


class PeakMemory:
    """Record the peak resident memory of this process and its children together, every `interval_s`.

    A page shared by several processes counts for each.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        self.interval_s = interval_s
        self.bytes = 0
        self._over = threading.Event()
        self._lock = threading.Lock()  # a sample begun before `restart` would restore the old peak
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def mb(self) -> float:
        """Return the peak so far, in units of 2^20 bytes."""
        return self.bytes / (1 << 20)

    def __enter__(self) -> Self:
        self.restart()
        self._thread.start()
        return self

    def restart(self) -> None:
        """Discard the peak so far."""
        with self._lock:
            self.bytes = resident_bytes()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        processes, listed_s = list[psutil.Process](), 0.0
        while not self._over.wait(self.interval_s):
            if not processes or time.monotonic() - listed_s > CHILDREN_INTERVAL_S:
                processes, listed_s = list_processes(), time.monotonic()
            with self._lock:
                self.bytes = max(self.bytes, resident_bytes(processes))


def list_processes() -> list[psutil.Process]:
    """Return this process and its children."""
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def resident_bytes(processes: Sequence[psutil.Process] | None = None) -> int:
    """Return the resident memory of processes together; by default of this one and its children."""
    total = 0
    for process in list_processes() if processes is None else processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
            total += process.memory_info().rss
    return total
