r"""Print a hash of every file that the commands write, so that two checkouts can be compared.

    python benchmarks/same_outputs.py [--src DIR] [--data ../shared/data] [--only predict map] > before.txt
    diff before.txt after.txt

Runs predict, odometry, evaluate, map and adapt of the checkout whose `src` is DIR, one thread, on real samples and on
a tiny RoadWorld. Times, paths, versions and hashes of the code are masked in texts; arrays are hashed by their values.
The exit code and the hash of what a command prints have lines of their own; `--keep` keeps the files to look at.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
TEXTS = {".json", ".jsonl", ".txt", ".csv", ".md", ".html", ".yaml", ".ply"}
MASKS = (
    (r'("(?:[^"]*_ms|milliseconds[^"]*|time)": )\{[^{}]*\}', r"\1MASKED"),
    (r"\d{4}-\d\d-\d\d[T _-][\d:.]+(?:[+-]\d\d:?\d\d|Z)?", "TIME"),
    (
        r'("[^"]*(?:seconds|_s|wall|memory|_mb|version|code|commit|started|finished|host|pid)[^"]*": )[^,\n}\]]+',
        r"\1MASKED",
    ),
    (r"\b\d+(?:\.\d+)? (?:s|ms|min|minutes|seconds|GB|MB|frames/s)\b", "MEASURED"),
    (r"\b[0-9a-f]{12,64}\b", "HASH"),
)
"""What differs between two runs of one version: times, memory, hashes of paths."""


def list_commands(data: Path) -> dict[str, list[str]]:
    """Return the command lines by name, in order: later ones use the files of earlier ones."""
    frames = data / "kitti_odometry/sequences/06/image_0"
    frames = frames if frames.is_dir() else next((data / "kitti_odometry/sequences").glob("*/image_0"))
    drive = next((data / "kitti_raw/2011_09_26").glob("*_sync/image_02/data"))
    photo, video = min(drive.iterdir()), data / "clips/highway2.mp4"
    camera, tum = "data.camera.focal_px=721", data / "trajectories"
    fov = "data.camera.horizontal_fov_deg=60"
    return {
        "world": ["data", "roadworld", "--out", "world", "--preset", "tiny"],
        "predict-photo": ["predict", "base", str(photo), camera, "--scale-from", "height=1.65", "--out", "photo"],
        "predict-world": ["predict", "base", "world", "--out", "predicted-world"],
        "predict-video": ["predict", "base", str(video), fov, "--every", "3", "--out", "predicted-video"],
        "odometry": ["odometry", "base", str(frames), "data.camera.focal_px=707", "--out", "path"],
        "evaluate-network": ["evaluate", "base", "world", "--protocol", "relative", "--json"],
        "evaluate-path": [
            *("evaluate", "--trajectory", str(tum / "KITTI_00_ORB.txt"), "--reference", str(tum / "KITTI_00_gt.txt")),
            *("--json", "--scores", "path-scores.json"),
        ],
        "map": ["map", "walk", "data.camera.K_file=K.txt", "--out", "walk.map"],
        "predict-mapped": ["predict", "base", "walk", "data.camera.K_file=K.txt", "--every", "5", "--out", "mapped"],
        "adapt": [
            *("adapt", "base", "walk", "data.camera.K_file=K.txt", "--steps", "4"),
            *("training.check_seconds=0", "--out", "adapted"),
        ],
    }  # fmt: skip


def mask(text: str, folder: Path, data: Path) -> str:
    """Return the text without what two runs of one version do not share."""
    for path, name in ((folder, "FOLDER"), (data, "DATA")):
        text = text.replace(str(path), name)
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return text


def hash_file(path: Path, folder: Path, data: Path) -> str:
    """Return 12 digits of a file's content."""
    content = path.read_bytes()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            content = b"".join(
                f"{name}{arrays[name].dtype}{arrays[name].shape}".encode() + arrays[name].tobytes()
                for name in sorted(arrays)
            )
    elif path.suffix in TEXTS:
        content = mask(content.decode(errors="replace"), folder, data).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def run(source: Path, folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `stadia WORDS` of a checkout in a folder, on one thread and with a cache of its own."""
    environment = os.environ | {"PYTHONPATH": str(source), "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "100"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stadia", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="the folder with the package stadia")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of the names of commands")
    parser.add_argument("--keep", type=Path, help="an empty folder for the files, which is kept")
    arguments = parser.parse_args()
    source, data = arguments.src.resolve(), arguments.data.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if arguments.keep is None else arguments.keep.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data / "walk" / "images", folder / "walk")
        for path in sorted((folder / "walk").iterdir())[40:]:
            path.unlink()
        shutil.copyfile(data / "walk" / "K.txt", folder / "K.txt")
        seen = set(folder.rglob("*"))
        for name, words in list_commands(data).items():
            if not name.startswith(("world", *arguments.only)):
                continue
            done = run(source, folder, words)
            print(f"{name}: exit code {done.returncode}")
            for stream, text in (("stdout", done.stdout), ("stderr", done.stderr)):
                masked = mask(text, folder, data)
                print(f"  {name} {stream} {hashlib.sha256(masked.encode()).hexdigest()[:12]}")
                if done.returncode:
                    print(*(f"    {line}" for line in masked.splitlines()[-3:]), sep="\n")
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path not in seen and "cache" not in path.relative_to(folder).parts:
                    shown = mask(path.relative_to(folder).as_posix(), folder, data)
                    print(f"  {name} {shown} {hash_file(path, folder, data)}", flush=True)
                seen.add(path)


if __name__ == "__main__":
    main()
