"""Measure the cost of all checks: preflight at most 60 s, loss checks at most 20 s, monitors at most 2 % of a step.

    python benchmarks/check_costs.py [--data FOLDER_OF_REAL_SAMPLES] [--size 96 320]

Preflight runs on the data of each recipe, on the 40 drives of the demo and on the real samples that are available. Loss
checks run for each recipe (benchmarks/loss_checks.py), and monitors against the shortest step (benchmarks/monitors.py).
Prints a line each, and one JSON object; exits with 1 where one takes too long. benchmarks/false_alarms.py checks what
they report.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import loss_checks
import monitors
import preflight
import torch
from harness import REAL_DATA

from stadia.data.config import CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.judge.recordings import preflight_runner
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds, write_roadworld

MAX_PREFLIGHT_SECONDS = 60.0


def measure_seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return round(time.monotonic() - began, 1)


def report(what: str, name: str, seconds: float) -> float:
    """Print a line of the table, and return the seconds."""
    print(f"{what:<12} {name:<28} {seconds:5.1f} s", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 320), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    preflight_s: dict[str, float] = {}
    loss_checks_s: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_roadworld(ROADWORLD_TINY, Path(folder), seed=0)
        for name in loss_checks.SETTINGS:
            recipe, config, data = loss_checks.set_up(name, Path(folder), *arguments.size)
            preflight_s[name] = report("preflight", name, measure_seconds(data.findings))
            seconds = loss_checks.measure_loss_checks(recipe, config, data)["seconds"]
            loss_checks_s[name] = report("loss checks", name, seconds)
    drives = open_recordings(render_demo_worlds(CacheConfig()))
    preflight_s["demo"] = report(
        "preflight",
        f"{len(drives)} drives of the demo",
        measure_seconds(partial(preflight_runner.run_preflight, drives)),
    )
    for recording in preflight.real_recordings(arguments.data):
        preflight_s[recording.name] = report(
            "preflight", recording.name, measure_seconds(partial(preflight_runner.run_preflight, [recording]))
        )
    torch.set_num_threads(1)
    cost_s, step_s, _ = monitors.measure_monitors(300)
    print(f"{'monitors':<12} {'of a step of dpt-tiny':<28} {cost_s / step_s:5.2%}")
    reached = {
        "preflight": max(preflight_s.values()) <= MAX_PREFLIGHT_SECONDS,
        "loss_checks": max(loss_checks_s.values()) <= loss_checks.MAX_SECONDS,
        "monitors": cost_s <= monitors.MAX_SHARE * step_s,
    }
    print(
        json.dumps(
            {
                "reached": reached,
                "preflight_s": preflight_s,
                "loss_checks_s": loss_checks_s,
                "monitors_of_step": round(cost_s / step_s, 5),
                "cores": os.cpu_count(),
            }
        )
    )
    sys.exit(not all(reached.values()))


if __name__ == "__main__":
    main()
