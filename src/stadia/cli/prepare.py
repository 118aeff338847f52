"""`stadia prepare` and `stadia camera-height`: prepare your own video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption, InputArgument, InputSettings, argument, option

# -- `stadia prepare`: prepare masks for a training on your own video.

DEFAULT = "facebook/mask2former-swin-tiny-cityscapes-panoptic"


def prepare(
    source: InputArgument,
    overrides: InputSettings = None,
    masks: Annotated[bool, typer.Option("--masks", help="Make masks of road and objects of every frame.")] = False,
    by: Annotated[
        str,
        typer.Option(
            "--by", help="What makes them: a .tflite, a COCO .json, a folder of masks, a network of transformers."
        ),
    ] = DEFAULT,
    out: Annotated[Path | None, option("--out", "A folder; INPUT's name with -masks by default.")] = None,
    heights: Annotated[
        Path | None, option("--heights", "A learned size prior that predicts the height of each car.")
    ] = None,
    every: EveryOption = 1,
) -> None:
    """Make masks of road and objects for your own video. The same command resumes. Check its sheet before training."""
    from stadia.core.errors import ConfigError

    if not masks:
        raise ConfigError("prepare", found="nothing to prepare", expected="--masks", fix="see `stadia prepare --help`")

    from stadia.cli.progress_display import show_progress
    from stadia.recipes.base.requests import parse_source_options

    options = parse_source_options(overrides or [])

    from stadia.apps.masks import MasksRequest, prepare_masks

    with show_progress() as bars:
        for line in prepare_masks(
            MasksRequest(source, by, out or Path(f"{source.stem}-masks"), options, every, heights), bars.watch
        ):
            typer.echo(line, err=line.startswith("note: "))


# -- `stadia camera-height`: estimate the height of a camera above the road from objects of known height.


def camera_height(
    source: Annotated[Path, argument("A video, images or a dataset with masks; KITTI boxes.", metavar="INPUT")],
    overrides: Annotated[
        list[str] | None,
        argument("masks=FOLDER, priors=mixed, horizon=edges: docs/camera-height.md", metavar="KEY=VALUE"),
    ] = None,
    out: Annotated[Path | None, option("--out", "A folder for the result and its images.")] = None,
    every: EveryOption = 1,
) -> None:
    """Estimate the camera's height without a network, from the horizon and cars and people of known height
    distribution.
    """
    from stadia.apps.camera_height.config import CameraHeightRequest, parse_camera_height_config
    from stadia.cli.progress_display import show_progress

    config = parse_camera_height_config(overrides or [])

    from stadia.apps.camera_height.estimate import run_camera_height

    with show_progress() as bars:
        for line in run_camera_height(CameraHeightRequest(source, config, every, out), bars.watch):
            typer.echo(line, err=line.startswith("note: "))
