"""Printed against measured time and memory of ten commands: `python benchmarks/cost_estimates.py [FOLDER]`.

Each command is a process of its own on a small data set that is rendered first. `expected: ...` is the line that a
command prints; the time counts from there. The memory is the peak of its process and of what its workers do not share
with it. `--minutes` is compared with the whole time of the command. The goal is
a factor of 1.5 in time and 30 % in memory.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

LAUNCH = (
    "import stadia.launch.expected_cost as cost; cost.MIN_TOTAL_S = 0;"
    "import stadia.cli.output as display; display.MIN_EXPECTED_S = 0;"
    "from stadia.cli.main import run; run()"
)
"""`stadia`, which prints the line however short the work is."""
SMALL = ("data.height=96", "data.width=320", "training.batch_size=4", "--on-stop", "warn")
LITE = (
    "model.network.encoder=tf_efficientnet_lite0",
    "model.pose_net=resnet",
    "model.pose_encoder=tf_efficientnet_lite0",
)
MINI = (
    "model.network.encoder=mobilenetv3_small_100",
    "model.pose_net=resnet",
    "model.pose_encoder=mobilenetv3_small_100",
    "model.pretrained=false",
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "selfsup, EfficientNet-Lite0": ("train", "selfsup", "world", *SMALL, *LITE, "training.max_steps=60"),
    "selfsup, MobileNetV3": ("train", "selfsup", "world", *SMALL, *MINI, "training.max_steps=100"),
    "selfsup, 416x128": ("train", "selfsup", "world", *SMALL, *MINI, "data.width=416", "training.max_steps=60"),
    "selfsup --minutes 1": ("train", "selfsup", "world", *SMALL, *MINI, "--minutes", "1"),
    "selfsup --minutes 2": ("train", "selfsup", "world", *SMALL, *LITE, "--minutes", "2"),
    "supervised": (
        "train",
        "supervised",
        "world",
        *SMALL,
        "model.network=dpt",
        "model.network.size=tiny",
        "training.max_steps=60",
    ),
    "overlay": ("train", "overlay", "training.max_steps=60", "--on-stop", "warn"),
    "objectpose": ("train", "objectpose", "training.max_steps=60", "--on-stop", "warn"),
    "predict": ("predict", "RUN", "long", "data.split=train", "--out", "predicted"),
    "odometry": ("odometry", "RUN", "long", "data.split=train", "--out", "path"),
}
WORLDS = {"world": ("--worlds", "4,1,0"), "long": ("--worlds", "1,0,0", "frames=400")}
"""Data sets that are rendered first: `predict` and `odometry` print what they expect of a loop of 20 s and more."""
TIME = re.compile(r"expected: .*?(?:, ([\d.]+) (s|min|h) in all|: (\d+) s more)")
SECONDS = {"s": 1, "min": 60, "h": 3600}
MEMORY = re.compile(r"memory ([\d.]+) GB")


def measure(words: tuple[str, ...], folder: Path) -> tuple[float | None, float, float | None, float]:
    """Return expected and measured seconds, expected and measured GB. None: nothing was printed."""
    command = [sys.executable, "-c", LAUNCH, *words]
    started, expected_s, expected_gb = time.monotonic(), None, None
    if "--minutes" in words:
        expected_s = 60 * float(words[words.index("--minutes") + 1])
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak, over = [0], threading.Event()

    def watch() -> None:
        this = psutil.Process(process.pid)
        while not over.wait(0.5):
            try:
                total = this.memory_info().rss
                total += sum(one.memory_full_info().uss for one in this.children(recursive=True))
            except psutil.Error:  # one of them has just ended
                continue
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if (found := TIME.match(line)) is None:
            continue
        expected_gb = float(MEMORY.search(line)[1])  # type: ignore[index]
        if "--minutes" not in words:
            number, unit, seconds = found.groups()
            expected_s = float(seconds) if seconds else float(number) * SECONDS[unit]
            started = time.monotonic()
    code = process.wait()
    ended = time.monotonic()
    over.set()
    thread.join()
    if code not in (0, 1):
        sys.stderr.write("".join(lines[-5:]))
    return expected_s, ended - started, expected_gb, peak[0] / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the rendered data from call to call")
    parser.add_argument("--only", nargs="*", default=list(COMMANDS))
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="stadia-costs-"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in WORLDS.items():
        if not (folder / name).exists():
            rendering = ("data", "roadworld", "--preset", "demo", "--out", name, *words)
            subprocess.run([sys.executable, "-m", "stadia", *rendering], cwd=folder, check=True)
    for name in ("predicted", "path"):
        shutil.rmtree(folder / name, ignore_errors=True)
    sys.stdout.write("command                      expected s  measured s  ratio   expected GB  measured GB  ratio\n")
    for name in options.only:
        runs = sorted(path for path in (folder / "runs").glob("*selfsup") if (path / "report.html").exists())
        words = tuple(str(runs[-1]) if word == "RUN" else word for word in COMMANDS[name])
        expected_s, measured_s, expected_gb, measured_gb = measure(words, folder)
        times = "         -" if expected_s is None else f"{expected_s:10.0f}"
        memories = "          -" if expected_gb is None else f"{expected_gb:11.1f}"
        ratios = [
            "    -" if expected is None else f"{measured / expected:5.2f}"
            for expected, measured in ((expected_s, measured_s), (expected_gb, measured_gb))
        ]
        sys.stdout.write(
            f"{name:28} {times}  {measured_s:10.0f}  {ratios[0]}   {memories}  {measured_gb:11.1f}  {ratios[1]}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
