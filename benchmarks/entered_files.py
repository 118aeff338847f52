"""Count the source files that a command enters: files of stadia in which a function runs, in any thread.

    python benchmarks/entered_files.py "predict photo"
    python benchmarks/entered_files.py --list predict photo.jpg --out depth

The first form runs a row of `ROUTES` on small data that it makes; the second runs any command line. Importing a module
does not count; calling a function, method or property of it does. Child processes are not followed. The last line
states the files, their lines and the number of loaded modules.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import stadia

PACKAGE = Path(stadia.__file__).parent
PHOTO = PACKAGE / "web" / "static" / "examples" / "street.jpg"


@dataclass(frozen=True)
class Route:
    """A command whose way through the code has a limit.

    limit: the largest number of files that the command enters.
    make_line: makes the input in a new folder, and returns the command line.
    is_slow: whether the command takes longer than a few seconds.
    """

    limit: int
    make_line: Callable[[Path], Sequence[str]]
    is_slow: bool = False


FEW_STEPS = [
    "training.check_seconds=0",
    "training.max_steps=2",
    "training.batch_size=2",
    "training.workers=0",
    "training.accelerator=cpu",
]
"""Two steps on the processor, without checks of the losses."""


def make_world(folder: Path) -> Path:
    """Render a small RoadWorld in a folder, and return its path."""
    from stadia.synthetic.config import ROADWORLD_TINY
    from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

    config = ROADWORLD_TINY.model_copy(update={"frames": 5})
    return write_roadworld(config, folder / "world", workers=1).parent


def make_train_line(folder: Path) -> list[str]:
    """Return the command line that trains `selfsup` for two steps."""
    small = ["data.height=64", "data.width=96", "model.pretrained=false"]
    return ["train", "selfsup", "--data", str(make_world(folder)), "--out", str(folder / "runs"), *small, *FEW_STEPS]


def make_adapt_line(folder: Path) -> list[str]:
    """Return the command line that adapts `base` to a folder of frames for two steps."""
    frames = next(make_world(folder).glob("test-*/left"))
    camera = "data.camera.horizontal_fov_deg=60"
    size = ["data.height=96", "data.width=128"]
    return ["adapt", "base", str(frames), camera, *size, "--steps", "2", "--out", str(folder / "runs"), FEW_STEPS[-1]]


def draw_room(folder: Path) -> Path:
    """Draw six images of a camera that moves in a textured room, and return their folder."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.sfm.textured_room import TexturedRoom, find_arc_pose, write_images

    room = TexturedRoom()
    return write_images(folder / "room", [room.draw(*find_arc_pose(index)) for index in range(0, 24, 4)])


def make_check_line(folder: Path) -> list[str]:
    """Return the command line that judges a COLMAP model, which a map of the room writes."""
    from stadia.sfm.map_video import map_video

    images = draw_room(folder)
    map_video(images, out=folder / "map")
    return ["check", str(folder / "map" / "colmap"), "--images", str(images)]


ROUTES = {
    "predict photo": Route(45, lambda folder: ["predict", str(PHOTO), "--out", str(folder / "depth")]),
    "map": Route(51, lambda folder: ["map", str(draw_room(folder)), "--out", str(folder / "map")]),
    "check RESULT": Route(42, make_check_line),
    "train selfsup": Route(148, make_train_line, is_slow=True),
    "adapt": Route(134, make_adapt_line, is_slow=True),
}
"""Each command has a row; tests/test_entered_files.py measures it."""


class FileRecorder:
    """A trace function that collects the files of stadia in which a function runs."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        """The first function that ran, by the file's path in the package."""
        self._known = set[CodeType]()
        self._thread = threading.local()

    def __call__(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if code in self._known:
            return None
        if code.co_name == "<module>":  # what runs while a module is imported does not count
            self._thread.importing = getattr(self._thread, "importing", 0) + 1
            frame.f_trace_lines = False
            return self._end_import
        if not getattr(self._thread, "importing", 0):
            self._known.add(code)
            if code.co_filename.startswith(f"{PACKAGE}/"):
                self.files.setdefault(code.co_filename.removeprefix(f"{PACKAGE}/"), code.co_qualname)
        return None

    def _end_import(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        self._thread.importing -= event == "return"
        return self._end_import


def import_libraries() -> None:
    """Import what most commands import: a trace function makes that slower, and counts nothing of it."""
    for name in (
        "stadia.differentiable.torchvision_operators",
        "lightning_fabric",
        "matplotlib.pyplot",
        "scipy.stats",
        "timm",
    ):
        importlib.import_module(name)


def record_command(line: Sequence[str]) -> tuple[dict[str, str], int]:
    """Run a command line in this process; return the first function by entered file, and the exit code."""
    import_libraries()
    from stadia.cli.main import run

    recorder, code = FileRecorder(), 0
    threading.settrace(recorder)
    sys.settrace(recorder)
    try:
        run(list(line))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.settrace(None)
        threading.settrace(None)
    return recorder.files, code


def list_entered_files(*line: str) -> list[str]:
    """Return the files that a row of `ROUTES` or a command line enters, measured in a process of its own.

    Raises subprocess.CalledProcessError if the command fails.
    """
    command = [sys.executable, __file__, "--list", *line]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("entered ")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="also print the files")
    parser.add_argument("line", nargs=argparse.REMAINDER, help="a row of ROUTES, or a command line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STADIA_CACHE"] = str(Path(folder) / "cache")  # nothing is left from another run
        name = " ".join(arguments.line)
        line = ROUTES[name].make_line(Path(folder)) if name in ROUTES else arguments.line
        files, code = record_command(line)
    for file, function in files.items() if arguments.list else ():
        print(f"entered {file}  {function}")
    lines = sum(len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in files)
    loaded = sum(module.partition(".")[0] == "stadia" for module in sys.modules)
    print(f"{len(files)} files, {lines} lines, {loaded} modules loaded", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
