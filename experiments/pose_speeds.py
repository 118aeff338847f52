"""Measure what a pose network learns of speed from the demo's worlds when it is trained on the true motion.

    python experiments/pose_speeds.py --encoder mobilenetv3_small_050 --steps 1000

This is the upper bound of learning from images alone. Prints one JSON object: the mean absolute error of the forward
motion on the test worlds, in metres per frame, beside that of a constant, the training worlds' mean. If the first is
not lower than the second, the network has memorized its worlds and has learned nothing of speed, whatever the loss.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Iterator

import torch
from rich.console import Console
from torch import Tensor

from stadia.apps.demo import render_worlds
from stadia.core import seeds
from stadia.core.types import Batch
from stadia.dataloading.config import NO_AUGMENTATION, AugmentationConfig
from stadia.dataloading.loader import Loader
from stadia.dataloading.samples import VideoSamples
from stadia.datasets.open_dataset import open_recordings
from stadia.geometry.se3 import compose, inverse, rotation_angle_deg
from stadia.models.pose.pose_net import PoseNet
from stadia.synthetic.config import ROADWORLD_DEMO


def samples(split: str, *, augmented: bool) -> VideoSamples:
    """Return pairs of neighbors; the augmentation is the training's own (mirroring and color) or none."""
    recordings = open_recordings(render_worlds(Console(stderr=True)), split=split)
    augmentation = AugmentationConfig() if augmented else NO_AUGMENTATION
    return VideoSamples(
        recordings,
        height=ROADWORLD_DEMO.height,
        width=ROADWORLD_DEMO.width,
        offsets=(1,),
        stereo=False,
        augmentation=augmentation,
    )


def batches(loader: Loader) -> Iterator[Batch]:
    """Yield batches, epoch after epoch."""
    for epoch in itertools.count():
        loader.set_position(epoch)
        yield from loader


def motions(network: PoseNet, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return T_next_now (B, 4, 4), predicted and true."""
    return network(batch.inputs.image, batch.inputs.sources[:, 0]), batch.targets.T_source_target_true[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mobilenetv3_small_050")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    seeds.seed_generators(arguments.seed, "training")
    network = PoseNet(arguments.encoder, pretrained=False, rotation_scale=0.01, translation_scale=0.2)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=arguments.steps, pct_start=0.05)
    loader = Loader(
        samples("train", augmented=True), batch_size=6, seed=arguments.seed, shuffle=True, workers=0, device="cpu"
    )
    spoken: list[Tensor] = []
    for batch in itertools.islice(batches(loader), arguments.steps):
        predicted, true = motions(network, batch)
        error = compose(inverse(predicted), true)
        loss = error[:, :3, 3].abs().mean() + rotation_angle_deg(error[:, :3, :3]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        spoken.append(true[:, 2, 3])

    network.eval()
    test = Loader(samples("test", augmented=False), batch_size=8, seed=0, shuffle=False, workers=0, device="cpu")
    with torch.inference_mode():
        pairs = [motions(network, batch) for batch in test]
    predicted, true = (torch.cat(motion)[:, 2, 3] for motion in zip(*pairs, strict=True))
    print(
        json.dumps(
            {
                "error_m": float((predicted - true).abs().mean()),
                "error_of_the_mean_m": float((torch.cat(spoken).mean() - true).abs().mean()),
                "true_m": [float(true.max()), float(true.min())],
                "encoder": arguments.encoder,
                "steps": arguments.steps,
                "seed": arguments.seed,
                "cores": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
