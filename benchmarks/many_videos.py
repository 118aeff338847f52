"""Measure a thousand videos: survey, shards, an epoch, and predictions that are killed and resumed.

    python benchmarks/many_videos.py all --out DIR                      every stage, in this order
    python benchmarks/many_videos.py make|survey|shard|train --out DIR  one stage, of what the stages before it left
    python benchmarks/many_videos.py predict --out DIR --seconds 60     killed after 60 s, then resumed to its end

The videos have 50 frames of 96x64; one of them is cut in half. Each stage prints its time, the largest memory of its
processes, and the files and bytes that it wrote.
"""

# mypy: disable-error-code="index"

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import psutil

HEIGHT, WIDTH, FRAMES = 64, 96, 50
SEED = 0
POISONED = 417
PREDICT = ("--motion", "network", "--no-video", "--no-cloud", "--workers", "2")
"""Depth and path of each video; no alignment, video and point cloud, which take more time than so small a network."""

OPEN = ("data.camera.focal_px=90", "data.stride=1")
NETWORK = (
    *("data.height=32", "data.width=64", "model.network.encoder=test_resnet", "model.pretrained=false"),
    *("model.pose_encoder=test_resnet", "model.network.decoder_channels=[4,4,8,8,8]", "data.split_by.unit=recordings"),
    *("data.split_by.val_share=0.01", "training.max_epochs=1", "training.batch_size=32", "training.workers=0"),
    *("training.threads=1", "training.images_every=0", "training.histograms_every=0", "training.check_seconds=10"),
    *('training.loggers=["csv"]', "training.accelerator=cpu", "training.validate_every=1000000"),
)


def write_video(path: Path, number: int) -> None:
    """Write frames of a texture of its own that moves towards the camera."""
    random = np.random.default_rng((SEED, number))
    noise = cv2.resize(random.random((32, 32, 3)).astype(np.float32), (256, 256), interpolation=cv2.INTER_CUBIC)
    texture = np.uint8(np.clip(255 * noise, 0, 255))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "20", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for index in range(FRAMES):
            side, shift = 180 - 2 * index, 30 + index
            view = cv2.resize(texture[shift : shift + side, shift : shift + side], (WIDTH, HEIGHT))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


def make_videos(out: Path, count: int) -> None:
    """Write the videos, 100 in a folder, and cut one."""
    paths = [out / "videos" / f"{number // 100:02d}" / f"{number:04d}.mp4" for number in range(count)]
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(write_video, paths, range(count), chunksize=20))
    poisoned = paths[POISONED % count]
    poisoned.write_bytes(poisoned.read_bytes()[: poisoned.stat().st_size // 2])
    print(f"{count} videos of {FRAMES} frames, {WIDTH}x{HEIGHT}; {poisoned.name} is cut in half")


class MemoryMonitor:
    """The largest sum of the proportional memory of a process and its children, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        self.pid, self.largest, self.ended = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.ended.wait(0.5):
            total = 0
            try:
                parent = psutil.Process(self.pid)
                processes = [parent, *parent.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.largest = max(self.largest, total)


def run(out: Path, name: str, words: list[str], *, kill_after_s: float | None = None) -> tuple[int, str]:
    """Run a command of stadia, or kill it after a time; print its time and memory; return exit code and output."""
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STADIA_CACHE": str(out / "cache")}
    command = [sys.executable, "-m", "stadia", *words]
    log = out / f"{name}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment, start_new_session=True)
        memory = MemoryMonitor(process.pid)
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        memory.ended.set()
    taken = time.perf_counter() - started
    state = "killed" if process.returncode < 0 else f"exit code {process.returncode}"
    print(f"{name}: {taken:.0f} s, at most {memory.largest / 2**20:.0f} MiB, {state}", flush=True)
    return process.returncode, log.read_text()


def count_files(folder: Path) -> str:
    """Return files and bytes of a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"{len(sizes)} files, {sum(sizes) / 1e6:.0f} MB"


def survey(out: Path) -> None:
    """Survey the videos: the cut one is named."""
    (out / "survey.csv").unlink(missing_ok=True)
    _, text = run(out, "survey", ["data", "survey", str(out / "videos"), *OPEN, "--out", str(out / "survey.csv")])
    print("  " + "\n  ".join(line for line in text.splitlines() if "damaged" in line or "can be used" in line))


def shard(out: Path) -> None:
    """Write all but the cut one as shards."""
    shutil.rmtree(out / "shards", ignore_errors=True)
    words = ["data", "shard", str(out / "videos"), str(out / "shards"), *OPEN, "data.damaged=skip", "--size", "64x32"]
    run(out, "shard", words)
    print(f"  {count_files(out / 'shards')} of shards; cache {count_files(out / 'cache')}")


def train(out: Path) -> None:
    """Train a small network on the shards for an epoch."""
    run(out, "train", ["train", "selfsup", str(out / "shards"), *NETWORK, "--on-stop", "warn", "--out", f"{out}/runs"])
    text = (out / "train.log").read_text()
    print(
        "  " + "\n  ".join(line for line in text.splitlines() if "steps/s" in line or line.startswith("time:"))[-300:]
    )


def find_run(out: Path) -> str:
    """Return the newest run."""
    return str(max((out / "runs").iterdir(), key=lambda path: path.stat().st_mtime))


def read_ledger(folder: Path) -> list[dict[str, object]]:
    """Return the attempts of a batch."""
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def predict(out: Path, seconds: float) -> None:
    """Predict by a pool of two processes; kill them in the middle, and resume."""
    folder = out / "predictions"
    shutil.rmtree(folder, ignore_errors=True)
    words = ["predict", find_run(out), str(out / "videos"), *OPEN, "--out", str(folder), *PREDICT]
    run(out, "predict-killed", words, kill_after_s=seconds)
    records = {path.parent: path for path in folder.rglob("predictions.json")}
    done = {place: path for place, path in records.items() if json.loads(path.read_text())["finished"]}
    before = {place: path.stat().st_mtime_ns for place, path in done.items()}
    print(f"  when it was killed, {len(done)} videos were predicted and {len(records) - len(done)} under way")
    _, text = run(out, "predict-resumed", words)
    again = [path for path, time_ns in before.items() if (path / "predictions.json").stat().st_mtime_ns != time_ns]
    rows = read_ledger(folder)
    attempts = Counter(str(row["video"]) for row in rows if row["state"] == "done")
    states = Counter(str(row["state"]) for row in rows)
    print(f"  ledger: {dict(states)}, {max(attempts.values())} prediction of a video at most; {len(again)} again")
    print("  " + "\n  ".join(line for line in text.splitlines() if line.startswith("failed")))
    print(f"  {count_files(folder)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("all", "make", "survey", "shard", "train", "predict"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    out = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    stages = {
        "make": lambda: make_videos(out, given.videos),
        "survey": lambda: survey(out),
        "shard": lambda: shard(out),
        "train": lambda: train(out),
        "predict": lambda: predict(out, given.seconds),
    }
    print(f"seed {SEED}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    for name in stages if given.what == "all" else (given.what,):
        stages[name]()


if __name__ == "__main__":
    main()
