"""Measure the time from the start of a process until a command has imported what it needs, and until its first line.

    python benchmarks/start.py [--repeats 5] [--against SRC] [--run RUN --data DATA]

Medians over the repeats, interleaved, process start and end included. The goal is 2 s. `--against`: the `src` folder of
another checkout, whose times and ratios are printed beside. `--run`, `--data`: a run and a dataset, to measure when
`check`, `predict`, `odometry` and `train` print their first line.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_S = 2.0
RECIPE = "stadia.recipes.selfsup.recipe, stadia.recipes.prediction.depth_commands"
COMMANDS = {
    "check": "stadia.recipes.prediction.requests, stadia.diagnostics.preflight.preflight_runner",
    "predict": f"stadia.recipes.prediction.recipe_commands, {RECIPE}",
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


def first_line_seconds(words: list[str]) -> float:
    """Return the time until a command has printed a line; then it is stopped."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "stadia", *words, "--out", str(Path(folder, "out"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"'{' '.join(words)}' printed nothing")
            spent = time.perf_counter() - start
            process.kill()
        return spent


def print_first_lines(run: str, data: str, repeats: int) -> None:
    commands = {
        "check": ["check", data],
        "predict": ["predict", run, data],
        "odometry": ["odometry", run, data],
        "train": ["train", "selfsup", data],
    }
    times = {name: [first_line_seconds(words) for _ in range(repeats)] for name, words in commands.items()}
    for name, found in times.items():
        here = statistics.median(found)
        print(f"{name:12} {here:.2f} s to its first line{'' if here < GOAL_S else f'  above {GOAL_S} s'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--data")
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
    if arguments.run and arguments.data:
        print_first_lines(arguments.run, arguments.data, arguments.repeats)


if __name__ == "__main__":
    main()
