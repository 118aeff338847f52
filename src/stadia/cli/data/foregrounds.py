"""`stadia data foregrounds`."""

from __future__ import annotations

from functools import partial

from stadia.cli.data.rendering import OutFolder, Seed, Settings, Workers, render


def foregrounds(out: OutFolder, seed: Seed = 0, workers: Workers = None, overrides: Settings = None) -> None:
    """Render cut-out objects with alpha for pasting onto backgrounds: FOLDER/SPLIT/OBJECT/VIEW.png, license CC0."""
    from stadia.core.config import resolve_config
    from stadia.overlay.config import CutoutConfig

    config = resolve_config(CutoutConfig, {}, list(overrides or []))

    from stadia.overlay.world.cutouts import write_cutouts

    write = partial(write_cutouts, config, out, seed=seed, workers=workers)
    render(write, "rendering cut-outs", sum(config.counts.values()) * config.views)
