"""`stadia prepare`: prepare masks for a training on your own video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT = "facebook/mask2former-swin-tiny-cityscapes-panoptic"


def prepare(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A video, a folder of images, or a dataset.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="How to open INPUT: data.camera.horizontal_fov_deg=69", show_default=False
        ),
    ] = None,
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
    every: Annotated[int, typer.Option("--every", min=1, help="Use each n-th frame.")] = 1,
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
