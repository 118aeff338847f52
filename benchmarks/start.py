"""Measure the time from the start of a process until a command has imported what it needs.

    python benchmarks/start.py [--repeats 5] [--against SRC]

Medians over the repeats, interleaved, process start and end included. The goal is 2 s. `--against`: the `src` folder of
another checkout, whose times and ratios are printed beside.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

GOAL_S = 2.0
RECIPE = "stadia.recipes.selfsup.recipe, stadia.recipes.base.depth_commands"
COMMANDS = {
    "check": "stadia.recipes.base.requests, stadia.diagnostics.preflight.preflight_runner",
    "predict": f"stadia.recipes.base.recipe_commands, {RECIPE}",
    "train": f"stadia.recipes.base.workflow, {RECIPE}",
    "torch alone": "torch",
}


def seconds(modules: str, source: Path) -> float:
    """Return the wall-clock time of a process that imports the modules."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", f"import {modules}"], env={**os.environ, "PYTHONPATH": str(source)}, check=True
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path)
    arguments = parser.parse_args()
    sources = [Path(__file__).resolve().parents[1] / "src", *([arguments.against] if arguments.against else [])]
    times: dict[tuple[str, Path], list[float]] = {}
    for _ in range(arguments.repeats):
        for name, modules in COMMANDS.items():
            for source in sources:
                times.setdefault((name, source), []).append(seconds(modules, source))
    for name in COMMANDS:
        here, *there = (statistics.median(times[name, source]) for source in sources)
        beside = f", {there[0]:.2f} s there, ratio {there[0] / here:.2f}" if there else ""
        print(f"{name:12} {here:.2f} s{beside}{'' if here < GOAL_S else f'  above {GOAL_S} s'}")


if __name__ == "__main__":
    main()
