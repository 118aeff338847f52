"""Measure the time of `stadia --help`, and that of each command, in a fresh process.

    python benchmarks/help.py [--repeats 7] [--json FILE]

Medians over the repeats, interleaved. The goal is 0.3 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from stadia.cli.main import app

GOAL_S = 0.3


def commands() -> list[str]:
    """Return the names of all commands and groups."""
    named = [
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback
    ]
    return named + [str(group.name) for group in app.registered_groups]


def seconds(words: list[str]) -> float:
    """Return the wall-clock time of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "stadia", *words, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    lines = [[], *([name] for name in commands())]
    taken: dict[str, list[float]] = {}
    for _ in range(arguments.repeats):
        for words in lines:
            taken.setdefault(" ".join(["stadia", *words, "--help"]), []).append(seconds(words))
    medians = {line: round(statistics.median(times), 3) for line, times in taken.items()}
    for line, median in medians.items():
        print(f"{line:24} {median:.3f} s{'' if median < GOAL_S else f'  above {GOAL_S} s'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(medians, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
