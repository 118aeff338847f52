"""Measure what a command with `--minutes` takes, beside the minutes.

    python benchmarks/minutes.py [--only adapt selfsup] [--minutes 2 5] [--busy] [--folder FOLDER]

Each command is a process of its own on the highway clip, with an empty cache and a known camera; `metric` has a known
camera height, and masks of road and cars. Seconds are those of the whole command, from its start to its end. `--busy`
lets two other processes of the same priority compute at the same time. The folder keeps clip, map and masks, and every
line that a command printed, after the second at which it came. The real samples are in STADIA_REAL_DATA
(../shared/data).
"""

# mypy: disable-error-code="call-overload"

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REAL = Path(os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
CLIP = REAL / "clips" / "highway.mp4"
MASKS = REAL / "segmentation_model" / "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite"

MASKED = "data.frames=[0,100]"
"""Frames with masks, which take seconds each."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "adapt": ("adapt", "drive.mp4"),
    "selfsup": ("train", "selfsup", "drive.mp4", "--preset", "auto"),
    "metric": (
        "train",
        "metric",
        "drive.mp4",
        MASKED,
        "road.masks=drive-masks",
        "heights.known_m={0: 1.23}",
        "--preset",
        "auto",
    ),
}
"""Of a clip with a map beside it."""

WITHOUT_MAP = {"adapt, its map included": COMMANDS["adapt"], "selfsup, no map": COMMANDS["selfsup"]}
"""The same where there is none beside it: `adapt` makes one."""

BUSY = "while True: pass"


def measure(words: tuple[str, ...], minutes: float, folder: Path, log: Path) -> tuple[float, int, list[str]]:
    """Return seconds, exit code and the lines that a command printed; they are written to `log` with their times."""
    command = [sys.executable, "-m", "stadia", *words, "--minutes", f"{minutes:g}"]
    environment = {**os.environ, "STADIA_CACHE": tempfile.mkdtemp(dir=folder), "COLUMNS": "200"}
    started, lines = time.monotonic(), list[str]()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, **streams) as process, log.open("w") as file:
        for line in process.stdout or ():
            lines.append(line)
            file.write(f"{time.monotonic() - started:6.1f} {line}")
            file.flush()
    return time.monotonic() - started, process.returncode, lines


def prepare_clip(folder: Path, *, mapped: bool, masks: bool) -> Path:
    """Return a folder with the clip and its camera, and with its map and masks where they are needed."""
    folder.mkdir(exist_ok=True, parents=True)
    shutil.copy(CLIP, folder / "drive.mp4")
    steps: list[tuple[str, ...]] = [("camera", "drive.mp4", "--focal-px", "866")]
    if mapped and not (folder / "drive.map").exists():
        steps.append(("map", "drive.mp4"))
    if masks and not (folder / "drive-masks").exists():
        steps.append(("masks", "drive.mp4", MASKED, "--by", str(MASKS)))
    for words in steps:
        subprocess.run([sys.executable, "-m", "stadia", *words], cwd=folder, check=True, capture_output=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[*COMMANDS, *WITHOUT_MAP])
    parser.add_argument("--minutes", nargs="*", type=float, default=[2, 5])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    base = options.folder or Path(tempfile.mkdtemp(prefix="stadia-minutes-"))
    for name in options.only:
        for minutes in options.minutes:
            title = f"{name}-{minutes:g}-{'busy' if options.busy else 'idle'}".replace(", ", "-").replace(" ", "-")
            folder = base / ("mapped" if name in COMMANDS else f"{title}-clip")
            prepare_clip(folder, mapped=name in COMMANDS, masks=name == "metric")
            words = COMMANDS.get(name) or WITHOUT_MAP[name]
            others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 * options.busy)]
            try:
                seconds, code, lines = measure(words, minutes, folder, base / f"{title}.log")
            finally:
                for process in others:
                    process.kill()
            sys.stdout.write(
                f"{title:24}: {seconds:5.0f} s, {seconds / 60 / minutes:.2f} of it; load {os.getloadavg()[0]:.1f};"
                f" exit {code}; {lines[-1].strip()}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
