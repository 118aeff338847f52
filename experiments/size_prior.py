"""Compare a learned size prior with the class mean, on unseen cars of RoadWorld. Ten to twenty minutes on one core.

    python experiments/size_prior.py --data worlds/cars --out size_prior.safetensors

Renders missing parts of --data first (five to ten minutes): many worlds with few images that are far apart, since the
number of cars counts. --data may also be existing worlds of any camera. Cars of the split test are unseen, as are
their worlds.

The bound: RoadWorld draws a body style (1.46 to 2.00 m), then height, width and length by 2.5, 2 and 3 % of their own.
A predictor that recognizes the styles has an error of 0.031 m, where the class mean has 0.129 m.

Prints a JSON line: the mean absolute error of the height over cars of the test split (each car once, the median of its
crops, and each crop by itself), that of the class's mean and median on the training split, and the share of true
heights within two spreads.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from height_crops import HeightCrop, augment_crop, crop_recording_objects

from stadia.datasets.open_dataset import open_recordings
from stadia.models.size_prior import SizePrior, log_height_loss, save_size_prior
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

CARS = RoadWorldConfig(
    train=240, val=0, test=40, frames=10, height=96, width=320, stereo=False, speed_m_per_frame=(2.8, 3.0)
)
SEED_OF_CARS = 4


def crops_of(data: Path, split: str, side: int, every: int) -> list[HeightCrop]:
    return [
        crop for one in open_recordings(data, split=split) for crop in crop_recording_objects(one, side, every=every)
    ]


def train(prior: SizePrior, crops: list[HeightCrop], *, steps: int, batch: int, rate: float, seed: int) -> None:
    """Train with every car equally often, however many crops it has."""
    rng = np.random.default_rng(seed)
    of_car = defaultdict(list)
    for crop in crops:
        of_car[crop.instance].append(crop)
    cars = sorted(of_car)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    prior.train()
    for _ in range(steps):
        chosen = [of_car[cars[i]] for i in rng.integers(len(cars), size=batch)]
        some = [own[int(rng.integers(len(own)))] for own in chosen]
        images = (
            torch.from_numpy(np.stack([augment_crop(crop.image, rng) for crop in some])).movedim(-1, 1).float() / 255
        )
        loss = log_height_loss(*prior(images), torch.tensor([crop.height_m for crop in some]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def scores(prior: SizePrior, crops: list[HeightCrop], trained: list[HeightCrop]) -> dict[str, float]:
    true = np.array([crop.height_m for crop in crops])
    predicted, spread = prior.predict_heights([crop.image for crop in crops])
    rows = defaultdict(list)
    for row, crop in enumerate(crops):
        rows[crop.instance].append(row)
    of_car = np.array([np.median(predicted[own]) for own in rows.values()])
    true_of_car = np.array([true[own[0]] for own in rows.values()])
    heights = np.array(list({crop.instance: crop.height_m for crop in trained}.values()))
    return {
        "cars": len(rows),
        "crops": len(crops),
        "mae_m": float(np.abs(of_car - true_of_car).mean()),
        "mae_crop_m": float(np.abs(predicted - true).mean()),
        "mae_class_mean_m": float(np.abs(heights.mean() - true_of_car).mean()),
        "mae_over_class_mean": float(np.abs(of_car - true_of_car).mean() / np.abs(heights.mean() - true_of_car).mean()),
        "mae_class_median_m": float(np.abs(np.median(heights) - true_of_car).mean()),
        "within_two_spreads": float((np.abs(predicted - true) < 2 * spread).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--encoder", default="resnet10t", help="of timm")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    if not (arguments.data / "dataset.json").exists():
        write_roadworld(CARS, arguments.data, seed=SEED_OF_CARS, workers=1)
    crops = crops_of(arguments.data, "train", arguments.side, arguments.every)
    unseen = crops_of(arguments.data, "test", arguments.side, arguments.every)
    prior = SizePrior(float(np.mean([crop.height_m for crop in crops])), side=arguments.side, encoder=arguments.encoder)
    start = time.perf_counter()
    train(prior, crops, steps=arguments.steps, batch=arguments.batch, rate=arguments.rate, seed=arguments.seed)
    found = scores(prior, unseen, crops)
    settings = {
        "seed": arguments.seed,
        "encoder": arguments.encoder,
        "steps": arguments.steps,
        "train_cars": len({crop.instance for crop in crops}),
        "train_crops": len(crops),
    }
    print(json.dumps(settings | {"seconds": round(time.perf_counter() - start), "cores": 1} | found))
    if arguments.out is not None:
        save_size_prior(prior, arguments.out)


if __name__ == "__main__":
    main()
