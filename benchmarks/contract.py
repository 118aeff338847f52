"""What the contract takes at the start of a training, and what it says of the five recipes as they are: at most 20 s,
and nothing.

    python benchmarks/contract.py [--only selfsup ...] [--size 96 320]

Every recipe is set up as `stadia train` does it, with its own configuration but for the images' size (TableWorld and
composed images have their own) and random weights, on a small RoadWorld; nothing is trained. Prints seconds, findings
and what was not checked, by recipe, and one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import torch
from rich.console import Console

from stadia import recipes
from stadia.core import random_state
from stadia.recipes import RECIPES
from stadia.recipes.base.workflow import run_loss_checks
from stadia.synthetic.roadworld.config import TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

MOST_S = 20.0

OF_VIDEO = ("model.pretrained=false",)
SETTINGS: dict[str, tuple[str, ...]] = {
    "selfsup": OF_VIDEO,
    "selfsup d3vo": (*OF_VIDEO, "model.brightness=true", "model.uncertainty=true", "model.right_view=true"),
    "selfsup mono": (*OF_VIDEO, "data.stereo=false"),
    "metric": (*OF_VIDEO, "road.priors=roadworld"),
    "dpt": ("model.network=dpt-tiny",),
    "objectpose": (),
    "overlay": (),
}


def set_up(name: str, worlds: Path, height: int, width: int) -> tuple[Any, Any, Any]:
    """The task of a training, its configuration and its data, as `stadia train` has them before the first step."""
    recipe: Any = RECIPES.load(name.split()[0])
    of_video = recipe.recipe in ("selfsup", "metric", "dpt")
    sized = (f"data.height={height}", f"data.width={width}") if of_video else ()
    words = (*sized, *SETTINGS[name], "training.workers=0")
    config, data = recipe.prepare(
        recipes.configure(recipe.recipe, words, **({"data": {"path": str(worlds)}} if of_video else {})),
        Console(quiet=True),
    )
    random_state.seed_generators(config.seed, "training")
    task = recipe(config)
    task.save_data_stats(data)
    return task, config, data


def held(task: Any, config: Any, data: Any) -> dict[str, Any]:
    """Seconds, and the codes that were told."""
    began = time.monotonic()
    found = run_loss_checks(task, config, data, Console(quiet=True))
    told = [f"{one.code} {one.measured}" for one in found if one.code != "N01"]
    return {
        "seconds": round(time.monotonic() - began, 1),
        "found": told,
        "not checked": [one.measured for one in found if one.code == "N01"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--size", type=int, nargs=2, default=(96, 320), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    each: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        worlds = Path(folder) / "worlds"
        write_roadworld(TINY, worlds, seed=0)
        for name in arguments.only:
            each[name] = held(*set_up(name, worlds, *arguments.size))
            print(
                f"{name:<14} {each[name]['seconds']:5.1f} s   {'; '.join(each[name]['found']) or 'nothing found'}",
                flush=True,
            )
            for line in each[name]["not checked"]:
                print(f"{'':<24} not checked: {line}")
    reached = all(one["seconds"] <= MOST_S and not one["found"] for one in each.values())
    print(
        json.dumps(
            {
                "goal_s": MOST_S,
                "reached": reached,
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "each": each,
            }
        )
    )


if __name__ == "__main__":
    main()
