"""`stadia odometry`: estimate the path of a camera with a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import CheckpointArgument, InputArgument, InputSettings


def odometry(
    checkpoint: CheckpointArgument,
    source: InputArgument,
    overrides: InputSettings = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder; in CHECKPOINT's run by default.", show_default=False)
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="Method: refined, aligned or network; see `stadia list followers`.")
    ] = "refined",
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Run CHECKPOINT at another size than in training, such as 512x256.", show_default=False
        ),
    ] = None,
) -> None:
    """Track the camera: write its path as KITTI and TUM rows, a plot and a point map, and score it against measured
    poses.
    """
    from stadia.cli.watch import on_stderr
    from stadia.recipes.asked import OdometryAsked
    from stadia.recipes.odometry import odometry_asked
    from stadia.recipes.source_config import source_options

    request = OdometryAsked(checkpoint, source, source_options(overrides or []), method, size, out)
    with on_stderr() as bars:
        for line in odometry_asked(request, bars.watch):
            typer.echo(line, err=line.startswith("note: "))
