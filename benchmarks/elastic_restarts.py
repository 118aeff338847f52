"""Kill one of two processes of a training at random moments: torchrun restarts it, and the losses stay the same.

    python benchmarks/elastic_restarts.py --kills 10 --out /tmp/elastic [--shards] [--late 4]

Trains a small selfsup twice under torchrun with two processes (gloo, CPU): undisturbed, and with kills. Prints the
largest relative difference of any logged training value, the restarts, and the time of both.

Every second kill is at any moment of a start, the others are at any moment of the training.

--shards: six videos as shards, in place of one folder of images.
--late:   seconds by which one of the processes comes later than the other after a restart, as on a loaded machine.
"""

# mypy: disable-error-code="index"

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import psutil

HEIGHT, WIDTH, FRAMES, STEPS = 64, 96, 24, 200
START_S, TRAINING_S = 15.0, 3.0
"""A kill is up to this time after a start, or after the first step of a start."""

VIDEO = ("data.frame_rate_hz=10", "data.stride=1")
SETTINGS = (
    *(f"data.height={HEIGHT}", f"data.width={WIDTH}"),
    *("model.network.encoder=test_resnet", "model.pose_net=resnet", "model.pose_encoder=test_resnet"),
    *("model.pretrained=false", "model.network.decoder_channels=[4,4,8,8,8]", f"training.max_steps={STEPS}"),
    *("training.global_batch_size=4", "training.devices=2", "training.strategy=ddp", "training.workers=0"),
    *("training.checkpoint_every=5", "training.validate_every=30", "training.log_every=1", "training.images_every=0"),
    *("training.histograms_every=0", "training.check_seconds=0", "training.accelerator=cpu"),
)


def write_drive(folder: Path, seed: int) -> Path:
    """Write frames of a texture that moves towards the camera."""
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.random((512, 512, 3)).astype(np.float32), (0, 0), 4)
    texture = np.uint8(255 * (noise - noise.min()) / (noise.max() - noise.min()))
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(FRAMES):
        side = 300 - 4 * index
        left, top = 100 + 2 * index, 100 + index
        view = cv2.resize(texture[top : top + side, left : left + side], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{index:04d}.png"), view)
    return folder


def write_shards(folder: Path, seed: int) -> Path:
    """Write six drives as shards."""
    drives = [write_drive(folder / f"drive-{number}", seed + number) for number in range(6)]
    rows = [f"{drive.name},focal_px=90" for drive in drives]
    (folder / "drives.csv").write_text("\n".join(["video,camera", *rows]) + "\n")
    command = [sys.executable, "-m", "stadia", "data", "shard", str(folder / "drives.csv"), str(folder / "shards")]
    subprocess.run([*command, "--size", f"{WIDTH}x{HEIGHT}", *VIDEO], check=True)
    return folder / "shards"


def start_late(seconds: float, arguments: list[str]) -> None:
    """Run stadia in a process of torchrun, later by some seconds in one of those that were restarted."""
    from stadia.cli.main import run

    if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0" and os.environ["LOCAL_RANK"] == "1":
        time.sleep(seconds)
    sys.argv = ["stadia", *arguments]
    run()


def train(data: Path, settings: Sequence[str], out: Path, *, kills: int, late: float, seed: int) -> tuple[float, int]:
    """Train under torchrun; kill a process `kills` times at random moments. Return the time and the kills made."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(kills + 5), __file__, "--worker", str(late), "train", "selfsup", str(data)]
    command += [*settings, "--on-stop", "warn", "--out", str(out)]
    random, made, started = np.random.default_rng(seed), 0, time.monotonic()
    log = (out.with_suffix(".log")).open("w")
    with subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}) as agent:
        while agent.poll() is None:
            rows = count_rows(out)
            while made < kills and made % 2 and agent.poll() is None and count_rows(out) == rows:
                time.sleep(0.1)
            until = time.monotonic() + random.uniform(0, TRAINING_S if made % 2 else START_S)
            while agent.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            if made < kills and agent.poll() is None:
                workers = [child for child in psutil.Process(agent.pid).children() if "--worker" in child.cmdline()]
                if len(workers) == 2:
                    workers[int(random.integers(2))].kill()
                    made += 1
    if agent.returncode:
        raise SystemExit(f"torchrun ended with {agent.returncode} after {made} kills, see {log.name}")
    return time.monotonic() - started, made


def count_rows(out: Path) -> int:
    """Return the logged rows of the run, or none yet."""
    return sum(len(table.read_bytes().splitlines()) for table in out.glob("*/metrics.csv"))


def read_values(out: Path) -> list[dict[str, str]]:
    """Return the logged rows of the one run, without speeds."""
    (table,) = out.glob("*/metrics.csv")
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    return [{name: cell for name, cell in row.items() if not name.startswith(("speed", "time"))} for row in rows]


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        start_late(float(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--shards", action="store_true")
    parser.add_argument("--late", type=float, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    data = (write_shards if given.shards else write_drive)(given.out / "drive", given.seed)
    settings = SETTINGS if given.shards else ("data.camera.focal_px=90", *VIDEO, *SETTINGS)
    times = {
        name: train(data, settings, given.out / name, kills=kills, late=given.late, seed=given.seed)
        for name, kills in {"calm": 0, "killed": given.kills}.items()
    }
    calm, killed = (read_values(given.out / name) for name in times)
    assert len(calm) == len(killed), (len(calm), len(killed))
    worst = 0.0
    for before, after in zip(calm, killed, strict=True):
        for name, cell in before.items():
            if cell and cell != after[name]:
                worst = max(worst, abs(float(after[name]) / float(cell) - 1))
    assert times["killed"][1] == given.kills, "the training ended before: give it more steps"
    print(f"{times['killed'][1]} kills; {len(calm)} rows; largest relative difference {worst:.3g}")
    print(f"undisturbed {times['calm'][0]:.0f} s, killed {times['killed'][0]:.0f} s")


if __name__ == "__main__":
    main()
