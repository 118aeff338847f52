"""`stadia odometry`: the path of a camera, by a trained network and what the images show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def odometry(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A video, a folder of images, or a dataset.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="How to open INPUT: data.camera.horizontal_fov_deg=69", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder; by default in CHECKPOINT's run.", show_default=False)
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="refined, aligned, or network: what each does, stadia parts followers.")
    ] = "refined",
    size: Annotated[
        str | None,
        typer.Option("--size", help="512x256: run CHECKPOINT at another size than its training's.", show_default=False),
    ] = None,
) -> None:
    """Follow the camera: its path as KITTI and TUM rows and from above, a map of points; scored where INPUT has
    measured poses.
    """
    from stadia.cli.watch import on_stderr
    from stadia.recipes.asked import OdometryAsked
    from stadia.recipes.odometry import odometry_asked
    from stadia.recipes.source_config import source_options

    asked = OdometryAsked(checkpoint, source, source_options(overrides or []), method, size, out)
    with on_stderr() as bars:
        for line in odometry_asked(asked, bars.watch):
            typer.echo(line, err=line.startswith("note: "))
