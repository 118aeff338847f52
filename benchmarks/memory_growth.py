"""Memory and open files per frame of `stadia predict` and `stadia odometry`, over thousands of small frames.

    PYTHONPATH=src python benchmarks/memory_growth.py RUN [--frames 2000] [--methods refined]

RUN is a trained depth run. The frames slide over a texture, so that the camera moves and every part of the commands is
used: maps, video, point cloud, path, and map points of the odometry. Resident memory is read every 20 frames. After a
warm-up the frames are cut into blocks; the slope is the mean growth of a block, and its 95 % interval is that of
Student's t over the blocks. The goal is below 100 bytes a frame.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import t as student_t

from stadia.core.types import Predictor
from stadia.evaluation.frame_preparation import Frame
from stadia.evaluation.io.predictions_folder import Provenance
from stadia.odometry.visual_odometry import track_camera
from stadia.recipes.base.build_recipe import load_predictor
from stadia.recipes.base.depth_commands import predict_input
from stadia.recipes.base.prediction_inputs import PredictionInput

EVERY, BLOCKS, WARM_UP = 20, 16, 0.2
GOAL_BYTES = 100
PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryLog:
    """Resident bytes and open descriptors by frame."""

    def __init__(self) -> None:
        self.frames, self.bytes, self.files = list[int](), list[int](), list[int]()

    def add(self, frame: int) -> None:
        gc.collect()
        self.frames.append(frame)
        self.bytes.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)
        self.files.append(len(list(Path("/proc/self/fd").iterdir())))

    def print(self, name: str) -> bool:
        """Print the slope with its interval. Return whether it is below the goal, and no descriptor was left open."""
        first = int(len(self.frames) * WARM_UP)
        at = np.linspace(first, len(self.frames) - 1, BLOCKS + 1).round().astype(int)
        slopes = np.diff(np.array(self.bytes)[at]) / np.diff(np.array(self.frames)[at])
        half = student_t.ppf(0.975, BLOCKS - 1) * slopes.std(ddof=1) / np.sqrt(BLOCKS)
        more_files = self.files[-1] - self.files[first]
        print(
            f"{name:20} {slopes.mean():8.0f} bytes a frame, 95 % interval {slopes.mean() - half:.0f} to"
            f" {slopes.mean() + half:.0f}; {self.bytes[-1] / 2**20:.0f} MiB, {self.files[-1]} open files"
            f" ({more_files:+d})",
            flush=True,
        )
        return bool(slopes.mean() < GOAL_BYTES) and more_files <= 0


def make_frames(count: int, height: int, width: int, log: MemoryLog) -> Iterator[Frame]:
    """Yield frames of a camera that moves to and fro before a textured plane."""
    random = np.random.default_rng(0)
    texture = cv2.resize(random.integers(0, 255, (height // 4, width // 2, 3), np.uint8), (4 * width, height))
    K = np.array([[1.2 * width, 0, (width - 1) / 2], [0, 1.2 * width, (height - 1) / 2], [0, 0, 1]])
    for index in range(count):
        if index % EVERY == 0:
            log.add(index)
        left = abs(index % (2 * width) - width)
        yield Frame(f"{index:06d}", np.ascontiguousarray(texture[:, left : left + width]), K, index / 10)


def run_predict(predictor: Predictor, provenance: Provenance, count: int, log: MemoryLog, folder: Path) -> None:
    frames = make_frames(count, 2 * predictor.height, 2 * predictor.width, log)
    predict_input(predictor, PredictionInput("frames", frames, count, 10.0), folder / "predicted", provenance)


def run_track(predictor: Predictor, method: str, count: int, log: MemoryLog) -> None:
    frames = make_frames(count, 2 * predictor.height, 2 * predictor.width, log)
    track_camera(predictor, frames, method, source="frames", take_points=lambda points: None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--methods", nargs="*", default=["refined"], help="of odometry")
    arguments = parser.parse_args()
    predictor, is_flat = load_predictor(arguments.run), True
    with tempfile.TemporaryDirectory() as folder:
        log = MemoryLog()
        run_predict(predictor, Provenance.from_checkpoint(arguments.run), arguments.frames, log, Path(folder))
        is_flat &= log.print("predict")
    for method in arguments.methods:
        log = MemoryLog()
        run_track(predictor, method, arguments.frames, log)
        is_flat &= log.print(f"odometry {method}")
    return 0 if is_flat else 1


if __name__ == "__main__":
    raise SystemExit(main())
