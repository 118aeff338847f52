r"""Measure the scale that the recipe `metric` learns from mono video of RoadWorld: one training per case, on test
worlds.

    python experiments/metric_roadworld.py OUT --cases off --steps 3000 --overrides loss.pyramid=4
    python experiments/metric_roadworld.py OUT --cases plain bad prior --cameras 1.65 1.2 2.1 1.2,1.65,2.1 \
        --start OUT/runs/THAT_RUN

From random weights depth and motion must be learned first, so every case starts from one training without a scale: the
first line.

Cases: `plain`; `off`, without the recipe's part (both weights 0); `bad`, 30 % of the objects with a wrong height (half
or twice as high, by masks/heights.json); `prior`, a prior that is 5 % too high. Several cameras, with commas, are
worlds of each in one data set. Prints a line of JSON per training: the error of the camera height, learned and in the
predicted depth of unseen worlds, abs_rel without scaling and by the ratio of medians, with steps, seed and cores.
Masks and class heights are RoadWorld's. Its depth is used for scores alone.
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

from stadia import training
from stadia.core.types import LEFT, Predictor
from stadia.data.height_priors import PRIORS
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.images import camera_to_torch, resize
from stadia.geometry.cameras import depth_from_inverse, resize_camera
from stadia.geometry.ground.road_plane import erode_mask, road_pixel_heights
from stadia.judge.finding import OnStop
from stadia.metrics.depth_metrics import abs_rel
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training import recipes
from stadia.training.recipes.metric.recipe import MetricRecipe

CAP_M, WRONG = 80.0, 0.3
SMALL = (
    *("data.height=64", "data.width=224", "model.network.encoder=mobilenetv3_small_100"),
    *("model.pose_net=correlation", "model.pretrained=false", "model.network.decoder_channels=[8,16,24,32,64]"),
    *("model.translation_scale=0.2", "model.network.scales=1", "loss.pyramid=2", "scale.object_height=0.02"),
    *("max_height_epochs=6", "road.border_px=2", "optimizer.lr=1e-3", "schedule.warmup_steps=50"),
    *("training.max_epochs=null", "training.batch_size=6", "training.clip_norm=1.0", "training.threads=1"),
    *("training.workers=0", "training.log_every=50", "training.validate_every=500"),
    *("training.images_every=0", 'training.loggers=["csv"]'),
)


def worlds(out: Path, cameras_m: tuple[float, ...], count: int, seed: int) -> Path:
    """Write RoadWorld with one camera, each world with one of these heights."""
    config = RoadWorldConfig(
        train=count,
        val=2,
        test=4 * len(cameras_m),
        frames=25,
        height=128,
        width=448,
        stereo=False,
        camera_height_m=cameras_m,
    )
    return write_roadworld(config, out, seed=seed).parent


def spoil(data: Path, seed: int) -> None:
    """Write heights.json beside the masks: 30 % of the objects half or twice as high as their class, the others as
    their class.
    """
    random = np.random.default_rng(seed)
    for folder in sorted(path.parent for path in data.glob("*/instances.json")):
        known = json.loads((folder / "instances.json").read_text())["instances"]
        cars = [one["id"] for one in known if one["class"] == "car"]
        factor = np.where(random.random(len(cars)) < WRONG, random.choice([0.5, 2.0], len(cars)), 1.0)
        car = PRIORS["roadworld"]["car"]
        heights = {
            str(number): [float(car.mean_m * times), car.spread_m] for number, times in zip(cars, factor, strict=True)
        }
        frames = sorted((folder / "left").glob("*.png"))
        (folder / "heights.json").write_text(json.dumps({f"left/{frame.stem}": heights for frame in frames}))


def words(case: str) -> tuple[str, ...]:
    """Return the overrides of a case."""
    car = PRIORS["roadworld"]["car"]
    higher = {
        "car": {"mean_m": 1.05 * car.mean_m, "spread_m": car.spread_m, "source": "5 % too high, to see what it does"}
    }
    return {
        "plain": (),
        "off": ("scale.object_height=0", "scale.camera_height=0", "first_height=depth"),
        "bad": ("road.heights=each",),
        "prior": (f"road.priors={json.dumps(higher)}",),
    }[case]


@torch.no_grad()
def scores(predictor: Predictor, data: Path) -> dict[str, float]:
    """Return test scores: abs_rel unscaled and median-scaled, and the camera height in the predicted depth over the
    true one.
    """
    plain, scaled, ratios = [], [], []
    for recording in open_recordings(data, split="test"):
        true_camera_m = float(recording.camera_height_m)  # type: ignore[attr-defined]
        for index in range(0, len(recording), 3):
            image = torch.from_numpy(recording.image(index, LEFT)).permute(2, 0, 1)[None] / 255
            image, lens = resize(
                image.float(), camera_to_torch(recording.camera(index)), predictor.height, predictor.width
            )
            depth = depth_from_inverse(torch.from_numpy(predictor.inverse_depth(image.numpy(), lens)))
            true = torch.from_numpy(recording.depth_m(index))[None, None]
            true = torch.nn.functional.interpolate(true, depth.shape[-2:], mode="nearest-exact")
            masks = recording.masks(index)
            assert masks is not None
            road = torch.from_numpy(masks.semantic == 1)[None, None].float()
            road = torch.nn.functional.interpolate(road, depth.shape[-2:], mode="nearest-exact") > 0
            camera = resize_camera(camera_to_torch(recording.camera(index), torch.float32), *depth.shape[-2:])
            ratios.append(float(road_pixel_heights(depth, camera, erode_mask(road)).median_height[0]) / true_camera_m)
            known = (true > 0) & (true < CAP_M)
            scale = true[known].median() / depth[known].median()
            truth = true[0].numpy(), known[0].numpy()
            plain.append(float(abs_rel(depth[0].clamp(1e-3, CAP_M).numpy(), *truth)))
            scaled.append(float(abs_rel((scale * depth[0]).clamp(1e-3, CAP_M).numpy(), *truth)))
    ratios = [ratio for ratio in ratios if np.isfinite(ratio)]
    return {
        "seen_camera_error": float(np.median(ratios) - 1),
        "abs_rel": float(np.mean(plain)),
        "abs_rel_median_scaled": float(np.mean(scaled)),
    }


def run(case: str, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one training."""
    start = () if arguments.start is None else (f"start_from={arguments.start}",)
    overrides = (
        *SMALL,
        "road.priors=roadworld",
        f"training.max_steps={arguments.steps}",
        *start,
        *words(case),
        *arguments.overrides,
    )
    config = recipes.configure("metric", overrides, seed=arguments.seed, data={"path": str(data)})
    started = time.perf_counter()
    finished = training.train(config, out=arguments.out / "runs", on_stop=OnStop.WARN)
    predictor = recipes.load_predictor(finished.folder / "checkpoints" / "last.safetensors")
    recipe = predictor.recipe
    assert isinstance(recipe, MetricRecipe)
    true = {name: float(name.split()[0]) for name in recipe.groups}  # RoadWorld's mounts are named by their height
    learnt = {name: float(metres) for name, metres in zip(recipe.groups, recipe.camera_height_m, strict=True)}
    return {
        "case": case,
        "camera_m": learnt,
        "camera_error": {name: metres / true[name] - 1 for name, metres in learnt.items()},
        **scores(predictor, data),
        "depth_scale": str(recipe.depth_scale),
        "first_camera_m": dict(recipe.config.heights.known_m),
        "steps": arguments.steps,
        "start": None if arguments.start is None else str(arguments.start.name),
        "overrides": arguments.overrides,
        "seed": arguments.seed,
        "cores": len(os.sched_getaffinity(0)),
        "threads": 1,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "run": finished.folder.name,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", nargs="+", default=["plain"], choices=["plain", "off", "bad", "prior"])
    parser.add_argument(
        "--cameras", nargs="+", default=["1.65"], help="heights in metres; with commas, several in one data set"
    )
    parser.add_argument("--worlds", type=int, default=40, help="that train, in a data set")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--start", type=Path, help="a run or a checkpoint of this recipe whose weights every case starts from"
    )
    parser.add_argument("--overrides", nargs="*", default=[], help="of the configuration, key=value")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for cameras in arguments.cameras:
        heights = tuple(float(height) for height in cameras.split(","))
        data = worlds(arguments.out / f"worlds-{cameras.replace(',', '-')}", heights, arguments.worlds, arguments.seed)
        spoil(data, arguments.seed)
        for case in arguments.cases:
            line = {"cameras_m": heights, **run(case, data, arguments)}
            with (arguments.out / "results.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
