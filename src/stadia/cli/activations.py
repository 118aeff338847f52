"""`stadia activations`: write the activations of a network for a video, as a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import CheckpointArgument, EveryOption, InputArgument, InputSettings


def activations(
    checkpoint: CheckpointArgument,
    source: InputArgument,
    overrides: InputSettings = None,
    out: Annotated[Path, typer.Option("--out", help="The new .mp4 file.", show_default=False)] = ...,  # type: ignore[assignment]
    every: EveryOption = 1,
) -> None:
    """Show the activations of CHECKPOINT's network for INPUT: the four most variable channels of each stage."""
    from stadia.cli.watch import on_stderr
    from stadia.core.errors import CheckpointError, ConfigError
    from stadia.evaluation.activations import activation_video
    from stadia.recipes.inputs import open_input
    from stadia.recipes.prediction import as_trained
    from stadia.recipes.source_config import source_options
    from stadia.recipes.workflow import load_task

    options = source_options(overrides or [])
    if out.suffix.lower() != ".mp4" or out.exists():
        found = "an existing file" if out.exists() else f"'{out.name}'"
        raise ConfigError("--out", found=found, expected="a new .mp4", fix="choose another name")
    task = load_task(checkpoint)
    predictor = task.predictor()
    if predictor is None:
        raise CheckpointError(
            checkpoint, found=f"'{task.recipe}'", expected="a network that predicts depth", fix="pass another"
        )
    given, *more = open_input(source, every=every, **as_trained(checkpoint, source, options))
    if more:
        names = ", ".join(one.name for one in (given, *more[:3]))
        raise ConfigError(
            "INPUT", found=f"{1 + len(more)} recordings ({names})", expected="one", fix="choose it by data.recordings"
        )
    with on_stderr() as bars:
        count = activation_video(
            task, predictor, bars.watch(given.frames, given.count, f"running {given.name}"), out, given.rate_hz
        )
    typer.echo(f"{out}: {count} frames")
