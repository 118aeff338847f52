"""Memory, descriptors and disk of long runs: `python benchmarks/soak.py [--frames 10000] [--steps 20000]`.

`stadia predict` and `stadia odometry` over a folder of small images of a camera that moves before a texture, and a tiny
`stadia train`, each as a process of its own, which is read five times a second. The C library is told to give freed
memory back at once, so that the pages of a process follow what it holds. The first fifth is warm-up. After the last
frame files are synced and the path is drawn (matplotlib takes 20 MB). What is between them is cut into blocks; the
slope of memory is the median of the slopes between all pairs of blocks, with its 95 % interval (Theil and Sen): a
single step of the allocator is no growth, and a leak is. Of a block the least memory counts: what a frame takes and
gives back lies above it.
The goal is below 100 bytes a frame or step. Disk is what the command writes, per frame or step.
"""

# mypy: disable-error-code="assignment"

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import theilslopes

HEIGHT, WIDTH = 64, 96
BLOCKS, WARM_UP, GOAL_BYTES = 20, 0.2, 100
GIVE_BACK = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
"""What tells glibc's allocator to give freed memory back at once."""
COMMANDS = ("predict", "odometry", "train")
CAMERA = ("data.camera.focal_px=115", "data.stride=1")
TINY = (
    *(
        "data.path=few",
        f"data.height={HEIGHT}",
        f"data.width={WIDTH}",
        "model.network.encoder=mobilenetv3_small_050",
        *CAMERA,
    ),
    *("training.batch_size=1", "training.workers=0", 'training.loggers=["csv"]', "training.images_every=1000000"),
    *("model.network.decoder_channels=[4,8,16,16,32]", "model.pose_net=correlation", "model.network.scales=1"),
    *("data.cache.folder=cache", "--on-stop", "warn"),
)


@dataclass
class Process:
    """What was read of a process.

    count: its frames or steps.
    disk_bytes: of its output at the end.
    ends_s: when the last map of a frame was written, else the path of the camera; infinite where there is neither.
    """

    name: str
    count: int
    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    disk_bytes: int = 0
    ends_s: float = np.inf

    @property
    def steady(self) -> slice:
        """Return the readings between the warm-up and the last frame."""
        count = int(np.searchsorted(self.seconds, self.ends_s))
        return slice(int(count * WARM_UP), count)

    def find_slope(self) -> tuple[float, float, float]:
        """Return the growth of memory in bytes for each frame or step, and the ends of its 95 % interval."""
        seconds = [np.mean(block) for block in np.array_split(self.seconds[self.steady], BLOCKS)]
        memory = [np.min(block) for block in np.array_split(self.bytes[self.steady], BLOCKS)]
        line = theilslopes(memory, seconds, alpha=0.95)
        seconds_each = self.seconds[self.steady.stop - 1] / self.count
        return line.slope * seconds_each, line.low_slope * seconds_each, line.high_slope * seconds_each


def write_images(folder: Path, count: int) -> None:
    """Write images of a camera that moves to and fro before a texture; images of one view are hard links."""
    random = np.random.default_rng(0)
    texture = cv2.resize(random.integers(0, 255, (HEIGHT // 4, WIDTH // 2, 3), np.uint8), (4 * WIDTH, HEIGHT))
    folder.mkdir()
    seen: dict[int, Path] = {}
    for index in range(count):
        left, path = abs(index % (2 * WIDTH) - WIDTH), folder / f"{index:06d}.png"
        if left in seen:
            path.hardlink_to(seen[left])
        else:
            cv2.imwrite(str(path), np.ascontiguousarray(texture[:, left : left + WIDTH]))
            seen[left] = path


def read_anonymous_bytes(process: int) -> int:
    """Return a process's memory without pages of files, which the kernel takes back. What lies in swap counts."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return sum(int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "VmSwap") if key in lines)


def measure(
    name: str,
    count: int,
    words: Sequence[str],
    folder: Path,
    output: Path,
    every_s: float,
    allocator: Mapping[str, str],
) -> Process:
    """Run a command line in `folder`, and read its process until it ends. allocator: variables of the environment."""
    read = Process(name, count)
    with (folder / f"{name}.log").open("wb") as log:
        start, began_s = time.monotonic(), time.time()
        command = [sys.executable, "-m", "stadia", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **allocator})
        while process.poll() is None:
            try:
                anonymous = read_anonymous_bytes(process.pid)
                descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            except (OSError, IndexError):
                break
            if anonymous:
                read.seconds.append(time.monotonic() - start)
                read.bytes.append(anonymous)
                read.descriptors.append(descriptors)
            time.sleep(every_s)
        if process.wait() != 0:
            raise RuntimeError(f"{name}: {(folder / f'{name}.log').read_text()[-2000:]}")
    if written := list(output.glob("depth/*")) or list(output.glob("trajectory.txt")):
        read.ends_s = max(path.stat().st_mtime for path in written) - began_s
    read.disk_bytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return read


def print_row(read: Process) -> bool:
    """Print a row. Return whether the lower end of the slope's interval is below the goal, and no descriptor stays."""
    slope, low, high = read.find_slope()
    first, last = read.steady.start, read.steady.stop - 1
    tenth = max(last // 10, 1)
    more = max(read.descriptors[last + 1 - tenth : last + 1]) - max(read.descriptors[: first + 1])
    print(
        f"{read.name:10} {read.count:6} {read.seconds[-1]:7.0f} s {read.bytes[first] / 2**20:6.0f} MiB"
        f" {read.bytes[last] / 2**20:6.0f} MiB {slope:8.0f} ({low:.0f} to {high:.0f}) bytes"
        f" {max(read.descriptors):4} ({more:+d}) {read.disk_bytes / read.count:8.0f} bytes",
        flush=True,
    )
    return low < GOAL_BYTES and more <= 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--commands", nargs="+", default=COMMANDS, choices=COMMANDS)
    parser.add_argument("--keep", action="store_true", help="let the C library keep freed memory: a third faster")
    parser.add_argument("--seconds", type=float, default=0.2, help="between two readings")
    arguments = parser.parse_args()
    is_flat = True
    with tempfile.TemporaryDirectory(prefix="stadia-soak-") as name:
        folder, every_s = Path(name), arguments.seconds
        allocator = {} if arguments.keep else GIVE_BACK
        write_images(folder / "few", 40)
        write_images(folder / "images", arguments.frames)
        words = "train", "selfsup", *TINY, "training.max_steps=2", "--out", "runs"
        measure("start", 2, words, folder, folder, every_s, allocator)
        (run,) = (path for path in (folder / "runs").iterdir() if path.is_dir())
        print(
            f"{'command':10} {'count':>6} {'time':>9} {'memory':>10} {'at end':>10} {'slope, 95 % interval':>30}",
            end="",
        )
        print(f" {'files':>9} {'disk':>13}")
        frames, steps = arguments.frames, arguments.steps
        lines = {
            "predict": (frames, ("predict", str(run), "images", *CAMERA, "--out", "predict-out")),
            "odometry": (frames, ("odometry", str(run), "images", *CAMERA, "--out", "odometry-out")),
            "train": (steps, ("train", "selfsup", *TINY, f"training.max_steps={steps}", "--out", "train-out")),
        }
        for command in arguments.commands:
            count, words = lines[command]
            is_flat &= print_row(measure(command, count, words, folder, folder / f"{command}-out", every_s, allocator))
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
