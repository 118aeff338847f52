"""`stadia camera` and `stadia init`: write down the camera of a video once, and a stereo pair as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption, ForceOption, InputArgument, argument, option

CALIBRATION_HELP = "A calibration of OpenCV, Kalibr, ROS, EuRoC or KITTI, or K: three rows of three numbers."
PAIR_HELP = (
    "Calibration of the rectified pair; or two files. A file with K alone, three rows `fx 0 cx`, `0 fy cy`, `0 0 1`,"
    " needs --baseline."
)


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
    force: ForceOption = False,
) -> None:
    """Write the camera of INPUT beside it, once: every command then reads it. By default from the file's metadata."""
    from stadia.apps.camera_file import CameraRequest, write_camera_file
    from stadia.cli.progress_display import print_lines

    print_lines(write_camera_file(CameraRequest(source, fov, focal_px, focal_mm, calibration, name, force)))


def init(
    left: Annotated[Path, argument("Video or folder of images of the left camera.")],
    right: Annotated[Path, argument("Video or folder of images of the right camera.")],
    calibrations: Annotated[list[Path], argument(PAIR_HELP, metavar="CALIB")],
    out: Annotated[Path, option("A new folder.")],
    cameras: Annotated[str | None, option("Names in CALIB, left first: P2,P3.", metavar="LEFT,RIGHT")] = None,
    baseline: Annotated[
        float | None, typer.Option(min=1e-4, help="Distance of the cameras, metres, at most 10.")
    ] = None,
    every: EveryOption = 1,
    fps: Annotated[
        float | None, typer.Option(min=1e-3, help="Frames a second of LEFT and RIGHT, before --every.", metavar="HZ")
    ] = None,
    poses: Annotated[Path | None, option("Poses of the left camera: a KITTI or TUM row for each frame.")] = None,
) -> None:
    """Write a rectified stereo pair as a data set of stadia: images, cameras and baseline. Nothing is overwritten."""
    from stadia.core.errors import ConfigError

    names = tuple((cameras or "").split(","))
    if cameras is not None and (len(names) != 2 or not all(names)):
        raise ConfigError("--cameras", found=f"'{cameras}'", expected="two names", fix="for example --cameras P2,P3")

    from stadia.apps.stereo_folder import StereoRequest, write_stereo_folder
    from stadia.cli.progress_display import print_lines, show_progress

    pair = (names[0], names[1]) if cameras is not None else None
    request = StereoRequest(left, right, calibrations, out, pair, baseline, every, fps, poses)
    with show_progress() as bars:
        print_lines(write_stereo_folder(request, bars.track))
