"""Backgrounds of the tests: noise over a road, with depth."""

import json
from pathlib import Path

import cv2
import numpy as np


def write_noisy_roads(root: Path, *, images: int, width: int) -> Path:
    """Write two recordings, one to train and one to validate."""
    for seed, name in enumerate(("a", "b")):
        random, folder = np.random.default_rng(seed), root / name
        (folder / "left").mkdir(parents=True)
        (folder / "depth" / "left").mkdir(parents=True)
        for index in range(images):
            cv2.imwrite(str(folder / "left" / f"{index:06d}.png"), random.integers(0, 255, (32, width, 3), np.uint8))
            depth = np.linspace(30, 2, 32, dtype=np.float32)[:, None].repeat(width, 1)
            np.save(folder / "depth" / "left" / f"{index:06d}.npy", depth)
        camera = {"K": [[30, 0, (width - 1) / 2], [0, 30, 15.5], [0, 0, 1]], "height": 32, "width": width}
        (folder / "recording.json").write_text(json.dumps({"cameras": {"left": camera}, "T_right_left": None}))
    splits = {"format": "stadia", "version": 1, "splits": {"train": ["a"], "val": ["b"]}}
    (root / "dataset.json").write_text(json.dumps(splits))
    return root
