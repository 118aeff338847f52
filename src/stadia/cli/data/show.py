"""`stadia data show`: draw labels of objects on their images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import argument
from stadia.cli.output import echo


def show(
    data: Annotated[Path, argument("Images of objects: stadia's own layout, BOP, NOCS, KITTI.")],
    split: Annotated[str, argument("Split of DATA, such as train, test, training.")],
    out: Annotated[Path, typer.Option(help="Folder of the drawings.")],
    images: Annotated[int, typer.Option(min=1, help="Largest number of images, evenly spread over the split.")] = 16,
    format: Annotated[str, typer.Option(help="Format of DATA: objects, bop, nocs or kitti.")] = "auto",
) -> None:
    """Draw the labels of objects on their images: boxes, axes, classes and masks."""
    from stadia.files.output_files import fill_new_folder
    from stadia.objectpose.scores import draw_labels

    with fill_new_folder(out) as folder:
        names = [file.name for file in draw_labels(data, split, folder, images, format)]
    for name in names:
        echo(out / name)
