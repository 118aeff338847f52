"""`stadia data foregrounds` and `stadia data overlay`: render cut-outs, and paste them onto backgrounds."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.data import OutFolder, Seed, Settings, Workers, render
from stadia.cli.options import ForceOption, argument, option, refuse_options
from stadia.cli.output import print_lines, show_progress
from stadia.core.errors import ConfigError

MAX_COUNT = 1_000_000  # largest number of images of a set: a larger one is a typing mistake


def foregrounds(out: OutFolder, seed: Seed = 0, workers: Workers = None, overrides: Settings = None) -> None:
    """Render cut-out objects with alpha for pasting onto backgrounds: FOLDER/SPLIT/OBJECT/VIEW.png, license CC0."""
    from stadia.core.config import resolve_config
    from stadia.overlay.config import CutoutConfig

    config = resolve_config(CutoutConfig, {}, list(overrides or []))

    from stadia.overlay.world.foregrounds import write_cutouts

    write = partial(write_cutouts, config, out, seed=seed, workers=workers)
    render(write, "rendering cut-outs", sum(config.counts.values()) * config.views)


def overlay(
    context: typer.Context,
    out: Annotated[Path | None, option("Folder to write to; an interrupted one is continued.")] = None,
    sheet: Annotated[Path | None, option("Write only a PNG overview of any set (path=FOLDER).")] = None,
    count: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Images to train on.")] = 10_000,
    val: Annotated[
        int, typer.Option(min=0, max=MAX_COUNT, help="Images to validate on, and to test if there is such a split.")
    ] = 500,
    seed: Seed = 0,
    workers: Workers = None,
    overrides: Annotated[list[str] | None, argument("As height=128, or data.height=128.", metavar="KEY=VALUE")] = None,
    force: ForceOption = False,
) -> None:
    """Paste cut-outs onto backgrounds with depth, write images, depth and masks, and report overlaps of the splits."""
    from stadia.core.config import resolve_config
    from stadia.io.output_files import check_replaceable
    from stadia.overlay.config import OverlayDataConfig

    if (out is None) == (sheet is None):
        found = "both" if out else "neither"
        raise ConfigError(
            "overlay",
            found=found,
            expected="--out or --sheet",
            fix="pass --out DIR for a dataset, or --sheet FILE for one picture",
        )
    if sheet is None:
        refuse_options(context, ["force"], found="no effect on --out, which is continued", expected="--sheet FILE")
    else:
        refuse_options(context, ["workers"], found="no effect on --sheet, one picture", expected="--out FOLDER")
    settings = [word.removeprefix("data.") for word in overrides or []]  # keys of `stadia train` work here too
    config = resolve_config(OverlayDataConfig, {}, [f"samples={count}", f"val_samples={val}", *settings])
    if sheet is not None:
        from stadia.training.recipes.base.config import list_paths

        sheet = check_replaceable(sheet, "overview", inputs=list_paths(config), force=force)

    from stadia.overlay.overlay_data import draw_overlays, write_overlay_set

    with show_progress() as bars:
        if sheet is not None:
            print_lines(draw_overlays(config, sheet, seed, bars.progress))
        elif out is not None:
            print_lines(write_overlay_set(config, out, seed, workers, bars.progress))
