"""Train `metric` on the drive of KITTI raw from the network of the package, and judge its metres by LiDAR.

    stadia prepare KITTI_RAW --masks --by deeplab_cityscapes.tflite --out kitti-masks
    python experiments/metric_kitti.py OUT --data KITTI_RAW --masks kitti-masks --cases start mixed tight known

Cases: `start`, no training; `mixed`, the default prior of a car (1.710 m); `tight`, the mean of KITTI's own boxes
(1.526 m), which is a label of this data set: for the cause, not for a score; `known`, the camera height of 1.65 m is
given; `objects`, no height by silhouettes. The car moves by 0.1 m a frame, so that the neighbors are `--offset` frames
away.

Prints a line of JSON for each: the camera height that the training learned, the same in the predicted depth of the
frames, and the depth over that of LiDAR without scaling (median over frames of the median of the ratio, nearer than 80
m, and of the road and of the cars alone).
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

from stadia import launch, recipes
from stadia.core.types import Predictor
from stadia.datasets.mask_files import attach_masks
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.finding import OnStop
from stadia.geometry.camera import resize
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.ground.road_plane import road_pixel_heights
from stadia.losses.metric_scale import erode_road_mask
from stadia.recipes.base.network_checkpoint import open_network_checkpoint
from stadia.recipes.metric.recipe import MetricRecipe

TRUE_M, CAP_M = 1.65, 80.0
SIZE = (128, 416)
SETTINGS = (
    *(f"data.height={SIZE[0]}", f"data.width={SIZE[1]}", "model.network=base", "model.pose_net=correlation"),
    *("training.max_epochs=null", "training.batch_size=3", "training.clip_norm=1.0", "training.threads=1"),
    *("training.workers=0", "training.log_every=25", "training.validate_every=1000000", "training.images_every=0"),
    *("training.check_seconds=0", "schedule.warmup_steps=20", "optimizer.lr=2e-4", 'training.loggers=["csv"]'),
)


def case_overrides(case: str) -> tuple[str, ...]:
    """Return the overrides of a case."""
    car = {"mean_m": 1.526, "spread_m": 0.12, "source": "the mean of KITTI's boxes, to find the cause"}
    return {
        "mixed": (),
        "tight": (f"road.priors={json.dumps({'car': car})}",),
        "known": (f"heights.known_m={{0: {TRUE_M}}}", "heights.last_epoch=-1"),
        "objects": ("first_height=depth",),
    }[case]


@torch.no_grad()
def score(predictor: Predictor, data: Path, masks: Path) -> dict[str, float]:
    """Return the camera height in the predicted depth of all frames, and the ratio of depth to LiDAR."""
    (recording,) = open_recordings(data)
    attach_masks([recording], masks)
    assert recording.mask_reader is not None
    numbers = {name: number for number, name in recording.mask_reader.classes.items()}
    heights: list[float] = []
    ratios: dict[str, list[float]] = {"all": [], "road": [], "car": []}
    for index in range(len(recording)):
        image = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None].float() / 255
        true_m, mask = recording.depth_m(index), recording.masks(index)
        assert true_m is not None
        assert mask is not None
        small, camera = resize(image, recording.camera(index), predictor.height, predictor.width)
        depth = depth_from_inverse(predictor.inverse_depth(small, camera).cpu().float())
        semantic = torch.from_numpy(mask.semantic.astype(np.float32))[None, None]
        road = torch.nn.functional.interpolate(semantic, depth.shape[-2:], mode="nearest-exact") == numbers["road"]
        heights.append(float(road_pixel_heights(depth, camera, erode_road_mask(road)).median_height))
        full = torch.nn.functional.interpolate(depth, true_m.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
        known = (true_m > 0) & (true_m < CAP_M)
        for name, values in ratios.items():
            counted = known if name == "all" else known & (mask.semantic == numbers[name])
            if counted.sum() > 20:
                values.append(float(np.median(full[counted] / true_m[counted])))
    return {
        "seen_camera_m": round(float(np.nanmedian(heights)), 3),
        **{f"ratio_{name}": round(float(np.median(values)), 3) for name, values in ratios.items()},
    }


def run(case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one case and score it."""
    if case == "start":
        predictor = recipes.load_predictor(open_network_checkpoint(Path("base"), lambda: SIZE, ()))
        return {"case": case, **score(predictor, arguments.data, arguments.masks)}
    overrides = (
        *SETTINGS,
        f"data.offsets=[{-arguments.offset},{arguments.offset}]",
        f"training.max_steps={arguments.steps}",
        f"road.masks={json.dumps(str(arguments.masks.resolve()))}",
        *case_overrides(case),
        *arguments.overrides,
    )
    config = recipes.configure("metric", overrides, seed=arguments.seed, data={"path": str(arguments.data)})
    started = time.perf_counter()
    finished = launch.train(config, out=arguments.out / "runs", on_stop=OnStop.WARN)
    predictor = recipes.load_predictor(finished.folder / "checkpoints" / "last.safetensors")
    recipe = predictor.recipe  # type: ignore[attr-defined]
    assert isinstance(recipe, MetricRecipe)
    return {
        "case": case,
        "camera_m": round(float(recipe.camera_height_m[0]), 3),
        "first_camera_m": dict(recipe.config.heights.known_m),
        **score(predictor, arguments.data, arguments.masks),
        "depth_scale": str(recipe.depth_scale),
        "steps": arguments.steps,
        "offset": arguments.offset,
        "overrides": arguments.overrides,
        "seed": arguments.seed,
        "cores": len(os.sched_getaffinity(0)),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "run": finished.folder.name,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    cases = ["start", "mixed", "tight", "known", "objects"]
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--offset", type=int, default=5, help="frames between an image and its neighbors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overrides", nargs="*", default=[], help="of the configuration, key=value")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for case in arguments.cases:
        line = run(case, arguments)
        with (arguments.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
