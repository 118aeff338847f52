"""Measure when the first command of each recipe has its first picture and its first score.

    python benchmarks/first_results.py --folder FOLDER [--only selfsup overlay] [--most-s 300]

Each command is a process of its own, with an empty cache; it is stopped after its first score, or after --most-s
seconds. A picture is a file in the folder of the run; a score is a line about validation. Printed are seconds and
seconds of processor. The real samples are in STADIA_REAL_DATA (../shared/data).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from minutes import MASKED, REAL, prepare_clip

COMMANDS: dict[str, tuple[str, ...]] = {
    "selfsup": ("drive.mp4",),
    "supervised": (str(REAL / "kitti_raw"),),
    "metric": ("drive.mp4", MASKED, "road.masks=drive-masks", "heights.known_m={0: 1.23}"),
    "objectpose": (),
    "overlay": (),
}
"""Arguments of the first command of each recipe. The clip has a map beside it."""

POLL_S = 0.5


def read_processor_s(process: psutil.Process) -> float:
    """Return the processor seconds of a process and its children."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def measure(recipe: str, folder: Path, most_s: float) -> dict[str, tuple[float, float]]:
    """Return seconds and seconds of processor until the first picture and the first score of a recipe."""
    runs, log = folder / f"runs-{recipe}", folder / f"{recipe}.log"
    words = [sys.executable, "-m", "stadia", "train", recipe, *COMMANDS[recipe], "--out", str(runs)]
    environment = {**os.environ, "STADIA_CACHE": tempfile.mkdtemp(dir=folder), "COLUMNS": "200"}
    begun, found = time.monotonic(), dict[str, tuple[float, float]]()
    with log.open("w") as stream:
        started = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        process = psutil.Process(started.pid)
        while started.poll() is None and "score" not in found and time.monotonic() - begun < most_s:
            time.sleep(POLL_S)
            now = time.monotonic() - begun, read_processor_s(process)
            if any(path.suffix in (".png", ".jpg") for path in runs.glob("*/**/*")):
                found.setdefault("picture", now)
            if "validation:" in log.read_text():
                found["score"] = now
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(60)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--most-s", type=float, default=300.0)
    options = parser.parse_args()
    prepare_clip(options.folder, mapped=True, masks="metric" in options.only)
    for recipe in options.only:
        found = measure(recipe, options.folder, options.most_s)
        for name in ("picture", "score"):
            seconds, spent = found.get(name, (float("nan"), float("nan")))
            print(f"{recipe}: first {name} after {seconds:.0f} s, {spent:.0f} s of processor", flush=True)


if __name__ == "__main__":
    main()
