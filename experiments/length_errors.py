"""Measure how often the true distance of two points is within the standard deviations that `base` states.

    python experiments/length_errors.py

In up to 13 images of each sample of `zero_shot.py`, 25 pairs of random pixels are measured: in the network's own
metres, and with the true depth of one more pixel, as by `--scale-from point=X,Y:METRES`. The last line has the means
over the samples.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from zero_shot import SAMPLES, open_sample

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA

from stadia.predict.network import open_network
from stadia.predict.prediction import lift_pixel, measure_distance
from stadia.scale.depth_deviations import DepthDeviations
from stadia.scale.sources import POINT_DEVIATION

IMAGES, PAIRS = 13, 25


def main() -> None:
    torch.set_num_threads(1)
    network, rng = open_network("base"), np.random.default_rng(1)
    alone, with_point = (DepthDeviations.of(network.relative_error, scale) for scale in (None, POINT_DEVIATION))
    means = []
    for sample in SAMPLES[:-1]:  # the objects on one table have no distances between them
        images, off = open_sample(sample, REAL_DATA), []
        for image in images[:: max(len(images) // IMAGES, 1)]:
            K, truth = image.frame.K, image.truth
            depth = np.asarray(network.predict(image.frame.image, K=K).depth, float)
            depth = cv2.resize(depth, truth.shape[::-1], interpolation=cv2.INTER_NEAREST)
            rows, columns = np.nonzero((truth > 0) & (depth > 0))
            for _ in range(PAIRS):
                first, second, known = ((int(columns[k]), int(rows[k])) for k in rng.integers(0, len(rows), 3))
                if first == second:
                    continue
                true = np.linalg.norm(lift_pixel(truth, K, *first) - lift_pixel(truth, K, *second))
                factor = truth[known[::-1]] / depth[known[::-1]]
                found = [
                    measure_distance(scale * depth, K, first, second, errors)
                    for scale, errors in ((1.0, alone), (factor, with_point))
                ]
                off.append([abs(one.distance - true) / one.deviation for one in found])
        within = [[float((np.array(off)[:, column] < limit).mean()) for limit in (1, 2)] for column in (0, 1)]
        means.append(within)
        print(json.dumps({"sample": sample.title, "own metres": within[0], "one point": within[1]}), flush=True)
    print(json.dumps({"own metres": np.mean(means, 0)[0].tolist(), "one point": np.mean(means, 0)[1].tolist()}))


if __name__ == "__main__":
    main()
