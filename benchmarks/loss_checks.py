"""Measure the loss checks at the start of a training of each recipe: at most 20 s, and no finding.

    python benchmarks/loss_checks.py [--only selfsup ...] [--size 96 320]

Every recipe is set up as by `stadia train` on a small RoadWorld, with random weights and its own configuration except
for the size of the images. Nothing is trained. Prints seconds, findings and what was not checked, by recipe, and one
JSON object.
"""

# mypy: disable-error-code="arg-type, attr-defined"

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
import torch
from rich.console import Console

from stadia.differentiable import torch_state
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training import recipes
from stadia.training.recipes import RECIPES
from stadia.training.start_checks import run_loss_checks

MAX_SECONDS = 20.0

VIDEO_SETTINGS = ("model.pretrained=false",)
D3VO = ("model.brightness=true", "model.network.uncertainty=true", "model.network.right_view=true")
SETTINGS: dict[str, tuple[str, ...]] = {
    "selfsup": VIDEO_SETTINGS,
    "selfsup d3vo": (
        *VIDEO_SETTINGS,
        "model.brightness=true",
        "model.network.uncertainty=true",
        "model.network.right_view=true",
    ),
    "selfsup mono": (*VIDEO_SETTINGS, "data.stereo=false"),
    "metric": (*VIDEO_SETTINGS, "road.priors=roadworld"),
    "supervised": ("model.network=dpt", "model.network.size=tiny"),
    "objectpose": (),
    "overlay": (),
}


def set_up(name: str, worlds: Path, height: int, width: int) -> tuple[Any, Any, Any]:
    """Return the recipe of a training, its configuration and its data, as they are before the first step."""
    recipe_class: Any = RECIPES.load(name.split()[0])
    is_video = recipe_class.recipe in ("selfsup", "metric", "supervised")
    sized = (f"data.height={height}", f"data.width={width}") if is_video else ()
    overrides = (*sized, *SETTINGS[name], "training.workers=0")
    config, data = recipe_class.prepare(
        recipes.configure(recipe_class.recipe, overrides, **({"data": {"path": str(worlds)}} if is_video else {})),
        Console(quiet=True),
    )
    torch_state.seed_generators(config.seed, "training")
    recipe = recipe_class(config)
    recipe.save_data_stats(data)
    return recipe, config, data


def measure_loss_checks(recipe: Any, config: Any, data: Any) -> dict[str, Any]:
    """Return seconds, findings, and what could not be checked."""
    began = time.monotonic()
    found = run_loss_checks(recipe, config, data, Console(quiet=True))
    reported = [f"{one.code} {one.measured}" for one in found if one.code != "N01"]
    return {
        "seconds": round(time.monotonic() - began, 1),
        "found": reported,
        "not checked": [one.measured for one in found if one.code == "N01"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--size", type=int, nargs=2, default=(96, 320), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        worlds = Path(folder) / "worlds"
        write_roadworld(ROADWORLD_TINY, worlds, seed=0)
        for name in arguments.only:
            results[name] = measure_loss_checks(*set_up(name, worlds, *arguments.size))
            found = "; ".join(results[name]["found"]) or "no findings"
            print(f"{name:<14} {results[name]['seconds']:5.1f} s   {found}", flush=True)
            for line in results[name]["not checked"]:
                print(f"{'':<24} not checked: {line}")
    reached = all(one["seconds"] <= MAX_SECONDS and not one["found"] for one in results.values())
    print(
        json.dumps(
            {
                "goal_s": MAX_SECONDS,
                "reached": reached,
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "each": results,
            }
        )
    )


if __name__ == "__main__":
    main()
