"""`stadia data roadworld`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from stadia.cli.arguments import flag
from stadia.cli.data.rendering import OutFolder, Preset, Seed, Settings, Workers, render, split_counts


def roadworld(
    out: OutFolder,
    preset: Preset = "demo",
    seed: Seed = 0,
    worlds: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of worlds, instead of the preset's.")
    ] = None,
    exposure: Annotated[bool, flag("--exposure", "Let the exposure drift.")] = False,
    noise: Annotated[bool, flag("--noise", "Add a sensor's noise.")] = False,
    workers: Workers = None,
    overrides: Settings = None,
) -> None:
    """Render a road world: stereo video with exact labels."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.config import ROADWORLD_PRESETS, RoadWorldConfig, find_preset

    extra = split_counts("--worlds", worlds) + list(overrides or [])
    extra += [f"{name}=true" for name, wanted in (("exposure", exposure), ("noise", noise)) if wanted]
    config = resolve_config(RoadWorldConfig, find_preset(ROADWORLD_PRESETS, preset).model_dump(mode="json"), extra)

    from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

    write = partial(write_roadworld, config, out, seed=seed, workers=workers)
    render(write, "rendering RoadWorld", sum(config.counts.values()) * config.frames)
