"""Measure `stadia scale` on KITTI 06: the official path and a COLMAP model, made up to scale by a drawn factor.

    python benchmarks/scale_results.py [--model FOLDER] [--draws 40] [--seed 0]

`--model` is a COLMAP model of the images of KITTI 06 named by their number: `stadia map IMAGES` writes one into
`colmap`. Printed are the error of the factor by a camera height of 1.65 m, and by positions with 1 m of noise: the
largest error, its deviation, and the share of draws whose stated deviation holds the truth. Real samples are in
STADIA_REAL_DATA (../shared/data).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from harness import REAL_DATA, make_parser

from stadia.data.open_dataset import open_recordings
from stadia.geometry.align import umeyama
from stadia.scale.foreign_results import ForeignResult, open_result
from stadia.scale.positions import fit_positions
from stadia.scale.scale_result import find_images, measure_result

KITTI = REAL_DATA / "kitti_odometry"
HEIGHT_M, NOISE_M, FRAMES = 1.65, 1.0, 51


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    (recording,) = open_recordings(KITTI, "kitti_odometry")
    truth = np.array([recording.T_world_camera(index) for index in range(FRAMES)])
    path = ForeignResult(KITTI, "trajectory", tuple(f"{index:06d}" for index in range(FRAMES)), truth)
    results = {"path": path} | ({"model": open_result(options.model)} if options.model else {})
    for name, result in results.items():
        true_m = truth[[int(frame) for frame in result.names], :3, 3]
        whole = umeyama(torch.from_numpy(result.T_world_camera[:, :3, 3]), torch.from_numpy(true_m), "sim3").scale
        factor = float(np.exp(random.uniform(-3, 3)))
        T = result.T_world_camera.copy()
        T[:, :3, 3] *= float(whole) / factor  # in metres over the drawn factor
        of_points = result.points * float(whole) / factor
        drawn = replace(result, T_world_camera=T, points=of_points)
        receipt = measure_result(drawn, [f"height={HEIGHT_M}"], find_images(drawn, KITTI, {}))
        row: dict[str, object] = {"result": name, "factor": round(factor, 4)}
        row |= {"height": round(receipt.factor / factor - 1, 4), "height_deviation": round(receipt.deviation, 4)}
        fits = [
            fit_positions(T[:, :3, 3], true_m + random.normal(0, NOISE_M, true_m.shape)) for _ in range(options.draws)
        ]
        errors = np.array([fit.factor / factor - 1 for fit in fits])
        held = float(np.mean(np.abs(errors) <= [fit.deviation for fit in fits]))
        row |= {"positions": round(float(np.abs(errors).max()), 4), "std": round(float(errors.std()), 4), "held": held}
        print(json.dumps(row))


if __name__ == "__main__":
    main()
