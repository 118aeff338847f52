"""Which photos have metres by `base`: measure the statistics of the package, and the misses and false alarms.

    python experiments/familiar_photos.py PHOTOS.csv [--out src/stadia/predict/networks/base_familiar.npz]

PHOTOS.csv has the columns path, source, unlike (0 or 1), kind and part: "statistics" or "figures". No source is in both
parts. A kernel ridge regression separates the encoder's mean features of photos of rooms, streets and people from those
of paintings, maps, drones and so on. Each statistics photo counts twice: whole, and cropped with another brightness.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.networks.config import BaseConfig
from stadia.networks.depth.unet import BaseNetwork, pool_features
from stadia.predict.networks.base import FAMILIAR_FILE, STANDARD_LIMIT, measure_strangeness

AXES = 96
"""Principal components of the features."""

RIDGE, KERNEL, GOOD_WEIGHT = 0.3, 0.7, 1.5
"""The kernel's width is the median squared distance over KERNEL. A photo with metres weighs GOOD_WEIGHT."""

Array = NDArray[np.float64]


def read_photo(path: str) -> NDArray[np.uint8]:
    image = cv2.imread(path)
    if image is None:
        raise SystemExit(f"{path}: no image")
    return np.asarray(image[..., ::-1], np.uint8)


def change_photo(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a crop of 70 to 95 % of each side, half of them mirrored, with another brightness."""
    height, width = image.shape[:2]
    share = rng.uniform(0.7, 0.95)
    top, left = int(rng.uniform(0, 1 - share) * height), int(rng.uniform(0, 1 - share) * width)
    image = image[top : top + int(height * share), left : left + int(width * share)]
    image = image[:, :: rng.choice([-1, 1])]
    return np.clip(image * rng.uniform(0.75, 1.25), 0, 255).astype(np.uint8)


@torch.no_grad()
def measure_features(network: BaseNetwork, image: NDArray[np.uint8]) -> Array:
    height, width = network.image_size(*image.shape[:2])
    small = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA)
    planar = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    return pool_features(network.encoder(planar))[0].double().numpy()


def square_distances(one: Array, other: Array) -> Array:
    return (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T


def fit(features: Array, unlike: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of FAMILIAR_FILE."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    standard = np.clip((features - mean) / spread, -STANDARD_LIMIT, STANDARD_LIMIT)
    axes = np.linalg.svd(standard - standard.mean(0), full_matrices=False)[2][:AXES]
    points = standard @ axes.T
    squares = square_distances(points, points)
    width = np.median(squares) / KERNEL
    ridge = RIDGE * np.diag(np.where(unlike, 1.0, 1 / GOOD_WEIGHT))
    weights = np.linalg.solve(np.exp(-squares / width) + ridge, np.where(unlike, 1.0, -1.0))
    tensors = {"mean": mean, "spread": spread, "axes": axes, "points": points, "weights": weights, "width": [width]}
    halves = ("axes", "points")
    return {name: np.asarray(value, np.float16 if name in halves else np.float32) for name, value in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=FAMILIAR_FILE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with options.photos.open() as stream:
        rows = list(csv.DictReader(stream))
    network, rng = BaseNetwork(BaseConfig()).eval(), np.random.default_rng(0)
    used = [row for row in rows if row["part"] == "statistics"]
    images = [read_photo(row["path"]) for row in used]
    images += [change_photo(image, rng) for image in images]
    features = np.stack([measure_features(network, image) for image in images])
    unlike = np.array([row["unlike"] == "1" for row in used] * 2)
    np.savez(options.out, allow_pickle=False, **fit(features, unlike))
    print(f"{options.out}: {len(used)} photos, {unlike.sum() // 2} of them unlike")
    caught, all_of_kind = Counter[str](), Counter[str]()
    for row in rows:
        if row["part"] == "figures":
            image = measure_features(network, read_photo(row["path"]))[None]
            all_of_kind[row["kind"]] += 1
            caught[row["kind"]] += bool(measure_strangeness(image, options.out)[0] > 0)
    for kind, count in all_of_kind.most_common():
        print(f"{kind}: {caught[kind]} of {count} without metres")


if __name__ == "__main__":
    main()
