"""Install each floor into a clean virtual environment; measure the installation and its main command.

    python benchmarks/floors.py [--only . '.[depth]'] [--tree CHECKOUT] [--no-cache] [--no-compile] [--out FILE]

For each floor: seconds of `pip install`, with pip's cache unless --no-cache, and with bytecode unless --no-compile (uv
leaves it out too); megabytes and packages that it adds; seconds of `import stadia` beyond the start of Python; seconds
and memory of its main command on a small input that this program makes. The floor `.` judges the poses of 50 images,
`.[depth]` predicts the depth of a photo, `.[train]` trains for two steps; other extras judge poses as `.` does. The
exit status is 1 if a command fails; with --strict also if a goal is missed. docs/results/floors.json holds the table.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import (
    ROOT,
    TexturedRoom,
    make_parser,
    make_roadworld,
    print_table,
    run_command,
    time_calls,
    write_results,
    write_transforms,
)

IMAGES = 50
"""The images whose poses are judged: a short recording."""
HEIGHT = 480
WIDTH = 640
"""Size of these images in pixels, that of a webcam."""
NOT_COUNTED = ("pip", "setuptools")
"""Packages that a new environment has before stadia."""


def make_check_line(folder: Path) -> Sequence[object]:
    """Draw a room from 50 true poses; return the command line that judges them."""
    room = TexturedRoom(HEIGHT, WIDTH)
    images = folder / "images"
    images.mkdir()
    poses = np.stack([room.find_pose(row / (IMAGES - 1)) for row in range(IMAGES)])
    names = [f"images/{row:06d}.png" for row in range(IMAGES)]
    for name, T in zip(names, poses, strict=True):
        cv2.imwrite(str(folder / name), room.draw(T))
    write_transforms(folder / "transforms.json", names, poses, room.K, room.size)
    return "check", folder / "transforms.json", "--images", images


def make_predict_line(folder: Path) -> Sequence[object]:
    """Return the command line that predicts the depth of a photo of the package."""
    photo = ROOT / "src" / "stadia" / "web" / "static" / "examples" / "street.jpg"
    return "predict", photo, "--out", folder / "depth"


def make_train_line(folder: Path) -> Sequence[object]:
    """Render a small world; return the command line that trains `selfsup` for two steps."""
    small = ["data.height=64", "data.width=96", "model.pretrained=false"]
    few = ["training.check_seconds=0", "training.max_steps=2", "training.batch_size=2", "training.workers=0"]
    data = make_roadworld(folder)
    return "train", "selfsup", "--data", data, "--out", folder / "runs", *small, *few, "training.accelerator=cpu"


@dataclass(frozen=True)
class Floor:
    """What is installed, its main command, and what it may take.

    make_line: makes the input of the command in a folder, and returns the command line.
    max_mb: megabytes of site-packages.  max_install_s: seconds of the installation.  max_gb: memory of the command.
    """

    make_line: Callable[[Path], Sequence[object]]
    max_mb: float = float("inf")
    max_install_s: float = float("inf")
    max_gb: float = float("inf")


FLOORS = {
    ".": Floor(make_check_line, max_mb=650, max_install_s=40, max_gb=0.4),
    ".[depth]": Floor(make_predict_line, max_mb=750),
    ".[train]": Floor(make_train_line),
}
"""The goals fit a CI job and a robot."""
MAX_IMPORT_S = 0.1
"""`import stadia` is not felt at a prompt."""


def measure_mb(folder: Path) -> float:
    """Return the megabytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def list_largest(packages: Path, count: int = 8) -> str:
    """Return the largest folders of site-packages with their megabytes."""
    sizes = sorted(
        ((measure_mb(folder), folder.name) for folder in packages.iterdir() if folder.is_dir()), reverse=True
    )
    return ", ".join(f"{name} {size_mb:.0f}" for size_mb, name in sizes[:count])


def measure_floor(requirement: str, tree: Path, folder: Path, *, pip_options: Sequence[str]) -> dict[str, object]:
    """Install a requirement such as `.[depth]` of a tree into a new environment; return what was measured."""
    floor = FLOORS.get(requirement, Floor(make_check_line))
    run_command(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    options = ["--quiet", "--disable-pip-version-check", *pip_options]
    target = f"{tree}{requirement[1:]}"
    packages = Path(run_command(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").output.strip())
    empty_mb = measure_mb(packages)
    install = run_command(python, "-m", "pip", "install", *options, "-c", tree / "constraints.txt", target)
    size_mb = measure_mb(packages) - empty_mb
    names = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}.difference(NOT_COUNTED)
    starts = [lambda code=code: run_command(python, "-c", code, PYTHONPATH="") for code in ("", "import stadia")]
    start_s, import_s = time_calls(*starts, rounds=9)
    line = floor.make_line(folder)
    command = None
    try:
        command = run_command(python.parent / "stadia", *line, PYTHONPATH="", STADIA_CACHE=str(folder / "cache"))
    except RuntimeError as error:
        print(error, file=sys.stderr)
    missed = {
        "command": command is None,
        "MB": size_mb > floor.max_mb,
        "install s": install.seconds > floor.max_install_s,
        "import s": import_s - start_s > MAX_IMPORT_S,
        "GB": command is not None and command.peak_gb > floor.max_gb,
    }
    return {
        "floor": requirement,
        "install s": round(install.seconds, 1),
        "install core s": round(install.cpu_s, 1),
        "MB": round(size_mb),
        "packages": len(names),
        "import s": round(import_s - start_s, 3),
        "command": line[0],
        "command s": round(command.seconds, 1) if command else "failed",
        "command core s": round(command.cpu_s, 1) if command else "failed",
        "command GB": round(command.peak_gb, 2) if command else "failed",
        "largest": list_largest(packages),
        "missed": ", ".join(name for name, is_missed in missed.items() if is_missed),
    }


def copy_tree(tree: Path, folder: Path) -> Path:
    """Copy the files that git knows, so that building a wheel writes nothing into the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=tree, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = tree / name
        if source.is_file() and name.startswith(("src/", "pyproject", "README", "LICENSE", "MANIFEST", "constraints")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    return folder


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", nargs="+", default=list(FLOORS), metavar="FLOOR", help="such as . or '.[depth]'")
    parser.add_argument("--tree", type=Path, default=ROOT, help="another checkout, to compare with")
    parser.add_argument("--no-cache", action="store_true", help="download every package again")
    parser.add_argument("--no-compile", action="store_true", help="leave the bytecode out, as uv does")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--out", type=Path, help="write the table as JSON")
    options = parser.parse_args()
    pip_options = [*["--no-cache-dir"] * options.no_cache, *["--no-compile"] * options.no_compile]
    rows = []
    for requirement in options.only:
        with tempfile.TemporaryDirectory(prefix="stadia-floor-") as temporary:
            tree = copy_tree(options.tree, Path(temporary, "tree"))
            rows.append(measure_floor(requirement, tree, Path(temporary), pip_options=pip_options))
            print_table(rows[-1:])
    print_table(rows)
    if options.out:
        write_results(options.out, rows)
    if any(row["command s"] == "failed" or (options.strict and row["missed"]) for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
