"""`stadia data tableworld`, `stadia data show` and `stadia evaluate --objects`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from stadia.cli.data import OutFolder, Preset, Seed, Settings, Workers, render, split_counts
from stadia.cli.options import argument
from stadia.cli.output import echo
from stadia.cli.results import write_score_file


def tableworld(
    out: OutFolder,
    preset: Preset = "demo",
    seed: Seed = 0,
    tables: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of tables, instead of the preset's.")
    ] = None,
    workers: Workers = None,
    overrides: Settings = None,
) -> None:
    """Render objects on tables: images with exact masks, depth, poses and sizes."""
    from stadia.core.config import resolve_config
    from stadia.objectpose.config import TABLEWORLD_PRESETS, TableWorldConfig
    from stadia.synthetic.config import find_preset

    extra = split_counts("--tables", tables) + list(overrides or [])
    config = resolve_config(TableWorldConfig, find_preset(TABLEWORLD_PRESETS, preset).model_dump(mode="json"), extra)

    from stadia.objectpose.table_world import write_tableworld

    write = partial(write_tableworld, config, out, seed=seed, workers=workers)
    render(write, "rendering TableWorld", sum(config.counts.values()) * config.views)


def show(
    data: Annotated[Path, argument("Images of objects: stadia's own layout, BOP, NOCS, KITTI.")],
    split: Annotated[str, argument("Split of DATA, such as train, test, training.")],
    out: Annotated[Path, typer.Option(help="Folder of the drawings.")],
    images: Annotated[int, typer.Option(min=1, help="Largest number of images, evenly spread over the split.")] = 16,
    format: Annotated[str, typer.Option(help="Format of DATA: objects, bop, nocs or kitti.")] = "auto",
) -> None:
    """Draw the labels of objects on their images: boxes, axes, classes and masks."""
    from stadia.io.output_files import fill_new_folder
    from stadia.objectpose.scores import draw_labels

    with fill_new_folder(out) as folder:
        names = [file.name for file in draw_labels(data, split, folder, images, format)]
    for name in names:
        echo(out / name)


def score_object_files(
    objects: Path, truth: Path, split: str | None, held_out_of: Path | None, *, scores: Path | None
) -> dict[str, Any]:
    """Score boxes on a split of the ground truth, write the requested file, and return what is printed."""
    from stadia.objectpose.task import score_results

    summary: dict[str, Any] = score_results(objects, truth, split, held_out_of)
    if scores is not None:
        write_score_file(scores, summary)
    return summary
