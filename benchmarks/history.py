r"""Keep the ratios that benchmarks measure, one line of JSON each, and flag a regression.

    python benchmarks/peers.py --monodepth2 CLONE --history benchmarks/history.jsonl     # adds a line
    python benchmarks/history.py [--file benchmarks/history.jsonl] [--tolerance 0.1]     # exits with 1 at a regression

An entry holds ratios of one run, which depend little on how busy a machine is, and the kind of the machine: processor,
cores, threads. Its newest value is compared with the median of the earlier entries of the same benchmark, settings and
kind. "higher" or "lower" is better; a change for the worse by more than the tolerance is a regression.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

HISTORY = Path(__file__).with_name("history.jsonl")
TOLERANCE = 0.1
MIN_ENTRIES = 2
"""Earlier entries, below which nothing is flagged."""

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Entry:
    """One run of a benchmark. ratios: name -> value.  better: name -> which direction is better."""

    benchmark: str
    settings: str
    machine: str
    ratios: Mapping[str, float]
    better: Mapping[str, Better]
    time: str
    commit: str
    is_busy: bool = False


@dataclass(frozen=True)
class Change:
    """The newest value of a ratio against the median of the earlier ones."""

    benchmark: str
    settings: str
    name: str
    value: float
    median: float
    entries: int
    is_regression: bool


def describe_machine(threads: int) -> str:
    """Return the kind of this machine: processor, cores of this process, threads of torch."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} cores, {threads} threads"


def add_entry(
    file: Path,
    benchmark: str,
    settings: str,
    ratios: Mapping[str, float],
    better: Mapping[str, Better],
    *,
    threads: int,
    is_busy: bool = False,
) -> Entry:
    """Append an entry of this machine and commit."""
    if missing := ratios.keys() ^ better.keys():
        raise ValueError(f"no value or no direction of {', '.join(sorted(missing))}")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    numbers = {name: round(value, 4) for name, value in ratios.items()}
    entry = Entry(benchmark, settings, describe_machine(threads), numbers, dict(better), now, _read_commit(), is_busy)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(entry)) + "\n")
    return entry


def _read_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def read_entries(file: Path) -> list[Entry]:
    """Return the entries of a file, oldest first."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Entry(**json.loads(line)) for line in lines if line.strip()]


def find_changes(entries: Iterable[Entry], tolerance: float = TOLERANCE) -> list[Change]:
    """Compare the newest entry of each benchmark, settings and machine with the earlier ones, without busy ones."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        if not entry.is_busy:
            groups.setdefault((entry.benchmark, entry.settings, entry.machine), []).append(entry)
    return [change for group in groups.values() for change in _compare_newest(group, tolerance)]


def _compare_newest(group: Sequence[Entry], tolerance: float) -> list[Change]:
    *earlier, newest = group
    changes = []
    for name, value in newest.ratios.items():
        before = [entry.ratios[name] for entry in earlier if name in entry.ratios]
        median = statistics.median(before) if before else value
        is_higher_better = newest.better[name] == "higher"
        is_worse = value < median / (1 + tolerance) if is_higher_better else value > median * (1 + tolerance)
        is_regression = is_worse and len(before) >= MIN_ENTRIES
        changes.append(
            Change(newest.benchmark, newest.settings, name, value, median, len(before), is_regression=is_regression)
        )
    return changes


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=HISTORY)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    arguments = parser.parse_args(words)
    changes = find_changes(read_entries(arguments.file), arguments.tolerance)
    if not changes:
        print(f"{arguments.file}: no entries")
    for one in changes:
        mark = "  REGRESSION" if one.is_regression else ""
        before = f"median of {one.entries} earlier {one.median:.3f}" if one.entries else "the first"
        print(f"{one.benchmark:10} {one.settings:28} {one.name:34} {one.value:7.3f}  {before}{mark}")
    return 1 if any(one.is_regression for one in changes) else 0


def add_history_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --history of a benchmark."""
    parser.add_argument("--history", type=Path, metavar="FILE", help="append the ratios to this file (history.py)")


def record(
    arguments: argparse.Namespace, benchmark: str, settings: str, ratios: Mapping[str, Any], better: Better, **of: Any
) -> None:
    """Append ratios of one direction where the option --history was given."""
    if arguments.history:
        numbers = {name: float(value) for name, value in ratios.items()}
        add_entry(arguments.history, benchmark, settings, numbers, dict.fromkeys(numbers, better), **of)


if __name__ == "__main__":
    sys.exit(main())
