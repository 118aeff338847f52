"""`stadia data roomworld`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from stadia.cli.data.rendering import OutFolder, Preset, Seed, Settings, Workers, render, split_counts


def roomworld(
    out: OutFolder,
    preset: Preset = "demo",
    seed: Seed = 0,
    rooms: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of rooms, instead of the preset's.")
    ] = None,
    workers: Workers = None,
    overrides: Settings = None,
) -> None:
    """Render rooms: hand-held video with exact depth and poses."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.config import ROOMWORLD_PRESETS, RoomWorldConfig, find_preset

    extra = split_counts("--rooms", rooms) + list(overrides or [])
    config = resolve_config(RoomWorldConfig, find_preset(ROOMWORLD_PRESETS, preset).model_dump(mode="json"), extra)

    from stadia.synthetic.room_scene import write_roomworld

    write = partial(write_roomworld, config, out, seed=seed, workers=workers)
    render(write, "rendering RoomWorld", sum(config.counts.values()) * config.frames)
