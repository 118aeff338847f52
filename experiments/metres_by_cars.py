"""Compare metres by detected cars with metres by stereo, LiDAR, or a known camera height.

    python experiments/metres_by_cars.py [--frames 16] [--network base]

The detector is yolox_nano.onnx of the real samples (STADIA_REAL_DATA). Cars are 1.5 m high. Prints the factor of each
source, and of the cars over that of the reference: KITTI 06 (stereo), KITTI raw (LiDAR), highway (1.23 m of height).
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA

from stadia import open_network
from stadia.predict import receipt
from stadia.predict.inputs import PredictionInput, open_inputs
from stadia.predict.options import PredictOptions

DETECTOR = REAL_DATA / "segmentation_model" / "yolox_nano.onnx"
DRIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "kitti_odometry": ("baseline", {}),
    "kitti_raw": ("lidar", {}),
    "clips/highway.mp4": ("height=1.23", {"camera": {"focal_px": 866}}),
}


def _open_input(path: Path, data: dict[str, Any]) -> PredictionInput:
    return open_inputs(path, **data)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--network", default="base")
    options = parser.parse_args()
    receipt.MAX_FRAMES = options.frames  # type: ignore[attr-defined]
    network = open_network(options.network)
    for name, (reference, data) in DRIVES.items():
        (session,) = network.open(REAL_DATA / name, PredictOptions(data=data))
        cars = f"object=car:1.5@{DETECTOR}"
        read = partial(_open_input, REAL_DATA / name, data)
        measured = receipt.measure_scale(session.predictor, read, [reference, cars])
        for text, fit in measured.fits.items():
            ratio = fit.factor / measured.fits[reference].factor
            print(f"{name} {text.partition('@')[0]}: {fit.factor:.3f} +- {fit.deviation:.0%}, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
