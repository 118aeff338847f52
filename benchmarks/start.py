"""Measure the time of each `--help`, of the imports of a command, and until its first line.

    python benchmarks/start.py [--repeats 5] [--help-only] [--run RUN --data DATA]
    python benchmarks/start.py --photo PHOTO [--before SRC]

Medians over the repeats, interleaved, process start and end included. The goals are 0.3 s for a help and 2 s for a
first line. `--run`, `--data`: a run and a dataset, to measure when `check`, `predict`, `odometry` and `train` print
their first line.

`--photo`: measure the processor time of `stadia predict PHOTO` from the shell to the files, after one run that compiles
the modules. `--before` is the folder `src` of another version, which takes turns.

`--result RESULT --images FOLDER`: measure the processor time until `stadia check RESULT --images FOLDER` opens the
first image.
"""

# mypy: disable-error-code="union-attr"

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import run_command

from stadia.cli.main import app

HELP_GOAL_S, GOAL_S = 0.3, 2.0
RECIPE = "stadia.training.recipes.selfsup.recipe, stadia.predict.tasks"
COMMANDS = {
    "check": "stadia.predict.options, stadia.judge.recordings.preflight_runner",
    "predict": f"stadia.predict.tasks, {RECIPE}",
    "train": f"stadia.training.workflow, {RECIPE}",
    "torch alone": "torch",
}


def list_helps() -> dict[str, list[str]]:
    """Return the words of `stadia --help` and of the help of each command and group, by their line."""
    commands = [command for command in app.registered_commands if command.callback]
    names = [command.name or command.callback.__name__.replace("_", "-") for command in commands]
    names += [str(group.name) for group in app.registered_groups]
    return {" ".join(["stadia", *words, "--help"]): [*words, "--help"] for words in ([], *([name] for name in names))}


def seconds(*words: str) -> float:
    """Return the wall-clock time of a process of Python."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def print_medians(processes: dict[str, list[str]], repeats: int, goal_s: float) -> None:
    """Print the median time of each process; the processes take turns."""
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, words in processes.items():
            times.setdefault(name, []).append(seconds(*words))
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:24} {median:.3f} s{'' if median < goal_s else f'  above {goal_s} s'}")


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


PHOTO_GOAL_S, IMAGE_GOAL_S = 2.5, 0.8
FIRST_IMAGE = """
import os, sys, time
from pathlib import Path

folder = sys.argv[sys.argv.index("--images") + 1]


def stop(event, arguments):
    if event == "open" and str(arguments[0]).startswith(folder) and Path(str(arguments[0])).is_file():
        print(time.process_time(), flush=True)
        os._exit(0)


sys.addaudithook(stop)
from stadia.__main__ import main

main()
"""
"""A program that runs a command until it opens the first file of `--images`."""


def print_first_image(result: str, images: str, repeats: int) -> None:
    """Print the processor seconds until `stadia check` opens the first image."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        words = [sys.executable, "-c", FIRST_IMAGE, "check", result, "--images", images]
        runs = [run_command(*words, **environment) for _ in range(repeats + 1)]
    median = statistics.median(float(run.output.split()[-1]) for run in runs[1:])
    goal = "" if median < IMAGE_GOAL_S else f"  above {IMAGE_GOAL_S} s"
    print(f"check RESULT --images: {median:.2f} s of processor until the first image{goal}")


def print_photo(photo: Path, before: str, repeats: int) -> None:
    """Print the processor seconds of a prediction of a photo by `base`."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats + 1):
            for version, source in (("now", ""), ("before", before)):
                if version == "before" and not source:
                    continue
                environment = {"PYTHONPYCACHEPREFIX": f"{folder}/compiled", "PYTHONDONTWRITEBYTECODE": ""}
                environment |= {"PYTHONPATH": source} if source else {}
                words = ("predict", photo, "--out", f"{folder}/{version}-{number}")
                run = run_command(sys.executable, "-m", "stadia", *words, **environment)
                times.setdefault(version, []).append(run.cpu_s)
    for version, measured in times.items():
        median = statistics.median(measured[1:])
        goal = "" if median < PHOTO_GOAL_S else f"  above {PHOTO_GOAL_S} s"
        print(f"predict PHOTO, {version:8} {median:.2f} s of processor{goal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--help-only", action="store_true")
    parser.add_argument("--run")
    parser.add_argument("--data")
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--before", default="")
    parser.add_argument("--result")
    parser.add_argument("--images")
    arguments = parser.parse_args()
    if arguments.result is not None:
        print_first_image(arguments.result, arguments.images, arguments.repeats)
        return
    if arguments.photo is not None:
        print_photo(arguments.photo, arguments.before, arguments.repeats)
        return
    print_medians(
        {line: ["-m", "stadia", *words] for line, words in list_helps().items()}, arguments.repeats, HELP_GOAL_S
    )
    if arguments.help_only:
        return
    print_medians({name: ["-c", f"import {modules}"] for name, modules in COMMANDS.items()}, arguments.repeats, GOAL_S)
    if arguments.run and arguments.data:
        print_first_lines(arguments.run, arguments.data, arguments.repeats)


if __name__ == "__main__":
    main()
