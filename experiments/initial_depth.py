"""Train on the 51 stereo pairs of KITTI odometry 06 from several initial depths, and compare with semi-global matching.

    python experiments/initial_depth.py --starts 3 12 80 [--head-std 0.1] [loss.pyramid=4 ...]

ResNet-18 from random weights on the stereo pair alone, 224x64, Adam at 1e-4, one thread. Prints one JSON object for
each start: the median relative difference to OpenCV's matcher (`real_stereo.py`) on three pairs, and the median depth
and the auto-masked share every 25 steps.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real_stereo import NEARER_THAN_M, semi_global_matching
from rich.console import Console

from stadia import recipes
from stadia.core import seeds
from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.datasets.open_dataset import open_recordings
from stadia.geometry.camera import resize
from stadia.geometry.depth_maps import depth_from_inverse, resize_map
from stadia.recipes.selfsup.recipe import SelfsupRecipe

SETTINGS = (
    "data.height=64",
    "data.width=224",
    "data.offsets=[]",
    "data.split_by.val_share=0",
    "model.pretrained=false",
    "model.min_depth_m=0.1",
    "training.batch_size=4",
    "training.workers=0",
)
SCORED = (5, 25, 45)
LR, LOG_EVERY = 1e-4, 25


def train(recipe: SelfsupRecipe, data: Any, steps: int) -> list[tuple[float, float]]:
    """Train; return the median depth and the auto-masked share every LOG_EVERY steps."""
    optimizer = torch.optim.Adam(recipe.parameters(), LR)
    step, epoch, log = 0, 0, list[tuple[float, float]]()
    while step < steps:
        data.train.set_position(epoch, 0)
        epoch += 1
        for batch in data.train:
            report = recipe.view_synthesis(batch, recipe.model(batch), step)
            optimizer.zero_grad()
            report.total.backward()
            optimizer.step()
            step += 1
            if step % LOG_EVERY == 0:
                values = (float(report.logged[name]) for name in ("depth/median", "auto_masked"))
                log.append(tuple(round(value, 2) for value in values))  # type: ignore[arg-type]
            if step == steps:
                break
    return log


@torch.no_grad()
def compare(recipe: SelfsupRecipe, recording: Recording, matched: dict[int, NDArray[np.float64]]) -> float:
    """Return the median relative difference to the matched depth (H, W), 0 where unknown, of some frames."""
    recipe.eval()
    differences = []
    for index, matched_m in matched.items():
        camera = recording.camera(index)
        image = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None].float() / 255
        small, _ = resize(image, camera, recipe.height, recipe.width)
        inverse_depth = resize_map(recipe.maps(small).inverse_depth, camera.height, camera.width)
        depth_m = depth_from_inverse(inverse_depth)[0, 0].numpy()
        known = matched_m > 0
        differences.append(np.abs(depth_m - matched_m)[known] / matched_m[known])
    return float(np.median(np.concatenate(differences)))


def match(recording: Recording, index: int) -> NDArray[np.float64]:
    """Return the depth (H, W) of the matcher in metres, 0 where it is not confident or too far."""
    assert recording.T_right_left is not None
    disparity_px = semi_global_matching(recording.image(index, LEFT), recording.image(index, RIGHT))
    baseline_m = -float(recording.T_right_left[0, 3])
    depth_m = float(recording.camera(index).fx) * baseline_m / np.maximum(disparity_px, 1e-6)
    return np.where((disparity_px > 0) & (depth_m < NEARER_THAN_M), depth_m, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", default=real, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--starts", nargs="+", default=["auto"], help="values of model.init_depth_m")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head-std", type=float, help="of the initial weights of the depth heads, default 0.01")
    arguments, overrides = parser.parse_known_args()

    torch.set_num_threads(1)
    path = str(Path(arguments.data) / "kitti_odometry")
    (recording,) = open_recordings(path)
    matched = {index: match(recording, index) for index in SCORED}
    for start in arguments.starts:
        began_s = time.process_time()
        settings = (*SETTINGS, f"model.init_depth_m={start}", *overrides)
        config, data = SelfsupRecipe.prepare(
            recipes.configure("selfsup", settings, data={"path": path}), Console(quiet=True)
        )
        seeds.seed_generators(arguments.seed, "training")
        recipe = SelfsupRecipe(config)
        if arguments.head_std is not None:
            for head in recipe.model.depth.decoder.heads.values():
                torch.nn.init.normal_(head.weight, std=arguments.head_std)  # type: ignore[arg-type]
        log = train(recipe.train(), data, arguments.steps)
        result = {
            "start": start,
            "init_depth_m": config.model.init_depth_m,
            "steps": arguments.steps,
            "median_relative_difference": round(compare(recipe, recording, matched), 3),
            "median_depth_m, auto_masked": log,
            "cpu_s": round(time.process_time() - began_s),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
