"""Measure what docs/results/machines.md reports: processes, shards in a store, a simulated store, and costs on paper.

    python benchmarks/scale.py processes --out DIR     losses on 1, 2 and 4 processes
    python benchmarks/scale.py store --out DIR         batches from local shards and from S3 on loopback
    python benchmarks/scale.py simulate --out DIR      a loader against a store with three latencies, and simpy's model
    python benchmarks/scale.py paper --images DIR      bytes and decoding time of a sample; 1,000 hours on 1 to 512 GPUs

`processes` needs `elastic_restarts.py` beside it for its data. `store` and `simulate` need moto, `simulate` simpy.
"""

# mypy: disable-error-code="arg-type, assignment, unused-ignore"

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from elastic_restarts import SETTINGS, write_drive

COUNTS = ("1 ddp", "2 ddp", "4 ddp")
LATENCIES_S = (0.05, 0.2, 0.5)
ROUNDS = 3
BATCH = 4
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def measure_processes(out: Path, steps: int) -> None:
    """Train on several numbers of processes with one global batch; print the largest relative differences."""
    data = write_drive(out / "drive", 0)
    losses: dict[str, list[dict[str, float]]] = {}
    for name in COUNTS:
        count, strategy = name.split()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
        command += ["-m", "stadia", "train", "selfsup", str(data), *SETTINGS, f"training.max_steps={steps}"]
        command += [f"training.strategy={strategy}", "--on-stop", "warn", "--out", str(out / name.replace(" ", "-"))]
        subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True)
        (table,) = (out / name.replace(" ", "-")).glob("*/metrics.csv")
        with table.open() as stream:
            rows = list(csv.DictReader(stream))
        losses[name] = [{"loss": float(row["train/loss"])} for row in rows if row.get("train/loss")]
    for name in COUNTS[1:]:
        pairs = zip(losses[COUNTS[0]], losses[name], strict=True)
        worst = max(abs(other["loss"] / one["loss"] - 1) for one, other in pairs)
        print(f"{name}: largest relative difference of the loss to one process {worst:.2g} over {steps} steps")


def start_store() -> tuple[Any, str]:
    """Start moto's S3 on loopback with a bucket; return the server and the URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1"}
    urlopen(Request(f"http://{host}:{port}/bucket", method="PUT")).close()
    return server, "s3://bucket"


def write_shard_sets(out: Path, url: str, shard_bytes: int) -> tuple[str, str]:
    """Write a drive of 240 frames as shards into a folder and a store."""
    from stadia.data.shard_writer import shard_dataset

    drive = out / "long"
    if not drive.exists():
        frames = sorted(write_drive(out / "drive", 0).iterdir())
        drive.mkdir(parents=True)
        for index in range(240):
            shutil.copy(frames[index % len(frames)], drive / f"{index:04d}.png")
    options = {"camera": {"focal_px": 90}, "stride": 1}
    for place in (str(out / "shards"), f"{url}/shards"):
        list(shard_dataset(drive, place, options=options, shard_bytes=shard_bytes))
    return str(out / "shards"), f"{url}/shards"


def load_epoch(path: str, cache: Path, *, step_s: float = 0.0, shard_gb: float = 1.0) -> tuple[float, int]:
    """Load an epoch in batches of 4, with a pause for each as a step would take; return the time and the samples."""
    from stadia.data.config import DatasetConfig
    from stadia.data.splits import open_split
    from stadia.training.loading.loader import Loader
    from stadia.training.loading.samples import VideoSamples

    config = DatasetConfig(
        path=path, height=64, width=96, cache={"folder": str(cache), "shard_gb": shard_gb}, shuffle_shards=4
    )
    samples = VideoSamples.from_config(open_split(config).train, config, training=True)
    loader, started, count = Loader(samples, batch_size=BATCH, shuffle=True), time.perf_counter(), 0
    for batch in loader:
        count += len(batch.meta)
        if step_s:
            time.sleep(step_s)
    return time.perf_counter() - started, count


def measure_store(out: Path) -> None:
    """Compare epochs from local shards, from a store without copies, and from its copies."""
    server, url = start_store()
    local, remote = write_shard_sets(out, url, 1 << 18)
    rounds: dict[str, list[float]] = {"local": [], "store": [], "copies": []}
    for number in range(3):
        cache = out / f"cache{number}"
        for name, path in (("local", local), ("store", remote), ("copies", remote)):
            taken, count = load_epoch(path, cache, step_s=0.05)
            rounds[name].append(count / taken)
    server.stop()
    for name, speeds in rounds.items():
        share = np.median(speeds) / np.median(rounds["local"])
        print(
            f"{name}: {np.median(speeds):.1f} samples/s, {share:.1%} of local (median of 3, {min(speeds):.1f} at least)"
        )


@dataclass
class LoaderTrace:
    """What an epoch of the loader read and how long it took, to be modeled.

    reads: of each sample, in order: the shards of its frames; the first one is that of the sample itself.
    waiting_s: time in which samples waited for copies.
    copies_s: of each copy: transfer, hash and writing, without the latency that was added.
    """

    reads: list[list[int]] = field(default_factory=list)
    waiting_s: float = 0.0
    copies_s: list[float] = field(default_factory=list)


@contextmanager
def trace_loader(latency_s: float) -> Iterator[LoaderTrace]:
    """Trace the loader, and add a latency to each transfer of a shard."""
    from stadia.data.sharded_dataset import ShardReader
    from stadia.training.loading.samples import VideoSamples

    trace = LoaderTrace()
    real_packed, real_fetch, real_copy = VideoSamples.packed, ShardReader._fetch, ShardReader._copy

    def packed(self: VideoSamples, key: tuple[int, int]) -> Any:
        target = self._targets[key[1]]
        trace.reads.append([self.recordings[target.recording].shard_of(target.index)])
        return real_packed(self, key)

    def fetch(self: ShardReader, shard: int) -> Path:
        is_sample = threading.current_thread() is threading.main_thread()
        is_copied, started = self._path(shard).exists(), time.perf_counter()
        path = real_fetch(self, shard)
        if is_sample and trace.reads:
            trace.reads[-1].append(shard)
            trace.waiting_s += 0 if is_copied else time.perf_counter() - started
        return path

    def copy(self: ShardReader, shard: int, path: Path) -> None:
        time.sleep(latency_s)
        started = time.perf_counter()
        real_copy(self, shard, path)
        trace.copies_s.append(time.perf_counter() - started)

    VideoSamples.packed, ShardReader._fetch, ShardReader._copy = packed, fetch, copy  # type: ignore[method-assign]
    try:
        yield trace
    finally:
        VideoSamples.packed = real_packed  # type: ignore[method-assign]
        ShardReader._fetch, ShardReader._copy = real_fetch, real_copy  # type: ignore[method-assign]


def simulate_epoch(reads: Sequence[Sequence[int]], latency_s: float, sample_s: float, copy_s: float) -> float:
    """Return the time of an epoch: a loader whose samples wait for the copies of the shards that they read.

    As `PrefetchingSampler` does, two threads copy the next shards, at most two before their first batch. A neighbor in
    time that lies in a shard without a copy is copied by the loader itself.

    Args:
        reads: of each sample, in order: its own shard, then those of all its frames.
        latency_s, copy_s: of a copy, before and in it.
        sample_s: of a sample without waiting.
    """
    import simpy

    from stadia.training.loading.loader import AHEAD_SHARDS

    environment = simpy.Environment()
    threads, copies, ahead = simpy.Resource(environment, AHEAD_SHARDS), dict[int, Any](), deque[tuple[Any, int]]()
    batches = iter([reads[start : start + BATCH] for start in range(0, len(reads), BATCH)])

    def prefetch(shard: int) -> Any:
        with threads.request() as thread:
            yield thread
            if shard not in copies:
                copies[shard] = environment.process(copy())
            yield copies[shard]

    def copy() -> Any:
        yield environment.timeout(latency_s + copy_s)

    def load() -> Any:
        begun = set[int]()
        while True:
            while sum(new for _, new in ahead) < AHEAD_SHARDS and (batch := next(batches, None)) is not None:
                first = [shard for shard in dict.fromkeys(sample[0] for sample in batch) if shard not in begun]
                begun.update(first)
                for shard in first:
                    environment.process(prefetch(shard))
                ahead.append((batch, len(first)))
            if not ahead:
                return
            for sample in ahead.popleft()[0]:
                for shard in sample[1:]:
                    if shard not in copies:
                        copies[shard] = environment.process(copy())
                    yield copies[shard]
                yield environment.timeout(sample_s)

    environment.process(load())
    environment.run()
    return float(environment.now)


def measure_simulation(out: Path) -> None:
    """Compare simpy's model with epochs against a store whose every shard takes longer.

    Time of a sample and of a copy are measured in the same epoch, since the load of the machine changes.
    """
    server, url = start_store()
    _, remote = write_shard_sets(out, url, 1 << 18)
    for latency_s in LATENCIES_S:
        for number in range(ROUNDS):
            with trace_loader(latency_s) as trace:
                measured_s, count = load_epoch(remote, out / f"slow{latency_s}-{number}")
            sample_s, copy_s = (measured_s - trace.waiting_s) / count, float(np.mean(trace.copies_s))
            modeled_s = simulate_epoch(trace.reads, latency_s, sample_s, copy_s)
            print(
                f"latency {latency_s} s: {count / measured_s:.1f} samples/s measured, waiting"
                f" {trace.waiting_s / measured_s:.0%}, {modeled_s / measured_s - 1:+.1%} time by the model; a sample"
                f" {1e3 * sample_s:.1f} ms, a copy {1e3 * copy_s:.0f} ms, {len(trace.copies_s)} copies",
                flush=True,
            )
    server.stop()


GPU_SAMPLES_S = 300.0
"""Samples a second of one GPU, assumed and not measured: two ResNet-18 at 640x192 in bf16 on a GPU of a data center."""

CORES_PER_GPU, GPUS_PER_MACHINE = 8, 8
NETWORK_GB_S, STORE_GB_S = 25.0, 5.0
"""Assumed: of a machine to the others, and to its store."""

GRADIENT_BYTES = 4 * 27_000_000
HOURS, FRAMES_S = 1000, 10


def measure_paper(images: Path) -> None:
    """Print bytes and processor time of a frame by encoding, and epochs of 1,000 hours on 1 to 512 GPUs."""
    import cv2

    from stadia.data.frame_store import resize_image
    from stadia.data.shard_index import decode_frame, encode_image
    from stadia.io.image_files import list_images, read_rgb

    frames = [resize_image(read_rgb(path), 192, 640) for path in list_images(images)[:20]]
    cv2.setNumThreads(1)
    costs: dict[str, tuple[float, float]] = {}
    for encoding in ("png", "jpeg", "raw"):
        data = [encode_image(frame, encoding) for frame in frames]  # type: ignore[arg-type]
        started = time.process_time()
        for _ in range(5):
            for part in data:
                decode_frame("frame", part, encoding, 192, 640)  # type: ignore[arg-type]
        decode_s = (time.process_time() - started) / (5 * len(data))
        costs[encoding] = float(np.mean([len(part) for part in data])), decode_s
        print(f"{encoding}: {costs[encoding][0] / 1e3:.0f} kB a frame, {1e3 * decode_s:.2f} ms to decode on one core")
    total = HOURS * 3600 * FRAMES_S
    for gpus in (1, 8, 64, 512):
        machines = -(-gpus // GPUS_PER_MACHINE)
        for encoding in ("png", "jpeg"):
            size, decode_s = costs[encoding]
            compute = GPU_SAMPLES_S * gpus
            exchange_s = 2 * GRADIENT_BYTES * (machines - 1) / max(machines, 1) / (NETWORK_GB_S * 1e9)
            compute = 1 / (1 / compute + exchange_s / (32 * gpus))
            decode = CORES_PER_GPU * gpus / (3 * decode_s)
            store = STORE_GB_S * 1e9 / size  # each machine reads every shard
            rate = min(compute, decode, store)
            limit = {compute: "GPUs", decode: "decoding", store: "store of each machine"}[rate]
            hours = total / rate / 3600
            print(f"{gpus} GPUs, {encoding}: {rate:.0f} samples/s, an epoch {hours:.2f} h, limit: {limit}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["processes", "store", "simulate", "paper"])
    parser.add_argument("--out", type=Path, default=Path("scale"))
    parser.add_argument("--images", type=Path, default=Path("images"))
    parser.add_argument("--steps", type=int, default=50)
    given = parser.parse_args()
    if given.what == "paper":
        measure_paper(given.images)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "processes":
        measure_processes(given.out, given.steps)
    elif given.what == "store":
        measure_store(given.out)
    else:
        measure_simulation(given.out)


if __name__ == "__main__":
    main()
