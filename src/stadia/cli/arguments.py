"""Define arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def argument(help: str, **settings: Any) -> Any:
    """Return a typer argument whose default the help does not show."""
    return typer.Argument(help=help, show_default=False, **settings)


def option(name: str, help: str, **settings: Any) -> Any:
    """Return a typer option whose default the help does not show."""
    return typer.Option(name, help=help, show_default=False, **settings)


CheckpointArgument = Annotated[Path, argument("A checkpoint or a run's folder.")]
InputArgument = Annotated[Path, argument("An image, a folder, a video, or a dataset.", metavar="INPUT")]
InputSettings = Annotated[
    list[str] | None, argument("How to open INPUT: data.camera.horizontal_fov_deg=69", metavar="KEY=VALUE")
]
EveryOption = Annotated[int, typer.Option("--every", min=1, help="Use each n-th frame.")]

RUNS = Path("runs")
RunsOption = Annotated[Path, typer.Option("--out", help="The folder for runs; this run gets a new folder in it.")]
SizeOption = Annotated[
    str | None, option("--size", "Run CHECKPOINT at another size than in training, such as 1216x352.")
]
