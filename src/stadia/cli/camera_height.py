"""`stadia camera-height`: estimate the height of a camera above the road from objects of known height."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption


def camera_height(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="A video, images or a dataset with masks; KITTI boxes.", show_default=False
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="masks=FOLDER, priors=mixed, horizon=edges: docs/camera-height.md",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for the result and its images.", show_default=False)
    ] = None,
    every: EveryOption = 1,
) -> None:
    """Estimate the camera's height without a network, from the horizon and cars and people of known height
    distribution.
    """
    from stadia.cli.watch import on_stderr
    from stadia.recipes.camera_height_config import CameraHeightAsked, camera_height_config

    config = camera_height_config(overrides or [])

    from stadia.recipes.camera_height import camera_height_asked

    with on_stderr() as bars:
        for line in camera_height_asked(CameraHeightAsked(source, config, every, out), bars.watch):
            typer.echo(line, err=line.startswith("note: "))
