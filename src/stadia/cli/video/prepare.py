"""`stadia prepare`: make masks of your own video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption, InputArgument, InputSettings, flag, option
from stadia.cli.output import print_lines, show_progress
from stadia.core.errors import ConfigError


def prepare(
    source: InputArgument,
    overrides: InputSettings = None,
    masks: Annotated[bool, flag("--masks", "Make masks of road and objects of every frame.")] = False,
    by: Annotated[
        str, typer.Option(help="A .tflite or .onnx, a COCO .json, a folder of masks, or a transformers network.")
    ] = "facebook/mask2former-swin-tiny-cityscapes-panoptic",
    road_by: Annotated[str | None, typer.Option(help="The same for the road alone.")] = None,
    out: Annotated[Path | None, option("A folder; NAME-masks by default.")] = None,
    heights: Annotated[Path | None, option("A size prior of `stadia prior train`.")] = None,
    every: EveryOption = 1,
) -> None:
    """Make masks of road and objects. The same command resumes. Check the sheet before training."""
    from stadia.datasets.open_dataset import check_path_exists
    from stadia.files.paths import expand_home
    from stadia.predict.options import parse_source_options

    check_path_exists(expand_home(source))
    if not masks:
        raise ConfigError("prepare", found="nothing to prepare", expected="--masks", fix="see `stadia prepare --help`")
    options = parse_source_options(overrides or [])

    from stadia.apps.masks import MasksRequest, prepare_masks

    folder = out or Path(f"{source.stem}-masks")
    request = MasksRequest(
        source=source, by=by, out=folder, options=options, every=every, heights=heights, road_by=road_by
    )
    with show_progress() as bars:
        print_lines(prepare_masks(request, bars.track))
