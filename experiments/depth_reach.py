"""Measure how much of a stereo pair lies outside a depth range: the measurement of M03, on correct and wrong ranges.

    python experiments/depth_reach.py [--data FOLDER_OF_REAL_SAMPLES]

Uses the first samples of a training of `selfsup` on the demo's RoadWorld, and on KITTI odometry 06 and EuRoC if they
exist, with the default range and with others. Prints a table: matches, the share of them outside, and the finding.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from stadia.data.config import CacheConfig
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training import recipes
from stadia.training.loss_checks.init_checks import (
    MIN_OUT_OF_REACH_PX,
    check_stereo_depth_range,
    match_unlabeled_pairs,
    measure_range_excess_px,
)
from stadia.training.loss_checks.training_start import TrainingStart
from stadia.training.recipes.presets import preset_overrides
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

RANGES_M = {"by default": (), "0.1 to 2 m": (0.1, 0.5, 2), "0.5 to 8 m": (0.5, 4, 8), "20 to 100 m": (20, 50, 100)}
"""Nearest depth, that of the start, and farthest."""


def row(name: str, path: Path, words: tuple[str, ...], reach: str) -> str:
    limits = zip(("min", "init", "max"), RANGES_M[reach], strict=False)
    ranged = [f"model.{end}_depth_m={metres}" for end, metres in limits]
    given = (*words, *ranged, "model.pretrained=false", "training.workers=0")
    config, data = SelfsupRecipe.prepare(
        recipes.configure("selfsup", given, data={"path": str(path)}), Console(quiet=True)
    )
    recipe = SelfsupRecipe(config)
    recipe.save_data_stats(data)
    data.train.set_position(0, 0)
    batch = next(iter(data.train))
    start = TrainingStart.prepare(recipe, batch, depth_range_m=recipe.depth_range_m(batch.inputs.camera))
    assert start.depth_range_m is not None
    outside = (measure_range_excess_px(match_unlabeled_pairs(start), start.depth_range_m) > MIN_OUT_OF_REACH_PX).any(1)
    codes = ", ".join(found.code for found in check_stereo_depth_range(start)) or "nothing"
    return f"| {name} | {reach} | {len(outside)} | {outside.mean():.1%} | {codes} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STADIA_REAL_DATA", "../shared/data")))
    real = parser.parse_args().data
    sets = {
        "RoadWorld": (render_demo_worlds(CacheConfig()), preset_overrides("demo")),
        "KITTI odometry 06": (real / "kitti_odometry", ("data.height=192", "data.width=640")),
        "EuRoC": (real / "euroc", ("data.height=256", "data.width=384")),
    }
    print("| pair | range | matches | outside | finding |\n|---|---|---|---|---|")
    for name, (path, words) in sets.items():
        for reach in RANGES_M if path.exists() else ():
            print(row(name, path, words, reach), flush=True)
