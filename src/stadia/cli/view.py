"""`stadia view`: a data set, a prediction, a map or a run in 3D, in the browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import InputSettings, argument, option
from stadia.cli.output import echo
from stadia.core.errors import DataError


def view(
    data: Annotated[Path, argument("A dataset, a folder of images, a map, or a run.")],
    overrides: InputSettings = None,
    predictions: Annotated[Path | None, option("A folder of `stadia predict` of the same frames.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=500, help="Frames, evenly spread.")] = 60,
    host: Annotated[str, typer.Option(help="Address to serve.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve.")] = 8080,
) -> None:
    """Show a data set, a prediction, a map or a run in 3D, in the browser."""
    from stadia.web.scene import show_page

    page = _make_page(data, overrides or [], predictions, frames)
    show_page(page, host, port, lambda address: echo(f"page: {address}"))


def _make_page(data: Path, overrides: list[str], predictions: Path | None, frames: int) -> str:
    from stadia.datasets import open_recordings
    from stadia.datasets.video.video_map import RECORD, read_map
    from stadia.files.input_files import read_text
    from stadia.predict.options import parse_source_options
    from stadia.report.report_page import build_report
    from stadia.report.run_files import is_run_folder
    from stadia.web.scene import collect_map, collect_scene, render_scene

    if is_run_folder(data):
        with tempfile.TemporaryDirectory() as folder:
            return read_text(build_report(data, Path(folder) / "report.html"), expected="a report")
    if (data / RECORD).is_file():
        return render_scene(data.name, collect_map(read_map(data)))
    recordings = open_recordings(data, **parse_source_options(overrides))
    if not recordings:
        raise DataError(data, found="no recording", expected="one", fix="check the path")
    scene = collect_scene(recordings[0], predictions, frames)
    points = sum(len(frame.points) for frame in scene.frames)
    echo(f"{recordings[0].name}: {len(scene.frames)} frames, {points} points; Ctrl-C ends it", err=True)
    return render_scene(recordings[0].name, scene)
