"""`stadia prepare`: prepare masks for a training on your own video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption, InputArgument, InputSettings

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
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder; INPUT's name with -masks by default.", show_default=False)
    ] = None,
    heights: Annotated[
        Path | None,
        typer.Option(
            "--heights", help="A learned size prior that predicts the height of each car.", show_default=False
        ),
    ] = None,
    every: EveryOption = 1,
) -> None:
    """Make masks of road and objects for your own video. The same command resumes. Check its sheet before training."""
    from stadia.core.errors import ConfigError

    if not masks:
        raise ConfigError("prepare", found="nothing to prepare", expected="--masks", fix="see `stadia prepare --help`")

    from stadia.cli.watch import on_stderr
    from stadia.recipes.source_config import source_options

    options = source_options(overrides or [])

    from stadia.recipes.prepare_masks import MasksAsked, prepare_masks

    with on_stderr() as bars:
        for line in prepare_masks(
            MasksAsked(source, by, out or Path(f"{source.stem}-masks"), options, every, heights), bars.watch
        ):
            typer.echo(line, err=line.startswith("note: "))
