"""Train `metric` on the drive of KITTI raw from the network of the package, and judge its metres by LiDAR.

    stadia masks KITTI_RAW --by deeplab_cityscapes.tflite --out kitti-masks
    python experiments/metric_kitti.py OUT --data KITTI_RAW --masks kitti-masks --cases start mixed tight known

Cases: `start`, no training; `mixed`, the default prior of a car (1.710 m); `tight`, the mean of KITTI's own boxes
(1.526 m), which is a label of this data set: for the cause, not for a score; `known`, the camera height of 1.65 m is
given; `objects`, no height by silhouettes; `selfsup`, no metres. The car moves by 0.1 m a frame, so that the neighbors
are `--offset` frames away.

Prints a line of JSON for each: the camera height that the training learned, the same in the predicted depth of the
frames, and the depth over that of LiDAR without scaling (median over frames of the median of the ratio, nearer than 80
m, and of the road and of the cars alone). `lean_deg`, how much the predicted road rises ahead of the plane through
LiDAR's road. `scores`: the means over the frames of AbsRel, SqRel, RMSE, RMSE log and d1 to d3, in metres, with equal
medians, and with one factor for the drive that puts the predicted camera at 1.65 m. In the end a table of all lines of
OUT: the mean over the seeds, and its 95 % interval. Without a case, the table alone.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stadia import training
from stadia.core.types import Camera, Predictor
from stadia.data.mask_files import attach_masks
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.images import camera_to_torch, resize
from stadia.geometry.cameras import backproject, depth_from_inverse
from stadia.geometry.ground.road_plane import erode_mask, fit_plane_ransac, road_pixel_heights
from stadia.judge.finding import OnStop
from stadia.metrics import depth_metrics
from stadia.training import recipes
from stadia.training.recipes.base.build_recipe import open_network_checkpoint
from stadia.training.recipes.metric.recipe import MetricRecipe

TRUE_M, CAP_M = 1.65, 80.0
NEAR_M = 15.0  # of the road whose lean is measured
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # Student, two-sided, by the number of seeds
METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")
SETTINGS = (
    *("model.network=base", "model.pose_net=correlation"),
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
        "selfsup": (),
    }[case]


def rise_deg(depth_m: Tensor, camera: Camera, counted: Tensor) -> float:
    """Return how much the plane through pixels of the road rises ahead, in degrees."""
    points = backproject(depth_m.double()[None, None], camera).flatten(2).transpose(1, 2)
    normal = torch.from_numpy(fit_plane_ransac(points[0][counted.flatten()].numpy()))[:3]
    return math.degrees(math.atan(float(normal[2]) / float(normal[1])))  # of either sign of the normal


def score_frame(depth_m: Tensor, true_m: Tensor, known: Tensor) -> list[float]:
    """Return METRICS of a frame."""
    maps = [each.numpy() for each in (depth_m.clamp(1e-3, CAP_M), true_m, known)]
    return [float(getattr(depth_metrics, name)(*maps)) for name in METRICS]


@torch.no_grad()
def score(predictor: Predictor, data: Path, masks: Path, every: int) -> dict[str, Any]:
    """Return the camera height in the predicted depth of all frames, the ratio of depth to LiDAR, and the table."""
    (recording,) = open_recordings(data)
    attach_masks([recording], masks)
    assert recording.mask_reader is not None
    numbers = {name: number for number, name in recording.mask_reader.classes.items()}
    heights: list[float] = []
    leans: list[float] = []
    ratios: dict[str, list[float]] = {"all": [], "road": [], "car": []}
    frames: list[tuple[Tensor, Tensor, Tensor]] = []
    for index in range(0, len(recording), every):
        full_camera = camera_to_torch(recording.camera(index))
        image = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None].float() / 255
        lidar_m, mask = recording.depth_m(index), recording.masks(index)
        assert lidar_m is not None
        assert mask is not None
        true_m, semantic = torch.from_numpy(lidar_m).float(), torch.from_numpy(mask.semantic.astype(np.float32))
        small, camera = resize(image, full_camera, predictor.height, predictor.width)
        depth = depth_from_inverse(torch.from_numpy(predictor.inverse_depth(small.numpy(), camera)))
        road = interpolate(semantic[None, None], depth.shape[-2:], mode="nearest-exact") == numbers["road"]
        heights.append(float(road_pixel_heights(depth, camera, erode_mask(road)).median_height[0]))
        full = interpolate(depth, true_m.shape, mode="bilinear", align_corners=False)[0, 0]
        known = (true_m > 0) & (true_m < CAP_M)
        for name, values in ratios.items():
            counted = known if name == "all" else known & (semantic == numbers[name])
            if counted.sum() > 20:
                values.append(float((full[counted] / true_m[counted]).median()))
        near = known & (semantic == numbers["road"]) & (true_m < NEAR_M)
        if near.sum() > 50:
            leans.append(rise_deg(full, full_camera, near) - rise_deg(true_m, full_camera, near))
        frames.append((full, true_m, known))
    seen_m = float(np.nanmedian(heights))
    factors = {
        "metres": lambda full, true, known: 1.0,
        "equal_medians": lambda full, true, known: true[known].median() / full[known].median(),
        "known_height": lambda full, true, known: TRUE_M / seen_m,
    }
    tables = {
        title: [score_frame(factor(*frame) * frame[0], *frame[1:]) for frame in frames]
        for title, factor in factors.items()
    }
    return {
        "seen_camera_m": round(seen_m, 3),
        **{f"ratio_{name}": round(float(np.median(values)), 3) for name, values in ratios.items()},
        "lean_deg": round(float(np.median(leans)), 2),
        "scores": {
            title: dict(zip(METRICS, np.mean(rows, axis=0).round(4).tolist(), strict=True))
            for title, rows in tables.items()
        },
    }


def run(case: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one case and score it."""
    if case == "start":
        predictor = recipes.load_predictor(open_network_checkpoint(Path("base"), lambda: tuple(arguments.size), ()))
        return {"case": case, **score(predictor, arguments.data, arguments.masks, arguments.every)}
    overrides = (
        *SETTINGS,
        f"data.height={arguments.size[0]}",
        f"data.width={arguments.size[1]}",
        f"data.offsets=[{-arguments.offset},{arguments.offset}]",
        f"training.max_steps={arguments.steps}",
        *(() if case == "selfsup" else (f"road.masks={json.dumps(str(arguments.masks.resolve()))}",)),
        *case_overrides(case),
        *arguments.overrides,
    )
    name = "selfsup" if case == "selfsup" else "metric"
    config = recipes.configure(name, overrides, seed=seed, data={"path": str(arguments.data)})
    started = time.perf_counter()
    finished = training.train(config, out=arguments.out / "runs", on_stop=OnStop.WARN)
    predictor = recipes.load_predictor(finished.folder / "checkpoints" / "last.safetensors")
    recipe = predictor.recipe
    heights = {}
    if isinstance(recipe, MetricRecipe):
        first_m = dict(recipe.config.heights.known_m)
        heights = {"camera_m": round(float(recipe.camera_height_m[0]), 3), "first_camera_m": first_m}
    return {
        "case": case,
        **heights,
        **score(predictor, arguments.data, arguments.masks, arguments.every),
        "depth_scale": str(recipe.depth_scale),
        "steps": arguments.steps,
        "size": list(arguments.size),
        "offset": arguments.offset,
        "overrides": arguments.overrides,
        "seed": seed,
        "cores": len(os.sched_getaffinity(0)),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "run": finished.folder.name,
    }


def summarize(lines: list[dict[str, Any]]) -> list[str]:
    """Return the table: cases and settings, and their scores over the seeds."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for line in lines:
        settings = [str(line[key]) for key in ("size", "steps", "overrides") if key in line]
        groups.setdefault((line["case"], *settings), []).append(line)
    rows = ["| " + " | ".join(["case", "seeds", "depth", *METRICS]) + " |", "|---" * (len(METRICS) + 3) + "|"]
    for name, group in groups.items():
        learned = [f"{one.get('camera_m', math.nan)} m, lean {one['lean_deg']} degrees" for one in group]
        rows.append(f"{' '.join(name)}: height {'; '.join(learned)}")
        for title in group[0]["scores"]:
            values = np.array([list(one["scores"][title].values()) for one in group])
            cells = [f"{mean:.3f}" for mean in values.mean(0)]
            if len(values) in T_95:
                half = T_95[len(values)] * values.std(0, ddof=1) / len(values) ** 0.5
                cells = [f"{cell} +- {each:.3f}" for cell, each in zip(cells, half, strict=True)]
            rows.append("| " + " | ".join([name[0], str(len(group)), title, *cells]) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    cases = ["start", "mixed", "tight", "known", "objects", "selfsup"]
    parser.add_argument("--cases", nargs="*", choices=cases, default=cases)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(128, 416), help="height and width of the network's images"
    )
    parser.add_argument("--every", type=int, default=1, help="score each n-th frame")
    parser.add_argument("--offset", type=int, default=5, help="frames between an image and its neighbors")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--overrides", nargs="*", default=[], help="of the configuration, key=value")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed, case in itertools.product(arguments.seeds, arguments.cases):
        line = run(case, seed, arguments)
        with (arguments.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
    lines = (arguments.out / "results.jsonl").read_text().splitlines()
    print("\n".join(summarize([json.loads(line) for line in lines])))


if __name__ == "__main__":
    main()
