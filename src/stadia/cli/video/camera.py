"""`stadia camera`: write the camera of your own video or image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stadia.cli.arguments import ForceOption, InputArgument, option
from stadia.cli.output import print_lines

CALIBRATION_HELP = "A calibration file, such as of OpenCV, ROS or Metashape, or K: three rows of three numbers."
FIT_HELP = "How the images differ in shape from those of --calibration."


def camera(
    source: InputArgument,
    fov: Annotated[
        float | None,
        typer.Option(min=1, max=179, help="Field of view, left to right edge, degrees.", show_default=False),
    ] = None,
    focal_px: Annotated[float | None, typer.Option(min=2, help="Focal length, pixels.", show_default=False)] = None,
    focal_mm: Annotated[
        float | None, typer.Option(min=1, help='"35 mm equivalent" of the lens, mm.', show_default=False)
    ] = None,
    calibration: Annotated[Path | None, option(CALIBRATION_HELP)] = None,
    name: Annotated[str | None, typer.Option("--camera", help="Name of the camera in --calibration.")] = None,
    fit: Annotated[
        Literal["turned-right", "turned-left", "cropped", "stretched"] | None,
        typer.Option(help=FIT_HELP, show_default=False),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the camera of a video or photo once, for every command. By default from the file's metadata."""
    from stadia.apps.camera_file import CameraRequest, write_camera_file

    request = CameraRequest(
        source=source,
        fov_deg=fov,
        focal_px=focal_px,
        focal_mm=focal_mm,
        calibration=calibration,
        name=name,
        fit=fit,
        force=force,
    )
    print_lines(write_camera_file(request))
