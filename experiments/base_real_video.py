"""Train `base` on real videos that have a map, without labels, and score it on recordings that trained nothing.

    stadia map VIDEO                                               # of each video, before
    python experiments/base_real_video.py VIDEO ... [--steps 600] [--seeds 0 1 2] [--out WEIGHTS]

The points of a map are the labels: the logarithm of depth at them, without its median, because a map has no metres. On
all pixels the network stays close to what it predicted at the start, in shape and in metres. The encoder is fixed.
Prints AbsRel with equal medians, in metres, and depth over the truth, before and after, for each seed.
"""

# mypy: disable-error-code="misc, no-untyped-call"

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import zero_shot
from base_network import write_halves
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Camera
from stadia.data.video.video_map import find_map_geometry
from stadia.geometry.cameras import resize_K
from stadia.networks.depth.unet import BaseNetwork
from stadia.predict.inputs import open_inputs
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint

PIXELS, STRIDE = 288 * 384, 32
FRAMES = 60
"""Of a video, evenly."""

MIN_POINTS = 30
RATE, BATCH = 2e-4, 2
HUBER = 0.2
"""Errors of the logarithm above this count linearly: some points of a map are wrong."""

SHAPE_WEIGHT, METRES_WEIGHT, EDGE_WEIGHT = 0.5, 0.5, 10.0
SAMPLES = ("KITTI raw", "KITTI 06", "EuRoC V1_01", "7-Scenes kitchen", "walk (HoloLens)")

Array = NDArray[np.float64]
Sample = tuple[Tensor, Array, Tensor, Tensor]
"""Image (3, H, W), K (3, 3), places (M, 2) of points in [-1, 1], and their ln z (M,)."""


def read_clip(path: Path) -> list[Sample]:
    """Return frames of a video with the points of its map."""
    mapped, (given, *_) = find_map_geometry(path), open_inputs(path)
    assert mapped is not None, f"{path} has no map"
    every = max((given.count or FRAMES) // FRAMES, 1)
    samples = []
    for number, frame in enumerate(given.frames):
        height, width = frame.image.shape[:2]
        points = mapped.find_points(frame.name, mapped.focal, frame.K) if number % every == 0 else None
        if points is None or len(points.z) < MIN_POINTS:
            continue
        K = np.array(
            [[mapped.focal * width, 0, (width - 1) / 2], [0, mapped.focal * width, (height - 1) / 2], [0, 0, 1]]
        )
        size = [max(round(side * (PIXELS / height / width) ** 0.5 / STRIDE), 1) * STRIDE for side in (height, width)]
        small = cv2.resize(frame.image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        xy = (points.xy - frame.K[:2, 2]) * (mapped.focal * width / frame.K[0, 0]) + frame.K[:2, 2]
        places = torch.from_numpy((2 * xy + 1) / (width, height) - 1).float()
        image = torch.from_numpy(small).permute(2, 0, 1).float() / 255
        samples.append((image, resize_K(K, (height, width), *size), places, torch.from_numpy(np.log(points.z)).float()))
    print(f"{path.name}: {len(samples)} frames, {np.mean([len(s[3]) for s in samples]):.0f} points each", flush=True)
    return samples


def point_loss(log_z: Tensor, places: Tensor, log_true: Tensor) -> Tensor:
    """Return the mean Huber error (), over HUBER, of ln z (1, H, W) at points, without its median."""
    found = torch.nn.functional.grid_sample(log_z[None], places[None, None], align_corners=False)[0, 0, 0]
    error = found - log_true
    error = error - error.detach().median()
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), delta=HUBER) / HUBER


def stay_loss(log_z: Tensor, start: Tensor) -> Tensor:
    """Return how far ln z (B, 1, H, W) moved from the start's: its mean, the rest, and where the change has edges."""
    moved = log_z - start
    mean = moved.mean((1, 2, 3), keepdim=True)
    edges = moved.diff(dim=-1).abs().mean() + moved.diff(dim=-2).abs().mean()
    return METRES_WEIGHT * mean.abs().mean() + SHAPE_WEIGHT * (moved - mean).abs().mean() + EDGE_WEIGHT * edges


def train(network: BaseNetwork, clips: list[list[Sample]], steps: int, seed: int) -> None:
    """Train the decoder, each step on frames of one video, each video as often."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    start = open_base().eval()
    network.eval()  # statistics of batch normalization stay
    optimizer = torch.optim.AdamW(network.decoder.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    losses = []
    for step in range(steps):
        clip = clips[random.integers(len(clips))]
        chosen = [clip[i] for i in random.integers(len(clip), size=BATCH)]
        images, K = torch.stack([s[0] for s in chosen]), torch.from_numpy(np.stack([s[1] for s in chosen])).float()
        places, is_mirrored = [s[2] for s in chosen], random.random() < 0.5
        if is_mirrored:  # the principal point is the center
            images, places = images.flip(-1), [xy * torch.tensor([-1.0, 1.0]) for xy in places]
        images = (images * (0.8 + 0.4 * torch.rand(BATCH, 3, 1, 1))).clamp(0, 1)
        camera = Camera(K, *images.shape[-2:])
        log_z = -network(images, camera).inverse_depth[0].log()
        with torch.no_grad():
            log_start = -start(images, camera).inverse_depth[0].log()
        points = torch.stack(
            [point_loss(*values) for values in zip(log_z, places, [s[3] for s in chosen], strict=True)]
        )
        loss = points.mean() + stay_loss(log_z, log_start)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.decoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append((points.mean().item(), loss.item()))
        if (step + 1) % 50 == 0:
            print(f"seed {seed}, step {step + 1}: points, all {np.mean(losses[-50:], axis=0).round(4)}", flush=True)


def open_base() -> BaseNetwork:
    opened: Any = open_network_checkpoint("base", lambda: (288, 384))
    network = opened.recipe.depth_network
    assert isinstance(network, BaseNetwork)
    return network


def score(network: BaseNetwork, data: Path, title: str) -> None:
    """Print a row of scores on the recordings that trained nothing."""
    cells = []
    for name in SAMPLES:
        images = zero_shot.open_sample(next(s for s in zero_shot.SAMPLES if s.title == name), data)
        opened: Any = open_network_checkpoint("base", lambda size=images[0].frame.image.shape[:2]: size)
        opened.recipe.depth_network.load_state_dict(network.state_dict())
        predictor = load_predictor(opened)
        found = zero_shot.score_images(lambda frame, p=predictor: zero_shot.predict_depth(p, frame), images)
        cells.append(f"{name} {found.scaled:.4f} {found.metres:.4f} ({found.ratio:.2f}) edges {found.edges:.3f}")
    print(f"{title}: " + "; ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="file for the weights of the last seed")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STADIA_REAL_DATA", "../shared/data")))
    arguments = parser.parse_args()
    clips = [read_clip(video) for video in arguments.videos]
    score(open_base(), arguments.data, "before")
    for seed in arguments.seeds:
        network = open_base()
        train(network, clips, arguments.steps, seed)
        score(network, arguments.data, f"after, seed {seed}")
        if arguments.out:
            write_halves(network.state_dict(), arguments.out)


if __name__ == "__main__":
    main()
