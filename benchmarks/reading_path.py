"""List the files that a reader opens to follow a command to its result, and count the climbs on the way.

    python benchmarks/reading_path.py [--depth 2] [--only predict map]
    PYTHONPATH=../before/src python benchmarks/reading_path.py

Tiny runs on a small RoadWorld are traced. A path is the call stack when the result is made, and every function that
one named loop below it calls, down to `--depth` calls. Files are listed once, in the order in which they are entered.
A climb is a step in this order from a file of a lower package to one of a higher package, by the levels of the table
in docs/developing/architecture.md.

| command | the result | the loop |
|---|---|---|
| train, adapt | the first backward pass | the training step |
| predict | the bytes of the first depth map | the loop over frames |
| map | the bytes of the points | the function that maps a video |
| app | the network's first layer, for an uploaded photo | - |
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from types import FrameType
from typing import Any

import stadia

PACKAGE = Path(stadia.__file__).parent
TABLE = Path(__file__).parents[1] / "docs" / "developing" / "architecture.md"
SMALL = ["data.height=64", "data.width=96", "model.pretrained=false"]
FEW = [
    "training.check_seconds=0",
    "training.max_steps=2",
    "training.batch_size=2",
    "training.workers=0",
    "training.accelerator=cpu",
]


WHOLE_MAP = ("mapping/", "map_video", "run_map")  # the package, and its function by its name now and before


def file_of(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


class PathReached(BaseException):
    """The traced call was made; nothing after it is of interest."""


class Tracer:
    """Record the stadia files entered below a function, down to a number of stadia calls."""

    def __init__(self, inside: tuple[str, ...] | None, depth: int) -> None:
        self.inside, self.depth = inside, depth
        self.level: int | None = None
        self.files: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = file_of(frame)
        if name is None or self.inside is None or frame.f_code.co_name.startswith("<"):
            return
        if event == "call":
            if self.level is None:
                if name.startswith(self.inside[0]) and frame.f_code.co_name in self.inside[1:]:
                    self.level = 0
                    self.files.append(name)
                return
            self.level += 1
            if self.level <= self.depth:
                self.files.append(name)
        elif event == "return" and self.level is not None:
            self.level = self.level - 1 if self.level else None


def stack_files(skip: int = 1) -> list[str]:
    """Return the files of the functions that are called, the first caller first."""
    frame: FrameType | None = sys._getframe(skip)
    names = []
    while frame is not None:
        if name := file_of(frame):
            names.append(name)
        frame = frame.f_back
    return names[::-1]


def trace(
    start: Callable[[], object],
    owner: object,
    name: str,
    inside: tuple[str, ...] | None,
    depth: int,
    handed_over: Sequence[tuple[object, str]] = (),
) -> list[str]:
    """Call `start` until `owner.name` is called; return the files of the path, in order.

    handed_over: functions that hand work to another thread; the stack of each call comes before.
    """
    tracer = Tracer(inside, depth)
    before, stack = list[str](), list[str]()

    def reached(*arguments: Any, **keywords: Any) -> None:
        sys.setprofile(None)
        if not stack:
            stack.extend(stack_files(2))
        raise PathReached

    with contextlib.ExitStack() as patches:
        for holder, called in handed_over:
            original = getattr(holder, called)

            def hand_over(*arguments: Any, _call: Any = original, **keywords: Any) -> Any:
                before.extend(stack_files(2))
                return _call(*arguments, **keywords)

            setattr(holder, called, hand_over)
            patches.callback(setattr, holder, called, original)
        last = getattr(owner, name)
        setattr(owner, name, reached)
        patches.callback(setattr, owner, name, last)
        if inside is not None:
            sys.setprofile(tracer)
        try:
            # The command line turns the first into the second; in a thread of the app it ends the client.
            with contextlib.suppress(PathReached, SystemExit, CancelledError, RuntimeError):
                start()
        finally:
            sys.setprofile(None)
    return list(dict.fromkeys([*before, *stack, *tracer.files]))


def read_levels() -> dict[str, int]:
    """Return the level of each package."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {package: int(level) for level, package in rows}


def count_climbs(files: Sequence[str], levels: dict[str, int]) -> int:
    """Return how many steps go from a lower package to a higher one."""
    top = max(levels.values()) + 1
    each = [levels.get(name.partition("/")[0], top) for name in files]
    return sum(after > before for before, after in itertools.pairwise(each))


def run(*words: str) -> None:
    """Run a command line in this process."""
    from stadia.cli.main import run as run_command_line

    try:
        run_command_line(list(words))
    except SystemExit as ending:
        if ending.code:
            raise


def upload(photo: Path) -> None:
    """Send a photo to the app as a browser does."""
    from starlette.testclient import TestClient

    from stadia.web.server import make_app

    with TestClient(make_app(["base"]), base_url="http://127.0.0.1") as client:
        client.get("/")
        secret = client.get("/api/session").json()
        client.post("/api/photos", headers={"x-stadia": secret.get("csrf", "")}, content=photo.read_bytes())


def list_paths(root: Path, depth: int) -> dict[str, Callable[[], list[str]]]:
    """Return what traces each command on the worlds in `root`."""
    import stadia.training.loop  # noqa: F401, I001 - before lightning: it has what torchvision lacks
    import anyio.to_thread
    import lightning.fabric
    import numpy as np
    import torch

    world, frames = root / "world", next((root / "world").glob("test-*/left*"))
    backward = lightning.fabric.Fabric, "backward", ("recipes/", "training_step"), depth
    train = ["train", "selfsup", "--data", str(world), "--out", str(root / "runs"), *SMALL, *FEW]
    camera = "data.camera.horizontal_fov_deg=60"
    predict = ["predict", "base", str(world), "--out", str(root / "predicted")]
    adapt = ["adapt", "base", str(frames), camera, "--minutes", "9", "--out", str(root / "adapted"), *FEW]
    return {
        "train": lambda: trace(lambda: run(*train), *backward),
        "predict": lambda: trace(lambda: run(*predict), np, "savez", ("evaluation/", "stream_predictions"), depth),
        "map": lambda: trace(lambda: run("map", str(frames), camera), np, "savez_compressed", WHOLE_MAP, depth),
        "adapt": lambda: trace(lambda: run(*adapt), *backward),
        "app": lambda: trace(
            lambda: upload(min(frames.iterdir())),
            *(torch.nn.Conv2d, "forward", None, depth, [(anyio.to_thread, "run_sync")]),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=2, help="calls below the loop")
    parser.add_argument("--only", nargs="+", default=["train", "predict", "map", "adapt", "app"])
    arguments = parser.parse_args()
    levels, result = read_levels(), {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run("data", "roadworld", "--out", str(root / "world"), "--preset", "tiny")
        for name, follow in list_paths(root, arguments.depth).items():
            if name in arguments.only:
                files = follow()
                result[name] = {"files": files, "climbs": count_climbs(files, levels)}
                lines = sum(len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in files)
                print(f"{name}: {len(files)} files, {result[name]['climbs']} climbs, {lines} lines", flush=True)
                for file in files:
                    print(f"  {file}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
