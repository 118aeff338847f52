"""Memory and open files per frame of `stadia predict` and `stadia odometry`, over thousands of small frames.

    PYTHONPATH=src python benchmarks/memory_growth.py RUN [--frames 2000] [--methods refined]

RUN is a trained depth run. The frames slide over a texture, so that the camera moves and every part of the commands is
used: maps, video, point cloud, path, and map points of the odometry. Every 20 frames resident memory is read, and
where the C library is glibc also what the program has allocated: resident memory also holds what the allocator keeps
free. After a warm-up the frames are cut into blocks; the slope is the mean growth of a block, and its 95 % interval is
that of Student's t over the blocks. The goal is below 100 bytes a frame.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.stats import t as student_t

from stadia.core.types import Predictor
from stadia.evaluation.frame_preparation import Frame
from stadia.evaluation.io.predictions_record import Provenance
from stadia.odometry.visual_odometry import track_camera
from stadia.recipes.base.build_recipe import load_predictor
from stadia.recipes.prediction.depth_commands import predict_input
from stadia.recipes.prediction.prediction_inputs import PredictionInput

EVERY, BLOCKS, WARM_UP = 20, 16, 0.2
GOAL_BYTES = 100
PAGE = os.sysconf("SC_PAGE_SIZE")


class MallocInfo(ctypes.Structure):
    """glibc's mallinfo2: bytes of the heap, and of blocks that are mapped on their own, among others."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    ]


def read_allocated_bytes() -> int:
    """Return what the program has allocated from the C library; 0 where that is not glibc."""
    read: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if read is None:
        return 0
    read.restype = MallocInfo
    info = read()
    return int(info.uordblks + info.hblkhd)


class MemoryLog:
    """Resident bytes, allocated bytes and open descriptors by frame."""

    def __init__(self) -> None:
        self.frames, self.bytes, self.allocated, self.files = list[int](), list[int](), list[int](), list[int]()

    def add(self, frame: int) -> None:
        gc.collect()
        self.frames.append(frame)
        self.bytes.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)
        self.allocated.append(read_allocated_bytes())
        self.files.append(len(list(Path("/proc/self/fd").iterdir())))

    def describe_slope(self, values: list[int]) -> tuple[float, str]:
        """Return the growth a frame, and a line with its interval."""
        first = int(len(self.frames) * WARM_UP)
        at = np.linspace(first, len(self.frames) - 1, BLOCKS + 1).round().astype(int)
        slopes = np.diff(np.array(values)[at]) / np.diff(np.array(self.frames)[at])
        half = student_t.ppf(0.975, BLOCKS - 1) * slopes.std(ddof=1) / np.sqrt(BLOCKS)
        mean = float(slopes.mean())
        return mean, f"{mean:8.0f} bytes a frame, 95 % interval {mean - half:.0f} to {mean + half:.0f}"

    def print(self, name: str) -> bool:
        """Print the slopes. Return whether what is allocated stays below the goal, and no descriptor open."""
        more_files = self.files[-1] - self.files[int(len(self.frames) * WARM_UP)]
        resident, line = self.describe_slope(self.bytes)
        at_end = f"{self.bytes[-1] / 2**20:.0f} MiB, {self.files[-1]} open files ({more_files:+d})"
        print(f"{name:20} resident  {line}; {at_end}", flush=True)
        slope = resident
        if any(self.allocated):
            slope, line = self.describe_slope(self.allocated)
            print(f"{name:20} allocated {line}; {self.allocated[-1] / 2**20:.0f} MiB", flush=True)
        return slope < GOAL_BYTES and more_files <= 0


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
