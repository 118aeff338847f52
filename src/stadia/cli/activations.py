"""`stadia activations`: show what the layers of a network respond to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from stadia.cli.arguments import (
    CheckpointArgument,
    EveryOption,
    ForceOption,
    InputArgument,
    InputSettings,
    flag,
    option,
)
from stadia.cli.output import echo, show_progress
from stadia.core.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from stadia.training.checkpoint import Checkpoint


def activations(
    checkpoint: CheckpointArgument,
    source: InputArgument,
    overrides: InputSettings = None,
    out: Annotated[Path, option("The new .mp4 file.")] = ...,  # type: ignore[assignment]
    every: EveryOption = 1,
    over_steps: Annotated[bool, flag("--over-steps", "One image over the checkpoints of training.keep_every.")] = False,
    force: ForceOption = False,
) -> None:
    """Show what the layers of a network respond to. The four most variable channels of each stage."""
    from stadia.evaluation.plots.activations import write_activation_video, write_activations_over_steps
    from stadia.files.output_files import check_replaceable
    from stadia.predict.inputs import add_training_options, open_inputs
    from stadia.predict.options import parse_source_options
    from stadia.recipes.base.build_recipe import load_recipe
    from stadia.training.checkpoint import Checkpoint

    options = parse_source_options(overrides or [])
    if out.suffix.lower() != ".mp4":
        raise ConfigError("--out", found=f"'{out.name}'", expected="a new .mp4", fix="choose another name")
    out = check_replaceable(out, "video of activations", inputs=[checkpoint, source], force=force)
    opened = Checkpoint.open(checkpoint)
    recipe = load_recipe(opened)
    predictor = recipe.predictor()
    if predictor is None:
        found, expected = f"'{recipe.recipe}'", "a network that predicts depth"
        raise CheckpointError(checkpoint, found=found, expected=expected, fix="pass another")
    given, *more = open_inputs(source, every=every, **add_training_options(opened, source, options))
    if more:
        found = f"{1 + len(more)} recordings ({', '.join(recording.name for recording in (given, *more[:3]))})"
        raise ConfigError("INPUT", found=found, expected="one", fix="choose it by data.recordings")
    if over_steps:
        frame = next(iter(given.frames))
        check_replaceable(out.with_suffix(".png"), "sheet of activations", inputs=[checkpoint, source], force=force)

        def open_step(step: Checkpoint) -> tuple[Any, Any]:
            network = load_recipe(step)
            return network, network.predictor()

        steps, sheet = write_activations_over_steps(checkpoint, open_step, frame, out)
        echo(f"{out}: {steps} checkpoints; {sheet}")
        return
    with show_progress() as bars:
        frames = bars.track(given.frames, given.count, f"running {given.name}")
        count = write_activation_video(recipe, predictor, frames, out, given.rate_hz)
    echo(f"{out}: {count} frames")
