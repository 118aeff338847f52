"""Find when the uncertainty of D3VO should start: KITTI 06 in stereo and time, from random weights or from `base`.

    python experiments/d3vo_start.py OUT [--seeds 0 1 2] [--steps 200] [--arms plain at_once rule] [KEY=VALUE ...]
    python experiments/d3vo_start.py OUT --start base --arms plain uncertainty brightness both --until .01

The first 40 stereo pairs with their next frames train a small network at 192x64, and the last 8 pairs are scored:
AbsRel in metres against semi-global matching nearer than 50 m, and how the uncertainty follows that error (Spearman's
rank correlation, AUSE relative to a random order). Arms:
- plain: no uncertainty, brightness or right view;
- at_once: D3VO whole, its uncertainty weights the residual from the first step;
- half: the same from half of the steps;
- rule: the same once the mean of the last warped residuals is below 0.8 times the unwarped one, as for brightness;
- uncertainty, brightness, right_view: one of the three parts, the uncertainty by the rule;
- both: uncertainty and brightness; at_once_both has the uncertainty from the first step.

From `base`, the uncertainty of the package is the start of D3VO's; the network has no right view. --until adds seeds to
an arm until its 95 % interval is below |effect| or this value, as `stadia ablate --until` does.

--gain, --offset: standard deviations of the log gain and the offset of each image, drawn by its name: brightness then
changes. A training whose AbsRel is twice plain's, or whose uncertainty is constant (its quartiles differ by less than
.05), has collapsed. The same command goes on where it was stopped.
"""

# mypy: disable-error-code="arg-type, attr-defined, no-untyped-call"

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import interpolate

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, find_depth, make_parser

from stadia.data.open_dataset import open_recordings
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch
from stadia.differentiable.images import resize
from stadia.metrics.depth_metrics import sparsification, spearman
from stadia.metrics.statistics import FIRST_LOOK, ChangeVerdict, judge_changes
from stadia.networks.config import BaseConfig
from stadia.training import recipes
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

LR, WARMUP, BATCH, NEVER = {"random": 1e-3, "base": 1e-4}, 20, 4, 10**9
TRAINED, SCORED = 40, 8
BEATEN, MEAN_OVER = 0.8, 20
SETTINGS = (
    *("data.height=64", "data.width=192", "data.offsets=[1]", f"data.frames=[0,{TRAINED}]"),
    *("data.split_by.val_share=0", "data.augmentation.color.probability=0", "model.pose_net=resnet"),
    *("model.pose_encoder=mobilenetv3_small_050", "loss.pyramid=4", "loss.temporal_from_step=null"),
    *("training.workers=0", f"training.batch_size={BATCH}"),
)
STARTS = {
    "random": (
        *("model.pretrained=false", "model.network=unet", "model.network.encoder=mobilenetv3_small_100"),
        *("model.network.scales=1", "model.network.decoder_channels=[8,16,24,32,64]", "model.network.init_depth_m=12"),
    ),
    "base": ("model.network=base", "teacher.network=null"),
}
PARTS = {
    "uncertainty": ("model.network.uncertainty=true",),
    "brightness": ("model.brightness=true",),
    "right_view": ("model.network.right_view=true",),
}
WHOLE = (*PARTS["uncertainty"], *PARTS["brightness"], *PARTS["right_view"])
BOTH = (*PARTS["uncertainty"], *PARTS["brightness"])
ARMS = {"plain": (), "at_once": WHOLE, "half": WHOLE, "rule": WHOLE, **PARTS, "both": BOTH, "at_once_both": BOTH}
MAX_SEEDS = 30  # of --until


class UncertainBaseConfig(BaseConfig):
    """`base`, whose uncertainty is trained."""

    @property
    def predicts_uncertainty(self) -> bool:
        return True


def change_exposure(batch: Batch, log_gain: float, offset: float) -> Batch:
    """Return the batch with a gain and an offset for each image, drawn by its recording, number and side."""

    def changed(images: Tensor, part: str) -> Tensor:
        factors = []
        for meta in batch.meta:
            random = np.random.default_rng(zlib.crc32(f"{meta.recording}/{meta.index}/{part}".encode()))
            factors.append((float(np.exp(random.normal(0, log_gain))), float(random.normal(0, offset))))
        shape = (-1, *[1] * (images.dim() - 1))
        gain, shift = (torch.tensor(values).view(shape) for values in zip(*factors, strict=True))
        return (gain * images + shift).clamp(0, 1)

    target = changed(batch.targets.image, "target")
    sources = torch.stack(
        [changed(batch.targets.sources[:, i], name) for i, name in enumerate(batch.source_names)], dim=1
    )
    inputs = replace(batch.inputs, image=target)
    return replace(batch, inputs=inputs, targets=replace(batch.targets, image=target, sources=sources))


def train(arm: str, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Train an arm and score it."""
    path = REAL_DATA / "kitti_odometry"
    words = (*SETTINGS, *STARTS[arguments.start], *ARMS[arm], *arguments.overrides)
    config = recipes.configure("selfsup", words, seed=seed, data={"path": str(path)})
    config, data = SelfsupRecipe.prepare(config, Console(quiet=True))
    if arguments.start == "base" and PARTS["uncertainty"][0] in words:
        network = UncertainBaseConfig(**config.model.network.model_dump())
        config = config.model_copy(update={"model": config.model.model_copy(update={"network": network})})
    start = {"at_once": 0, "at_once_both": 0, "half": arguments.steps // 2}.get(arm, NEVER)
    torch_state.seed_generators(seed, "training")
    recipe = SelfsupRecipe(config).train().to(arguments.device)
    recipe.view_synthesis.change_loss(config.loss.model_copy(update={"uncertainty_from_step": start}))
    optimizer = torch.optim.AdamW(recipe.parameters(), LR[arguments.start])
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / WARMUP, 1))
    ratios: list[float] = []
    began_s, step, epoch = time.process_time(), 0, 0
    while step < arguments.steps:
        data.train.set_position(epoch, 0)
        epoch += 1
        for batch in data.train:
            if step == arguments.steps or batch.size < BATCH:
                continue
            if arguments.gain or arguments.offset:
                batch = change_exposure(batch, arguments.gain, arguments.offset)
            batch = batch.to(arguments.device)
            optimizer.zero_grad()
            report = recipe.view_synthesis(batch, recipe.model(batch), step)
            report.total.backward()
            torch.nn.utils.clip_grad_norm_(recipe.parameters(), 1.0)
            optimizer.step()
            warm_up.step()
            step += 1
            ratios.append(float(report.logged["warped_over_unwarped"]))
            if start == NEVER and len(ratios) >= MEAN_OVER and np.mean(ratios[-MEAN_OVER:]) < BEATEN:
                start = step
                loss = config.loss.model_copy(update={"uncertainty_from_step": start})
                recipe.view_synthesis.change_loss(loss)
    spent_s = time.process_time() - began_s
    return {**score(recipe.eval().cpu(), path, config.data), "started": start, "processor_s": round(spent_s, 1)}


@lru_cache
def match_pair(path: Path, index: int) -> Tensor:
    """Return the depth of a pair by semi-global matching, (H, W) in metres, 0 where unknown."""
    (recording,) = open_recordings(path)
    return torch.from_numpy(find_depth(recording, index)).float()


@torch.no_grad()
def score(recipe: SelfsupRecipe, path: Path, size: Any) -> dict[str, float]:
    """Return the scores on the last pairs."""
    (recording,) = open_recordings(path)
    found: dict[str, list[float]] = {}
    for index in range(len(recording) - SCORED, len(recording)):
        image = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None].float() / 255
        small, camera = resize(image, recording.camera(index), size.height, size.width)
        maps = recipe.predictor().maps(small, camera)
        true = match_pair(path, index)
        known = true > 0
        depth = interpolate(1 / maps.inverse_depth, true.shape, mode="bilinear", align_corners=False)[0, 0]
        error = (depth.clamp(1e-3, 80) - true).abs() / true.where(known, 1.0)
        scores = {"abs_rel": float(error[known].mean())}
        if maps.log_uncertainty is not None:
            sigma = interpolate(maps.log_uncertainty, true.shape, mode="bilinear", align_corners=False)[0, 0]
            curve = sparsification(depth.clamp(1e-3, 80).numpy(), true.numpy(), sigma.numpy(), known.numpy())
            low, high = sigma[known].quantile(torch.tensor([0.25, 0.75]))
            scores |= {"ause": float(curve.ause), "ause_of_random": float(curve.ause_of_random)}
            scores |= {"spearman": spearman(sigma[known].numpy(), error[known].numpy()), "spread": float(high - low)}
        for name, value in scores.items():
            found.setdefault(name, []).append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def judge(found: dict[str, Any], arms: Sequence[str], until: float | None) -> dict[str, ChangeVerdict]:
    """Return the verdict on each arm's AbsRel next to plain's, by seed."""
    values: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    for key, scores in found.items():
        arm, _, seed = key.partition("/")
        if arm in values:
            values[arm][int(seed)] = scores["abs_rel"]
    plain = values.pop("plain", {})
    return {verdict.change: verdict for verdict in judge_changes(plain, values, until=until)}


def describe(found: dict[str, Any], arms: Sequence[str], until: float | None) -> list[str]:
    """Return the table, paired by seed."""
    lines, verdicts = [], judge(found, arms, until)
    for arm in arms:
        each = {int(key.partition("/")[2]): scores for key, scores in found.items() if key.startswith(f"{arm}/")}

        def join(name: str, each: dict[int, dict[str, float]] = each) -> str:
            return ", ".join(f"{one[name]:.3f}" for one in each.values())

        line = f"{arm}: AbsRel {join('abs_rel')}"
        if arm in verdicts and (difference := verdicts[arm].difference):
            line += f"; minus plain {difference.mean:+.4f} +- {(difference.high - difference.low) / 2:.4f}"
            line += f", {difference.n} seeds, p {verdicts[arm].p_holm:.2g}"
            if until and verdicts[arm].is_open:
                line += f", about {verdicts[arm].needed} seeds decide"
            pairs = [(one, found[f"plain/{seed}"]["abs_rel"]) for seed, one in each.items() if f"plain/{seed}" in found]
            fallen = [one.get("spread", 1) < 0.05 or one["abs_rel"] > 2 * base for one, base in pairs]
            line += f"; collapsed {sum(fallen)} of {len(fallen)}"
        if all("spearman" in one for one in each.values()):
            below = [1 - one["ause"] / one["ause_of_random"] for one in each.values()]
            line += f"; Spearman {join('spearman')}"
            line += f"; AUSE below chance {', '.join(f'{share:.0%}' for share in below)}"
        lines.append(line + f"; uncertainty from step {[one['started'] for one in each.values()]}")
    return lines


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--until", type=float, help="add seeds until the interval of AbsRel is below |effect| or this")
    parser.add_argument("--start", choices=list(STARTS), default="random")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["plain", "at_once", "rule"])
    parser.add_argument("--gain", type=float, default=0.0)
    parser.add_argument("--offset", type=float, default=0.0)
    parser.add_argument("--device", default="cpu", help="cuda on a machine with a GPU")
    parser.add_argument("overrides", nargs="*", help="of the configuration, key=value")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = [] if arguments.start == "random" else [arguments.start]
    settings = [arguments.steps, arguments.gain, arguments.offset, *start, *arguments.overrides]
    kept = arguments.out / f"d3vo-start-{zlib.crc32(json.dumps(settings).encode()):08x}.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    open_arms = list(arguments.arms)
    for seed in arguments.seeds if arguments.until is None else range(MAX_SEEDS):
        for arm in open_arms:
            key = f"{arm}/{seed}"
            if key not in found:
                found[key] = train(arm, seed, arguments)
                kept.write_text(json.dumps(found, indent=1))
            print(json.dumps({"arm": key, **found[key], "cores": os.cpu_count(), "threads": 1}), flush=True)
        if arguments.until is not None and seed + 1 >= FIRST_LOOK:
            verdicts = judge(found, arguments.arms, arguments.until)
            open_arms = [arm for arm in arguments.arms if arm in verdicts and verdicts[arm].is_open]
            if not open_arms:
                break
            open_arms.insert(0, "plain")
            print("\n".join(describe(found, arguments.arms, arguments.until)), flush=True)
    print("\n".join(describe(found, arguments.arms, arguments.until)))


if __name__ == "__main__":
    main()
