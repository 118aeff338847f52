"""`stadia data tableworld`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from stadia.cli.data.rendering import OutFolder, Preset, Seed, Settings, Workers, render, split_counts


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

    from stadia.objectpose.world.tableworld_writer import write_tableworld

    write = partial(write_tableworld, config, out, seed=seed, workers=workers)
    render(write, "rendering TableWorld", sum(config.counts.values()) * config.views)
