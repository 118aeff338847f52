"""List the files that a reader opens to follow `stadia train` to the gradient, and `stadia predict` to the files.

    python benchmarks/reading_path.py [--depth 2]

Two tiny runs on a small RoadWorld are traced. The path of a training is the call stack when `backward` is called, and
every function that the training step calls, down to `--depth` calls below it. The path of a prediction is the call
stack when the bytes of a depth map are written, and every function that the loop over frames calls, down to the same
depth. Prints the files with their lines, in the order in which they are entered, and one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import stadia

PACKAGE = Path(stadia.__file__).parent


def file_of(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


class PathReached(BaseException):
    """The traced call was made; nothing after it is of interest."""


class Tracer:
    """Record the stadia files entered below a function, down to a number of stadia calls."""

    def __init__(self, inside: tuple[str, str], depth: int) -> None:
        self.inside, self.depth = inside, depth
        self.level: int | None = None
        self.files: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = file_of(frame)
        if name is None or frame.f_code.co_name.startswith("<"):
            return
        if event == "call":
            if self.level is None:
                if name.startswith(self.inside[0]) and frame.f_code.co_name == self.inside[1]:
                    self.level = 0
                    self.files.append(name)
                return
            self.level += 1
            if self.level <= self.depth:
                self.files.append(name)
        elif event == "return" and self.level is not None:
            self.level = self.level - 1 if self.level else None


def stack_files(skip: int = 1) -> list[str]:
    frame: FrameType | None = sys._getframe(skip)
    names = []
    while frame is not None:
        if name := file_of(frame):
            names.append(name)
        frame = frame.f_back
    return names[::-1]


def trace(words: list[str], owner: object, name: str, inside: tuple[str, str], depth: int) -> list[str]:
    """Run a command line in this process until `owner.name` is called; return the files of the path, in order."""
    from stadia.cli.main import run

    tracer, stack, original = Tracer(inside, depth), [], getattr(owner, name)

    def reached(*arguments: Any, **keywords: Any) -> None:
        sys.setprofile(None)
        stack.extend(stack_files(2))
        raise PathReached

    setattr(owner, name, reached)
    sys.setprofile(tracer)
    try:
        with contextlib.suppress(PathReached, SystemExit):  # the command line turns the one into the other
            run(words)
    finally:
        sys.setprofile(None)
        setattr(owner, name, original)
    return list(dict.fromkeys([*stack, *tracer.files]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depth", type=int, default=2, help="calls below the training step or the loop over frames")
    depth = parser.parse_args().depth
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        from stadia.cli.main import run

        def call(*words: str) -> None:
            try:
                run(list(words))
            except SystemExit as ending:
                if ending.code:
                    raise

        call("data", "roadworld", "--out", str(root / "world"), "--preset", "tiny")
        small = [
            "--data",
            str(root / "world"),
            "data.height=64",
            "data.width=96",
            "model.pretrained=false",
            "--out",
            str(root / "runs"),
        ]
        few = ["training.max_steps=2", "training.batch_size=2", "training.workers=0", "training.accelerator=cpu"]
        call("train", "selfsup", *small, *few)
        (checkpoint,) = (root / "runs").iterdir()

        import lightning.fabric
        import numpy as np

        result["stadia train selfsup"] = trace(
            ["train", "selfsup", *small, *few],
            lightning.fabric.Fabric,
            "backward",
            ("recipes/", "training_step"),
            depth,
        )
        result["stadia predict"] = trace(
            ["predict", str(checkpoint), str(root / "world"), "--out", str(root / "predicted")],
            np,
            "savez",
            ("evaluation/", "stream_predictions"),
            depth,
        )
    for command, files in result.items():
        print(f"{command}: {len(files)} files, {sum(len((PACKAGE / f).read_text().splitlines()) for f in files)} lines")
        for name in files:
            print(f"  {name}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
