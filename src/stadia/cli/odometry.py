"""`stadia odometry`: track the camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import (
    BackendOption,
    DefaultNetwork,
    FlipOption,
    InputSettings,
    OptionalInput,
    PrecisionOption,
    ScaleOption,
    SizeOption,
    StrictOption,
    check_scale_sources,
    option,
    take_default_network,
)
from stadia.cli.output import print_lines, show_progress
from stadia.cli.predict import open_network


def odometry(
    checkpoint: DefaultNetwork,
    source: OptionalInput = None,
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("A new folder; in CHECKPOINT's run by default.")] = None,
    method: Annotated[str, typer.Option(help="Method; `stadia list odometry-methods` lists them.")] = "refined",
    size: SizeOption = None,
    flip: FlipOption = False,
    backend: BackendOption = None,
    precision: PrecisionOption = "float32",
    strict: StrictOption = False,
    scale_from: ScaleOption = None,
) -> None:
    """Track the camera: write its path as KITTI and TUM rows, a plot and a point map, and score it.

    With INPUT alone, the depth is that of the network of the package: `stadia odometry drive.mp4 --out path`.
    """
    from stadia.evaluation.backends import TORCH, BackendChoice, check_backend
    from stadia.predict.requests import OdometryRequest, parse_source_options, split_settings

    checkpoint, source, overrides = take_default_network(checkpoint, source, overrides)
    choice = BackendChoice(backend or TORCH, precision)
    check_backend(choice)
    given, settings = split_settings(overrides)
    request = OdometryRequest(
        source=source,
        options=parse_source_options(given),
        method=method,
        size=size,
        out=out,
        backend_choice=choice,
        strict=strict,
        flip=flip,
        scale_from=check_scale_sources(scale_from),
    )
    without_poses = {name: value for name, value in request.options.items() if name != "poses"}
    opened = open_network(checkpoint, source, without_poses, settings, None)
    from stadia.apps.run_odometry import run_odometry

    with show_progress() as bars:
        print_lines(run_odometry(opened, request, bars.track))
