"""Camera height from depth of an unknown scale, over many worlds: its error, and how often one sigma holds the truth.

    python experiments/depth_height.py --data worlds/heights [--kinds silhouette nearest quartile median mean]

Renders missing parts of --data first: 40 worlds of RoadWorld with 12 images each, cameras 1.2 to 2 m high (some minutes
on one core). The depth of each world is the true one times an unknown factor, with smooth errors of 5 % (a random
field of 8 x 3 numbers for each image) and noise of 1 % at each pixel; masks are the true ones, heights of cars those
that RoadWorld draws.

Prints a JSON line for each representative depth and pool: median and largest error of the height, bias, and the share
of worlds whose true height is within one and within two standard deviations.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.geometry.ground.object_scale import OBJECT_DEPTHS, POOLS
from stadia.scale.camera_height.config import CameraHeightConfig
from stadia.scale.camera_height.depth_heights import measure_frame, pool_frames
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

WORLDS = RoadWorldConfig(
    train=40, val=0, test=0, frames=12, height=192, width=640, stereo=False, camera_height_m=(1.2, 1.45, 1.65, 2.0)
)
SEED_OF_WORLDS = 11
SMOOTH_ERROR, NOISE = 0.05, 0.01


def disturb(depth_m: NDArray[np.float32], unit: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return depth in an unknown unit, with smooth errors and noise."""
    field = cv2.resize(random.normal(0, SMOOTH_ERROR, (3, 8)), depth_m.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return (unit * depth_m * np.exp(field + random.normal(0, NOISE, depth_m.shape))).astype(np.float32)


def measure_world(
    recording: Recording, config: CameraHeightConfig, true_m: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Return log error of the height, and sigma over the height, by each pool; empty where no image has objects."""
    random = np.random.default_rng(seed)
    unit = float(np.exp(random.uniform(-4, 4)))
    frames = []
    for index in range(len(recording)):
        depth_m = recording.depth_m(index)
        assert depth_m is not None
        frames.append(measure_frame(recording, index, disturb(depth_m, unit, random), config))
    try:
        pooled = pool_frames([frame for frame in frames if frame is not None], config).pooled
    except GeometryError:
        return {}
    return {name: (float(np.log(value / true_m)), pooled.sigma_m / value) for name, value in pooled.by.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", choices=OBJECT_DEPTHS, default=list(OBJECT_DEPTHS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not (arguments.data / "dataset.json").exists():
        write_roadworld(WORLDS, arguments.data, seed=SEED_OF_WORLDS, workers=1)
    recordings = open_recordings(arguments.data)
    heights = [
        json.loads((arguments.data / recording.name.rpartition("/")[2] / "recording.json").read_text())
        for recording in recordings
    ]
    for kind in arguments.kinds:
        config = CameraHeightConfig(priors="roadworld", object_depth=kind)
        found = [
            measure_world(recording, config, facts["camera_height_m"], arguments.seed + number)
            for number, (recording, facts) in enumerate(zip(recordings, heights, strict=True))
        ]
        known = [world for world in found if world]
        for pool in POOLS:
            errors = np.array([world[pool][0] for world in known])
            sigmas = np.array([world[pool][1] for world in known])
            row = {
                "depth": kind,
                "pool": pool,
                "worlds": len(known),
                "without": len(found) - len(known),
                "median_error": round(float(np.median(np.abs(errors))), 4),
                "bias": round(float(np.median(errors)), 4),
                "largest_error": round(float(np.abs(errors).max()), 4),
                "within_one_sigma": round(float((np.abs(errors) < sigmas).mean()), 3),
                "within_two_sigma": round(float((np.abs(errors) < 2 * sigmas).mean()), 3),
                "seed": arguments.seed,
                "cores": os.cpu_count(),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
