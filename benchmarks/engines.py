"""Kill workers and drivers of each engine, fill the disk of a worker, and count the results of each item.

    python benchmarks/engines.py --out DIR [--engines local ray dask] [--rounds 20] [--empty 2000] [--clips 200]

A round has 60 items of 50 ms and three workers. In a round "worker", two items kill their process the first time. In a
round "driver", the process that hands items out and writes the ledger is killed in the middle, and the batch resumed:
what is done again is counted by the files that each work appends to. In a round "disk", one worker writes its files to
a device that is full, and the batch is resumed after there is space again. "empty" is the time of an item without work.
--clips predicts so many clips of CLIP_FRAMES frames by `base` with two workers; the time has the start of the engine.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import random as random_numbers
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from stadia.batches.engines import run_items
from stadia.batches.ledger import open_ledger, read_rows
from stadia.core.config import StrictModel
from stadia.evaluation.plots.videos import open_video_file


class Row(StrictModel):
    """A line of the ledger."""

    item: str
    state: str


ITEMS = 60
WORKERS = 3
SECONDS = 0.05
EMPTY = 2000
SEED = 0
CLIP_FRAMES = 8


def make_work(folder: Path) -> Callable[[str], str]:
    return partial(work, folder)


def work(folder: Path, item: str) -> str:
    """Note that the item is in work; an item "kill" ends its process the first time.

    The process that takes the file "full" has a full disk while the file is there. Its items fail.
    """
    with (folder / "worked.txt").open("a") as stream:
        stream.write(f"{item}\n")
    if item.startswith("kill") and not (marker := folder / f"{item}.killed").exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(SECONDS)
    try:
        with Path("/dev/full" if has_full_disk(folder / "full") else os.devnull).open("w") as stream:
            stream.write(item)
    except OSError as error:
        return str(error)
    return item


def has_full_disk(taken: Path) -> bool:
    """Return whether this process has the full disk: the first process that writes itself into an empty file."""
    if not taken.exists():
        return False
    with taken.open("r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        owner = stream.read()
        if not owner:
            stream.write(str(os.getpid()))
        return owner in ("", str(os.getpid()))


def write_clips(folder: Path, count: int) -> None:
    """Write clips of a texture that moves to the right."""
    random = np.random.default_rng(SEED)
    folder.mkdir(parents=True)
    for number in range(count):
        texture = cv2.resize(random.integers(0, 255, (12, 20, 3), np.uint8), (360, 192), interpolation=cv2.INTER_CUBIC)
        with open_video_file(folder / f"{number:03d}.mp4", 10.0) as write:
            for frame in range(CLIP_FRAMES):
                write(texture[:, 4 * frame : 4 * frame + 320])


def predict_clips(engine: str, clips: Path, out: Path) -> float:
    """Return the clips that an engine predicts in a second, with the time in which it starts."""
    options = ["--out", str(out), "--engine", engine, "--workers", "2", "--no-video", "--no-cloud"]
    words = [sys.executable, "-m", "stadia", "predict", "base", f"{clips}/*.mp4", *options]
    started_s = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started_s
    assert len(list(out.glob("*/predictions.json"))) == len(list(clips.iterdir()))
    return len(list(clips.iterdir())) / seconds


def do_nothing() -> Callable[[int], int]:
    return abs


def drive(engine: str, folder: Path) -> None:
    """Run the items that the ledger lacks, and add their results to it."""
    with contextlib.ExitStack() as held:
        ledger = open_ledger(
            str(folder / "batch"),
            held,
            Row,
            record="audit.json",
            kind="audit",
            name_field="item",
            described={"format": "stadia-audit"},
        )
        done = {name for name, row in ledger.results.items() if row.state == "done"}
        pending = [item for item in (f"item-{number}" for number in range(ITEMS)) if item not in done]
        for item, result in run_items(pending, partial(make_work, folder), WORKERS, engine):
            ledger.add(Row(item=item, state="done" if result == item else "failed"))


def kill_workers(engine: str, folder: Path) -> tuple[bool, int]:
    """Return whether each item has one result, and how many items were worked on more than once."""
    items = [f"item-{number}" for number in range(ITEMS - 2)]
    items[10:10] = ["kill-1"]
    items[40:40] = ["kill-2"]
    found = list(run_items(items, partial(make_work, folder), WORKERS, engine))
    counts = Counter((folder / "worked.txt").read_text().split())
    is_right = Counter(item for item, result in found if result == item) == Counter(items)
    return is_right, sum(count > 1 for item, count in counts.items() if not item.startswith("kill"))


def kill_driver(engine: str, folder: Path, random: random_numbers.Random) -> tuple[bool, int]:
    """Return the same after the driver was killed when a random number of items was done, and started again."""
    words = [sys.executable, __file__, "--out", str(folder), "--drive", engine]
    stop_at = random.randrange(5, ITEMS - 10)
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ledger = folder / "batch" / "ledger.jsonl"
    while process.poll() is None and not (ledger.is_file() and ledger.read_text().count("\n") >= stop_at):
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = Counter(row.item for row in read_rows(str(folder / "batch"), Row) if row.state == "done")
    counts = Counter((folder / "worked.txt").read_text().split())
    return rows == Counter(f"item-{number}" for number in range(ITEMS)), sum(count > 1 for count in counts.values())


def fill_disk(engine: str, folder: Path) -> tuple[bool, int]:
    """Return the same after a worker had a full disk: its items fail, and are done after there is space again."""
    full = folder / "full"
    full.touch()
    drive(engine, folder)
    failed = {row.item for row in read_rows(str(folder / "batch"), Row) if row.state == "failed"}
    full.unlink()
    drive(engine, folder)
    rows = Counter(row.item for row in read_rows(str(folder / "batch"), Row) if row.state == "done")
    counts = Counter((folder / "worked.txt").read_text().split())
    is_right = bool(failed) and rows == Counter(f"item-{number}" for number in range(ITEMS))
    return is_right, sum(count > 1 for item, count in counts.items() if item not in failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files of each round")
    parser.add_argument("--engines", nargs="*", default=["local", "ray", "dask"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kinds", nargs="*", default=["worker", "driver", "disk"])
    parser.add_argument("--empty", type=int, default=EMPTY, help="number of items without work")
    parser.add_argument("--clips", type=int, default=0, help="number of clips to predict by each engine")
    parser.add_argument("--drive", help="only run the items of --out by this engine")
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.out)
        return
    random = random_numbers.Random(SEED)
    if options.clips:
        write_clips(options.out / "clips", options.clips)
    for engine in options.engines:
        for kind in options.kinds:
            found = list[tuple[bool, int]]()
            for number in range(options.rounds):
                folder = options.out / f"{engine}-{kind}-{number}"
                folder.mkdir(parents=True)
                if kind == "driver":
                    found.append(kill_driver(engine, folder, random))
                else:
                    found.append((kill_workers if kind == "worker" else fill_disk)(engine, folder))
            right = sum(is_right for is_right, _ in found)
            again = sum(count for _, count in found) / (ITEMS * len(found))
            print(f"{engine}, {kind}: {right} of {len(found)} with each item once, {again:.1%} done again", flush=True)
        if options.clips:
            rate = predict_clips(engine, options.out / "clips", options.out / f"{engine}-clips")
            print(f"{engine}: {rate:.2f} clips a second", flush=True)
        if not options.empty:
            continue
        started_s = time.perf_counter()
        count = sum(1 for _ in run_items(range(options.empty), do_nothing, WORKERS, engine))
        print(f"{engine}: {1000 * (time.perf_counter() - started_s) / count:.2f} ms an empty item", flush=True)


if __name__ == "__main__":
    main()
