"""`stadia view`: a data set or a prediction in 3D, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import InputSettings, argument, option
from stadia.cli.output import echo
from stadia.core.errors import ConfigError, DataError


def view(
    data: Annotated[Path, argument("A dataset, or a folder of images.")],
    overrides: InputSettings = None,
    predictions: Annotated[Path | None, option("A folder of `stadia predict` of the same frames.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=500, help="Frames, evenly spread.")] = 60,
    host: Annotated[str, typer.Option(help="Address to serve.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve.")] = 8080,
) -> None:
    """Show a data set or a prediction in 3D, in the browser."""
    import importlib.util

    if importlib.util.find_spec("viser") is None:
        found, fix = "no package viser", "pip install 'stadia[view]'"
        raise ConfigError("stadia view", found=found, expected="the extra view", fix=fix)
    from stadia.datasets import open_recordings
    from stadia.predict.options import parse_source_options
    from stadia.web.scene import collect_scene, show_scene

    recordings = open_recordings(data, **parse_source_options(overrides or []))
    if not recordings:
        raise DataError(data, found="no recording", expected="one", fix="check the path")
    scene = collect_scene(recordings[0], predictions, frames)
    points = sum(len(frame.points) for frame in scene.frames)
    echo(f"{recordings[0].name}: {len(scene.frames)} frames, {points} points; Ctrl-C ends it", err=True)
    show_scene(scene, host, port, lambda address: echo(f"page: {address}"))
