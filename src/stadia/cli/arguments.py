"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CheckpointArgument = Annotated[Path, typer.Argument(help="A checkpoint or a run's folder.", show_default=False)]

InputArgument = Annotated[
    Path, typer.Argument(metavar="INPUT", help="An image, a folder, a video, or a dataset.", show_default=False)
]

_OPEN_HELP = "How to open INPUT: data.camera.horizontal_fov_deg=69"
InputSettings = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help=_OPEN_HELP, show_default=False)]

EveryOption = Annotated[int, typer.Option("--every", min=1, help="Use each n-th frame.")]
