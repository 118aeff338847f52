"""What looking costs, in one command: preflight at most 60 s, the contract at most 20 s, the watch at most 2 % of a
step.

    python benchmarks/looking.py [--data FOLDER_OF_REAL_SAMPLES] [--size 96 320]

Preflight of the data of each recipe as `stadia train` begins with it, of the demo's 40 drives and of the real samples
that are there; the contract of each recipe (benchmarks/contract.py); the watch against the shortest step
(benchmarks/watch.py). Prints a line each, and one JSON object; exits with 1 where one takes longer than it may. What is
told is the matter of benchmarks/silence.py.
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

import contract
import preflight
import torch
import watch

from stadia.datasets.config import CacheConfig
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.preflight import preflight_runner
from stadia.synthetic.roadworld.config import TINY
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds, write_roadworld

PREFLIGHT_S = 60.0


def seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return round(time.monotonic() - began, 1)


def told(what: str, name: str, seconds: float) -> float:
    print(f"{what:<10} {name:<28} {seconds:5.1f} s", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=preflight.REAL_DATA)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 320), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    before: dict[str, float] = {}
    held: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_roadworld(TINY, Path(folder), seed=0)
        for name in contract.SETTINGS:
            task, config, data = contract.set_up(name, Path(folder), *arguments.size)
            before[name] = told("preflight", name, seconds_of(data.findings))
            held[name] = told("contract", name, contract.held(task, config, data)["seconds"])
    drives = open_recordings(render_demo_worlds(CacheConfig()))
    before["demo"] = told(
        "preflight", f"{len(drives)} drives of the demo", seconds_of(partial(preflight_runner.run_preflight, drives))
    )
    for recording in preflight.real_recordings(arguments.data):
        before[recording.name] = told(
            "preflight", recording.name, seconds_of(partial(preflight_runner.run_preflight, [recording]))
        )
    torch.set_num_threads(1)
    cost_s, step_s, _ = watch.measured(300)
    print(f"{'watch':<10} {'of a step of dpt-tiny':<28} {cost_s / step_s:5.2%}")
    reached = {
        "preflight": max(before.values()) <= PREFLIGHT_S,
        "contract": max(held.values()) <= contract.MOST_S,
        "watch": cost_s <= watch.MOST * step_s,
    }
    print(
        json.dumps(
            {
                "reached": reached,
                "preflight_s": before,
                "contract_s": held,
                "watch_of_step": round(cost_s / step_s, 5),
                "cores": os.cpu_count(),
            }
        )
    )
    sys.exit(not all(reached.values()))


if __name__ == "__main__":
    main()
