"""Measure how time and memory grow with the size of the work, fit exponents, and draw them.

    python benchmarks/growth.py [--only step-images,report-rows] [--scale 1] [--plot FILE.png] [--json FILE]

step-images, step-pixels: a training step of `selfsup`, by images a batch and by pixels an image.
loader-frames: opening a recording, filling its cache, and one epoch of samples.
odometry-frames, predict-frames: `stadia odometry --method refined` and `stadia predict` with all outputs.
result-images: `stadia check` of a result of so many images of 1280x720 along a street of textured walls.
check-frames, check-runs: opening and checking a recording of so many frames; so many recordings of 40 frames.
report-rows: the report of a run of so many rows.

Each size is measured in a process of its own. Time is processor time of it and its children, so that other programs on
the machine count little; memory is the growth of the largest resident memory over that before the work. The exponent p
of c n^p is fitted to the largest three sizes, where constant costs count least. The goal is 1.05. Memory that grows by
less than FLAT_MB is flat. `--scale 2` doubles all sizes.
"""

# mypy: disable-error-code="arg-type, return-value"

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from harness import make_selfsup
from numpy.typing import NDArray
from soak import GIVE_BACK

GOAL, FLAT_MB, FITTED = 1.05, 16.0, 3
HEIGHT, WIDTH, PERIOD = 64, 96, 48
ENCODER = "mobilenetv3_small_050"


@dataclass(frozen=True)
class Cost:
    """What a size costs: seconds of the processor, and growth of the largest memory in units of 2^20 bytes."""

    size: float
    seconds: float
    memory_mb: float


# -- made-up data


def make_images(count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield images of a camera that moves to and fro before a texture."""
    random = np.random.default_rng(0)
    texture = cv2.resize(random.integers(0, 255, (HEIGHT // 4, WIDTH // 2, 3), np.uint8), (4 * WIDTH, HEIGHT))
    for index in range(count):
        left = abs(index % (2 * PERIOD) - PERIOD)
        yield np.ascontiguousarray(texture[:, left : left + WIDTH])


def write_recording(folder: Path, count: int) -> Path:
    """Write a recording of one camera; images of one view are hard links."""
    (folder / "left").mkdir(parents=True)
    for index, image in enumerate(make_images(min(count, 2 * PERIOD))):
        cv2.imwrite(str(folder / "left" / f"{index:06d}.png"), image)
    for index in range(2 * PERIOD, count):
        source = folder / "left" / f"{index % (2 * PERIOD):06d}.png"
        (folder / "left" / f"{index:06d}.png").hardlink_to(source)
    K = [[1.2 * WIDTH, 0, (WIDTH - 1) / 2], [0, 1.2 * WIDTH, (HEIGHT - 1) / 2], [0, 0, 1]]
    (folder / "recording.json").write_text(
        json.dumps({"cameras": {"left": {"K": K, "height": HEIGHT, "width": WIDTH}}})
    )
    return folder


def make_frames(count: int) -> Iterator[Any]:
    from stadia.data.frame_preparation import Frame

    K = np.array([[1.2 * WIDTH, 0, (WIDTH - 1) / 2], [0, 1.2 * WIDTH, (HEIGHT - 1) / 2], [0, 0, 1]])
    for index, image in enumerate(make_images(count)):
        yield Frame(f"{index:06d}", image, K, index / 10)


def make_recipe(height: int = HEIGHT, width: int = WIDTH) -> Any:
    recipe = make_selfsup(ENCODER, height, width)
    recipe.focal.fill_(1.2)  # of the cameras that trained, over the width of their images
    return recipe


# -- the works: each prepares a size, and returns what is measured


def prepare_step(batch: int, height: int, width: int) -> Callable[[], None]:
    from step import made_up_batch

    from stadia.training.loop.recipe import build_optimizer

    recipe, samples = make_recipe(height, width), made_up_batch(batch, height, width)
    optimizer = build_optimizer(recipe, recipe.config.optimizer)

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        recipe.training_step(batch).total.backward()
        optimizer.step()

    step(made_up_batch(1, HEIGHT, WIDTH))  # compiles the loss, and fills the optimizer's state, in little memory

    def steps() -> None:
        for _ in range(3):
            step(samples)

    return steps


def prepare_step_images(size: int, folder: Path) -> Callable[[], None]:
    return prepare_step(size, 96, 320)


def prepare_step_pixels(size: int, folder: Path) -> Callable[[], None]:
    side = 32 * round((size / 2) ** 0.5 / 32)  # twice as wide as high
    return prepare_step(1, side, 2 * side)


def prepare_loader(size: int, folder: Path) -> Callable[[], None]:
    from stadia.data.config import CacheConfig
    from stadia.data.open_dataset import open_recordings
    from stadia.training.loading.loader import Loader
    from stadia.training.loading.samples import VideoSamples

    recording = write_recording(folder / "recording", size)

    def load() -> None:
        samples = VideoSamples(
            open_recordings(recording), height=HEIGHT, width=WIDTH, cache=CacheConfig(folder=str(folder / "cache"))
        )
        for _ in Loader(samples, batch_size=4, shuffle=True):
            pass

    return load


def prepare_odometry(size: int, folder: Path) -> Callable[[], None]:
    from stadia.predict.track_camera import track_camera

    predictor = make_recipe().eval().predictor()
    track_camera(predictor, make_frames(20), "refined", source="frames")  # compiles
    return lambda: track_camera(predictor, make_frames(size), "refined", source="frames") and None


def prepare_predict(size: int, folder: Path) -> Callable[[], None]:
    from stadia.evaluation.predictions_folder import Provenance
    from stadia.predict.predict_frames import predict_to_folder

    predictor, provenance = make_recipe().eval().predictor(), Provenance(recipe="selfsup", config_hash="0" * 32)

    def predict(count: int, out: Path) -> None:
        predict_to_folder(predictor, make_frames(count), out, provenance, source="frames")

    predict(20, folder / "first")
    return lambda: predict(size, folder / "predicted")


def prepare_check(recordings: Sequence[int], folder: Path) -> Callable[[], None]:
    from stadia.data.open_dataset import open_recordings
    from stadia.judge.recordings.preflight_runner import run_preflight

    for number, count in enumerate(recordings):
        write_recording(folder / "data" / f"{number:04d}", count)
    run_preflight(open_recordings(write_recording(folder / "first", 40)))  # imports and compiles
    return lambda: run_preflight(open_recordings(folder / "data"), seconds=1e6) and None


def prepare_check_frames(size: int, folder: Path) -> Callable[[], None]:
    return prepare_check([size], folder)


def prepare_check_runs(size: int, folder: Path) -> Callable[[], None]:
    return prepare_check([40] * size, folder)


def write_result(folder: Path, count: int) -> Path:
    """Write a right transforms.json and its images: a camera that moves along three textured walls."""
    height, width, focal_px, step_m = 720, 1280, 1100.0, 0.25
    random, layers = np.random.default_rng(0), []
    for depth_m, top, bottom in ((10.0, 0, 400), (6.0, 300, 560), (4.0, 520, height)):
        length = int(width + focal_px * step_m * count / depth_m) + 1
        noise = random.integers(0, 255, (height // 12, length // 12 + 1), np.uint8)
        layers.append((depth_m, top, bottom, cv2.resize(noise, (length, height), interpolation=cv2.INTER_CUBIC)))
    (folder / "images").mkdir(parents=True)
    frames = []
    for index in range(count):
        image = np.zeros((height, width), np.uint8)
        for depth_m, top, bottom, texture in layers:
            move = np.array([[1.0, 0.0, -focal_px * step_m * index / depth_m], [0.0, 1.0, 0.0]])
            image[top:bottom] = cv2.warpAffine(texture, move, (width, height))[top:bottom]
        name = f"images/{index:06d}.jpg"
        cv2.imwrite(str(folder / name), image)
        pose = np.diag([1.0, -1.0, -1.0, 1.0])
        pose[0, 3] = step_m * index
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    camera = {"fl_x": focal_px, "fl_y": focal_px, "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    path = folder / "transforms.json"
    path.write_text(json.dumps(camera | {"frames": frames}))
    return path


def prepare_result(size: int, folder: Path) -> Callable[[], None]:
    path = write_result(folder / "result", size)

    def check() -> None:
        out = subprocess.run(
            [sys.executable, "-m", "stadia", "check", str(path)], capture_output=True, text=True, check=False
        )
        if out.returncode not in (0, 1):
            raise RuntimeError(out.stdout + out.stderr)

    return check


def write_run(folder: Path, rows: int) -> None:
    """Write the folder of a finished run with so many logged rows."""
    folder.mkdir(parents=True)
    config = make_recipe().config.model_dump(mode="json")
    (folder / "config.json").write_text(json.dumps(config))
    facts = {"recipe": "selfsup", "seed": 0, "started": "2026-03-02T10:15:00+00:00", "status": "finished"}
    facts |= {"finished": "2026-03-02T10:23:41+00:00", "data": {}, "environment": {}, "code": {}}
    (folder / "run.json").write_text(json.dumps(facts))
    random = np.random.default_rng(0)
    with (folder / "metrics.csv").open("w", newline="") as stream:
        names = ["train/loss", "train/term/photometric", "train/term/smoothness", "train/lr", "time/step_s"]
        writer = csv.writer(stream)
        writer.writerow(["step", "epoch", *names])
        for step in range(rows):
            loss = 0.1 + 0.3 * np.exp(-5 * step / rows) + 0.01 * random.standard_normal()
            writer.writerow([10 * (step + 1), step // 100, loss, 0.99 * loss, 0.01 * loss, 1e-4, 0.3])


def prepare_report(size: int, folder: Path) -> Callable[[], None]:
    from stadia.report import build_report

    write_run(folder / "first", 20)
    build_report(folder / "first")
    write_run(folder / "run", size)
    return lambda: build_report(folder / "run") and None


@dataclass(frozen=True)
class Work:
    """A command or a part of one. prepare: (size, empty folder) -> what is measured."""

    prepare: Callable[[int, Path], Callable[[], None]]
    sizes: tuple[int, ...]
    unit: str


WORKS = {
    "step-images": Work(prepare_step_images, (1, 2, 4, 8, 16), "images"),
    "step-pixels": Work(prepare_step_pixels, (8192, 32768, 131072, 524288), "pixels"),
    "loader-frames": Work(prepare_loader, (250, 1000, 4000, 16000), "frames"),
    "odometry-frames": Work(prepare_odometry, (100, 200, 400, 800), "frames"),
    "predict-frames": Work(prepare_predict, (50, 100, 200, 400), "frames"),
    "result-images": Work(prepare_result, (125, 250, 500, 1000), "images"),
    "check-frames": Work(prepare_check_frames, (1000, 4000, 16000, 64000), "frames"),
    "check-runs": Work(prepare_check_runs, (2, 4, 8, 16), "recordings"),
    "report-rows": Work(prepare_report, (4000, 16000, 64000, 256000), "rows"),
}


# -- measuring


def measure_here(name: str, size: int) -> Cost:
    """Do the work in this process."""

    def spent_s() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    with tempfile.TemporaryDirectory() as folder:
        work = WORKS[name].prepare(size, Path(folder))
        before_mb, started = psutil.Process().memory_info().rss / 2**20, spent_s()
        work()
        seconds = spent_s() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    child_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Cost(size, seconds, max(peak_mb - before_mb, child_mb, 0.0))


def measure(name: str, size: int) -> Cost:
    """Do the work in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(size)]
    done = subprocess.run(command, env=os.environ | GIVE_BACK, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} of {size}: {done.stderr[-2000:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return p of c n^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def find_exponents(costs: Sequence[Cost]) -> tuple[float, float | None]:
    """Return the exponents of time and memory over the largest sizes; None where memory is flat."""
    last = costs[-FITTED:]
    sizes, memory = [one.size for one in last], [one.memory_mb for one in last]
    is_flat = max(memory) - min(memory) < FLAT_MB
    return fit_exponent(sizes, [one.seconds for one in last]), None if is_flat else fit_exponent(sizes, memory)


def draw(found: dict[str, list[Cost]], path: Path) -> None:
    """Draw time and memory over size, both relative to the smallest size, with a line of exponent 1."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5))
    for axis, key, label in zip(axes, ("seconds", "memory_mb"), ("processor time", "growth of memory"), strict=True):
        for name, costs in found.items():
            exponent = find_exponents(costs)[key != "seconds"]
            values = [max(getattr(one, key), 1e-3) for one in costs]
            text = f"{name}: flat" if exponent is None else f"{name}: {exponent:.2f}"
            axis.loglog([one.size / costs[0].size for one in costs], values, marker="o", label=text)
        axis.set_xlabel("size over the smallest")
        axis.set_ylabel(f"{label}, {'s' if key == 'seconds' else 'MB'}")
        limits = axis.get_ylim()
        for start in np.geomspace(limits[0], limits[1], 6):
            axis.loglog([1, 64], [start, 64 * start], color="0.85", linewidth=0.8, zorder=0)
        axis.set_ylim(limits)
        axis.legend(fontsize=8)
    figure.suptitle("Cost as work grows; gray lines have exponent 1")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(WORKS), help="names, separated by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all sizes")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("WORK", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(vars(measure_here(arguments.one[0], int(arguments.one[1])))))
        return 0
    found: dict[str, list[Cost]] = {}
    for name in arguments.only.split(","):
        work = WORKS[name]
        found[name] = [measure(name, max(int(size * arguments.scale), 1)) for size in work.sizes]
        exponents = find_exponents(found[name])
        memory = "flat" if exponents[1] is None else f"exponent {exponents[1]:.2f}"
        mark = "" if exponents[0] <= GOAL and (exponents[1] or 0) <= GOAL else "  ABOVE THE GOAL"
        costs = ", ".join(f"{one.size:g}: {one.seconds:.2f} s {one.memory_mb:.0f} MB" for one in found[name])
        print(f"{name:16} time exponent {exponents[0]:.2f}, memory {memory}{mark}\n  {work.unit} {costs}", flush=True)
    if arguments.plot:
        draw(found, arguments.plot)
    if arguments.json:
        numbers = {name: [vars(one) for one in costs] for name, costs in found.items()}
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
