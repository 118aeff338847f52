"""Ablate D3VO on RoadWorld with injected exposure changes: plain, with brightness, with uncertainty, with all; over
seeds.

    python experiments/d3vo_ablation.py
    python experiments/d3vo_ablation.py --steps 700 --seeds 0 1 2 data.height=96 data.width=320
    python experiments/d3vo_ablation.py --gain 0.25 --offset 0.05

Every image of the demo's worlds, left and right, gets its own gain and offset, drawn by its file's name. Log gain and
offset are normal, with the standard deviations --gain and --offset. The images lie in a folder of OUT named by both.
Each configuration trains for the same steps from each seed.

Prints, over four unseen worlds in metres without a fit:
- AbsRel by configuration with its spread over the seeds, and the differences that are larger than it;
- the correlation of learned with injected gains and offsets;
- the value of Sigma: AUSE against random order, Spearman with the error of depth and of the residual that it predicts.

Writes OUT/d3vo-ablation-EXPOSURES.json after each run, and continues from it when the same command runs again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import TINY_NETWORK

from stadia import training
from stadia.core.types import Camera, Recording
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import images
from stadia.io.atomic_files import write_json
from stadia.io.image_files import read_rgb
from stadia.losses.reprojection import ReprojectionInputs, TorchReprojector
from stadia.metrics.depth_metrics import sparsification, spearman
from stadia.training import recipes
from stadia.training.demo import render_worlds
from stadia.training.recipes.base.build_recipe import load_recipe
from stadia.training.recipes.presets import preset_overrides
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

SMALL = (
    "data.height=64",
    "data.width=224",
    "training.threads=1",
    "training.workers=0",
    "training.validate_every=100000",
)
PLAIN = (
    "data.augmentation.color.probability=0",
    "training.images_every=0",
    "training.checkpoint_every=100000",
    *TINY_NETWORK,
)
CONFIGURATIONS = {
    "plain": (),
    "brightness": ("model.brightness=true",),
    "uncertainty": ("model.network.uncertainty=true",),
    "full": ("model.brightness=true", "model.network.uncertainty=true", "model.network.right_view=true"),
}
SPEARMAN = ("spearman", "spearman_of_residual", "sigma_with_residual")
"""Rank correlations: Sigma with the error of depth; with that error the residual itself, which no Sigma that predicts
it can exceed for long; and Sigma with the residual.
"""


@dataclass(frozen=True, slots=True)
class Exposures:
    """Spread of the exposures: standard deviations of log gain, and of the offset (1 is white)."""

    log_gain: float
    offset: float

    def __str__(self) -> str:
        """Return it as part of a file's name."""
        return f"gain{self.log_gain:g}-offset{self.offset:g}"

    def of(self, path: Path) -> tuple[float, float]:
        """Return gain and offset of an image, by the name of its file below its data set."""
        random = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
        return float(np.exp(random.normal(0, self.log_gain))), float(random.normal(0, self.offset))


def with_exposures(worlds: Path, out: Path, exposures: Exposures) -> Path:
    """Return the worlds with every image as a * I + b, rounded and clipped to eight bits."""
    if (out / "done").exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(worlds, out)
    images = sorted(path for side in ("left", "right") for path in out.glob(f"*/{side}/*.png"))
    assert images, f"{worlds} has no images"
    for path in images:
        gain, offset = exposures.of(path)
        changed = gain * read_rgb(path).astype(np.float64)[..., ::-1] + 255 * offset
        cv2.imwrite(str(path), changed.round().clip(0, 255).astype(np.uint8))
    (out / "done").touch()
    return out


def picture(recording: Recording, index: int, side: str, recipe: SelfsupRecipe) -> tuple[Tensor, Camera]:
    """Return (1, 3, height, width) at the network's size, and its camera."""
    image = torch.from_numpy(recording.image(index, side)).permute(2, 0, 1)[None].float() / 255
    return images.resize(
        image, images.camera_to_torch(recording.camera(index, side), torch.float32), recipe.height, recipe.width
    )


@torch.inference_mode()
def learnt_exposures(
    recipe: SelfsupRecipe, worlds: list[Recording], exposures: Exposures
) -> dict[str, list[tuple[float, float]]]:
    """Return pairs (injected, learned) of gain and offset, for each frame and the next, and for each left and right
    image.
    """
    pairs: dict[str, list[tuple[float, float]]] = {"gain": [], "offset": []}
    for world in worlds:
        for index in range(len(world) - 1):
            for other, side in ((index + 1, "left"), (index, "right")):
                (now, _), (then, _) = picture(world, index, "left", recipe), picture(world, other, side, recipe)
                motion = recipe.model.motion(now, then)
                assert motion is not None
                assert motion.brightness is not None
                files = world.file(index, "left"), world.file(other, side)
                (gain_now, offset_now), (gain_then, offset_then) = (exposures.of(file) for file in files if file)
                gain = gain_then / gain_now
                pairs["gain"].append((gain, float(motion.brightness[0, 0])))
                pairs["offset"].append((offset_then - gain * offset_now, float(motion.brightness[0, 1])))
    return pairs


def residual_to_the_right(recipe: SelfsupRecipe, world: Recording, index: int, inverse_depth: Tensor) -> Tensor:
    """Return (height, width): the difference to the right image after the warp by predicted depth, which Sigma
    should predict.
    """
    image, camera = picture(world, index, "left", recipe)
    right, right_camera = picture(world, index, "right", recipe)
    each, of_right = (Camera(K[None], recipe.height, recipe.width) for K in (camera.K, right_camera.K[None]))
    images = ReprojectionInputs(image, each, right[:, None], of_right, ("stereo",))
    assert world.T_right_left is not None
    rig = torch.from_numpy(world.T_right_left).float()[None, None]
    reprojector = TorchReprojector(images, ssim_weight=recipe.config.loss.ssim_weight, auto_mask=False)
    return reprojector(inverse_depth, rig).minimum.residual[0, 0]


def errors_of_depth(recipe: SelfsupRecipe, worlds: list[Recording]) -> dict[str, float]:
    """Return means over every fifth image, metres, without a fit, within 80 m: AbsRel, and the value of Sigma if
    predicted.
    """
    predictor: Any = recipe.predictor()
    found = defaultdict[str, list[float]](list)
    for world in worlds:
        for index in range(0, len(world), 5):
            maps = predictor.maps(*picture(world, index, "left", recipe))
            truth = world.depth_m(index)
            assert truth is not None
            true_m = torch.from_numpy(cv2.resize(truth, (recipe.width, recipe.height), interpolation=cv2.INTER_NEAREST))
            known = (true_m > 0) & (true_m < 80)
            depth_m = (1 / maps.inverse_depth[0, 0]).clamp(1e-3, 80)
            error = (depth_m - true_m).abs() / true_m.where(known, torch.ones_like(true_m))
            found["abs_rel"].append(float(error[known].mean()))
            if maps.log_uncertainty is not None:
                log_sigma = maps.log_uncertainty[0, 0]
                curve = sparsification(depth_m.numpy(), true_m.numpy(), log_sigma.numpy(), known.numpy())
                sigma, wrong = log_sigma[known].numpy(), error[known].numpy()
                found["ause"].append(float(curve.ause))
                found["ause_of_random"].append(float(curve.ause_of_random))
                found["spearman"].append(spearman(sigma, wrong))
                residual = residual_to_the_right(recipe, world, index, maps.inverse_depth)[known].numpy()
                found["spearman_of_residual"].append(spearman(residual, wrong))
                found["sigma_with_residual"].append(spearman(sigma, residual))
    return {name: statistics.fmean(values) for name, values in found.items()}


def trained(name: str, seed: int, worlds: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one configuration from one seed."""
    given = [f"training.max_steps={arguments.steps}", f"seed={seed}", f"name=d3vo-{name}-{seed}", *arguments.overrides]
    began = time.monotonic()
    words = (*preset_overrides("demo"), *SMALL, *PLAIN, *CONFIGURATIONS[name], *given)
    run = training.train(recipes.configure("selfsup", words, data={"path": str(worlds)}), out=arguments.out)
    return {"run": run.folder.name, "train_s": round(time.monotonic() - began)}


def scored(run: Path, worlds: Path, exposures: Exposures) -> dict[str, float]:
    """Score a run on the unseen worlds."""
    recipe = load_recipe(run)
    assert isinstance(recipe, SelfsupRecipe)
    unseen = open_recordings(worlds, split="test")
    found = errors_of_depth(recipe.eval(), unseen)
    if recipe.config.model.brightness:
        for key, pairs in learnt_exposures(recipe, unseen, exposures).items():
            found[f"correlation_of_{key}"] = float(np.corrcoef(np.array(pairs).T)[0, 1])
    return found


def summarize(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table, and the differences from plain that are larger than the spread over seeds."""
    lines = []
    by_name = {
        name: {k.split("/")[1]: v for k, v in found.items() if k.startswith(f"{name}/")} for name in CONFIGURATIONS
    }
    for name, runs in by_name.items():
        for key in ("abs_rel", "correlation_of_gain", "correlation_of_offset", "ause", "ause_of_random", *SPEARMAN):
            values = [run[key] for run in runs.values() if key in run]
            if values:
                spread = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
                lines.append(f"{name}: {key} {statistics.fmean(values):.3f}{spread} over {len(values)} seeds")
    for name, runs in by_name.items():
        seeds = sorted(runs.keys() & by_name["plain"].keys()) if name != "plain" else []
        if len(seeds) > 1:
            gained = [by_name["plain"][seed]["abs_rel"] - runs[seed]["abs_rel"] for seed in seeds]
            mean, spread = statistics.fmean(gained), statistics.stdev(gained)
            larger = "larger" if abs(mean) > spread else "not larger"
            lines.append(
                f"{name} against plain, seed by seed: AbsRel {-mean:+.3f}, {larger} than its spread {spread:.3f}"
            )
    return lines


def spread(text: str) -> float:
    """Parse a standard deviation of the command line."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text}, expected 0 or more")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--gain", type=spread, default=0.12, help="standard deviation of an image's log gain")
    parser.add_argument("--offset", type=spread, default=0.03, help="standard deviation of its offset; 1 is white")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*", help="dotted.key=value")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    exposures = Exposures(arguments.gain, arguments.offset)
    worlds = with_exposures(render_worlds(Console(stderr=True)), arguments.out / f"worlds-{exposures}", exposures)
    kept = arguments.out / f"d3vo-ablation-{exposures}.json"
    settings = {"steps": arguments.steps, "overrides": arguments.overrides}
    before = json.loads(kept.read_text()) if kept.exists() else {"settings": settings, "runs": {}}
    found: dict[str, dict[str, Any]] = before["runs"] if before.get("settings") == settings else {}
    for seed in arguments.seeds:
        for name in arguments.only:
            key = f"{name}/{seed}"
            found[key] = found.get(key) or trained(name, seed, worlds, arguments)
            write_json(kept, {"settings": settings, "cores": os.cpu_count(), "runs": found})
            scores = scored(arguments.out / found[key]["run"], worlds, exposures)
            found[key] |= {
                score: value for score, value in scores.items() if math.isfinite(value)
            }  # Spearman of a constant Sigma is not
            write_json(kept, {"settings": settings, "cores": os.cpu_count(), "runs": found})
            print(name, f"seed {seed}", json.dumps(found[key]), flush=True)
    print("\n".join(summarize(found)))


if __name__ == "__main__":
    main()
