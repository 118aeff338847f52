"""`stadia init`: write a rectified stereo pair as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption, argument, option
from stadia.cli.output import print_lines, show_progress
from stadia.core.errors import ConfigError

PAIR_HELP = (
    "Calibration of the pair, one or two files. A file with K alone, `fx 0 cx`, `0 fy cy`, `0 0 1`, needs --baseline."
)


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
    """Write a rectified stereo pair as a data set."""
    names = tuple((cameras or "").split(","))
    if cameras is not None and (len(names) != 2 or not all(names)):
        raise ConfigError("--cameras", found=f"'{cameras}'", expected="two names", fix="for example --cameras P2,P3")

    from stadia.apps.stereo_folder import StereoRequest, write_stereo_folder

    pair = (names[0], names[1]) if cameras is not None else None
    request = StereoRequest(
        left=left,
        right=right,
        calibrations=calibrations,
        out=out,
        cameras=pair,
        baseline_m=baseline,
        every=every,
        fps=fps,
        poses=poses,
    )
    with show_progress() as bars:
        print_lines(write_stereo_folder(request, bars.track))
