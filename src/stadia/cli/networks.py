"""Commands on networks: `stadia adapt`, `export`, `import` and `activations`."""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import (
    CheckpointArgument,
    EveryOption,
    ForceOption,
    InputArgument,
    InputSettings,
    OptionalInput,
    argument,
    flag,
    number,
    option,
    refuse_options,
)
from stadia.cli.output import echo, show_progress, track_loop
from stadia.core.errors import CheckpointError, ConfigError
from stadia.predict.options import take_default_network

if TYPE_CHECKING:
    from stadia.training import Adaptation
    from stadia.training.loop.checkpoint import Checkpoint


def adapt(
    context: typer.Context,
    network: Annotated[str, argument("A published network, its folder, or module:Class; base by default.")],
    video: OptionalInput = None,
    overrides: Annotated[list[str] | None, argument("Keys of selfsup and network.*", metavar="KEY=VALUE")] = None,
    minutes: Annotated[float, number("Time of the whole command.", min=0.1, show_default=True)] = 5.0,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Number of updates, in place of --minutes.", show_default=False)
    ] = None,
    scope: Annotated[str, typer.Option(help="What is trained: decoder, head, adapters or all.")] = "decoder",
    out: Annotated[Path, typer.Option(help="The folder for runs.")] = Path("runs"),
) -> None:
    """Fine-tune a network on your video, without labels. Keeps the better weights."""
    started_s = time.perf_counter()
    if steps is not None:
        refuse_options(context, ["minutes"], found="no effect with --steps", expected="one of the two")
    chosen_network, video, overrides = take_default_network(Path(network), video, overrides)
    from stadia.core.floors import require_library
    from stadia.core.terminal import Terminal, announce_step
    from stadia.predict.options import split_settings

    network = network if chosen_network == Path(network) else str(chosen_network)
    settings, network_settings = split_settings(overrides)
    require_library("torch")  # before the line that announces it
    with announce_step(Terminal(stderr=True), "loading the libraries"):
        from stadia.training import SCOPES, adapt_network

    chosen = next((name for name in SCOPES if name == scope), None)
    if chosen is None:
        expected = f"one of {', '.join(SCOPES)}"
        raise ConfigError("--scope", found=f"'{scope}'", expected=expected, fix="choose one of them")
    adapted = adapt_network(
        network,
        video,
        minutes=minutes,
        steps=steps,
        scope=chosen,
        out=out,
        settings=settings,
        network_settings=network_settings,
        started_s=started_s,
        track=track_loop,
    )
    print_adaptation(adapted, video)


def print_adaptation(adapted: Adaptation, video: Path) -> None:
    """Print how the errors changed by adapting a network, which network is kept, and how to use it.

    adapted: the result.
    video: the video that the network was adapted to.
    """
    from stadia.training.keep import MAX_SHIFT, MEASURES

    for change in adapted.decision.changes:
        title, _ = MEASURES[change.name]
        share = f"{change.after / max(change.before, 1e-9) - 1:+.0%}"
        scatter = f"scatter {change.scatter:.0%}" if math.isfinite(change.scatter) else "one frame decides nothing"
        echo(f"{title}: {change.before:.4g} before, {change.after:.4g} after ({share}, {scatter})")
    if adapted.after is adapted.before:
        echo("No validation improved. Use more --minutes.")
    elif not adapted.decision.changes:
        echo("Nothing to compare: no map, matches, stereo pair or ground truth.")
    if (shift := adapted.decision.shift) > MAX_SHIFT:
        echo(
            f"The adapted depth differs by a factor of {math.exp(shift):.1f} on average. Nothing shows which is right"
            " at places without points of the map. Leave out traffic: stadia masks VIDEO"
        )
    kept = "the adapted network" if adapted.kept == "after" else "the original network"
    echo(f"kept: {kept} ({adapted.network})")
    echo(f"use it: stadia predict {adapted.network} {video} --out DIR")


def export(
    checkpoint: CheckpointArgument,
    overrides: Annotated[list[str] | None, argument("Keys of a published network.", metavar="KEY=VALUE")] = None,
    out: Annotated[Path, option("A new file: model.onnx, or model.pt2.")] = ...,  # type: ignore[assignment]
    camera: Annotated[Path | None, option("A camera file: write its metres of `stadia calibrate` too.")] = None,
    force: ForceOption = False,
) -> None:
    """Write a depth network as ONNX or torch.export. The file is compared with the checkpoint."""
    from stadia.evaluation.predictions_folder import SCALE_DESCRIPTIONS
    from stadia.io.output_files import check_replaceable
    from stadia.predict.tape import read_kept_scale
    from stadia.training.prediction.export import export_checkpoint
    from stadia.training.recipes.base.build_recipe import describe_network, open_network_checkpoint

    check_replaceable(out, "exported network", inputs=[checkpoint], force=force)
    opened = open_network_checkpoint(checkpoint, settings=overrides or ())
    if line := describe_network(opened):
        echo(line, err=True)
    kept = None if camera is None else read_kept_scale(camera, str(checkpoint))
    about, compared = export_checkpoint(opened, out, lambda step: echo(step, err=True), force=force, kept=kept)
    echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, image (B, 3, H, W) to inverse_depth (B, 1, H, W)")
    echo(f"  any B; H and W multiples of {about.stride}, trained at {about.width}x{about.height}")
    for comparison in compared:
        echo(f"  {comparison}")
    if out.suffix == ".onnx":
        echo(f"run it: stadia predict {shlex.quote(str(out))} INPUT --out DIR")
    echo(f"depth scale: {SCALE_DESCRIPTIONS[about.depth_scale]}")
    echo(f"verdict of its run: {about.describe_verdict() or 'not judged'}")


def import_network(
    source: Annotated[Path, argument("A folder of Monodepth2, or a file of DPT or MiDaS.")],
    overrides: Annotated[list[str] | None, argument("Keys of the network.", metavar="KEY=VALUE")] = None,
    kind: Annotated[str, typer.Option("--as", help="What wrote it: monodepth2, dpt or midas.")] = "monodepth2",
    out: Annotated[Path, option("A new .safetensors file.")] = ...,  # type: ignore[assignment]
) -> None:
    """Read published weights of another program."""
    from stadia.evaluation.predictions_folder import SCALE_DESCRIPTIONS
    from stadia.predict.networks.published_networks import describe_licence
    from stadia.training.recipes.base.build_recipe import import_network

    recipe = import_network(source, kind, out, overrides or ())
    millions = sum(parameter.numel() for parameter in recipe.parameters()) / 1e6
    echo(f"{out}: {millions:.1f} M parameters, {recipe.width}x{recipe.height}")
    if line := describe_licence(recipe.model.licence):
        echo(line)
    echo(f"depth scale: {SCALE_DESCRIPTIONS[recipe.depth_scale]}")
    echo(f"run it: stadia predict {shlex.quote(str(out))} INPUT --out DIR")


def activations(
    context: typer.Context,
    checkpoint: CheckpointArgument,
    source: InputArgument,
    overrides: InputSettings = None,
    out: Annotated[Path, option("The new .mp4 file.")] = ...,  # type: ignore[assignment]
    every: EveryOption = 1,
    over_steps: Annotated[
        bool, flag("--over-steps", "The first frame at each checkpoint that training.keep_every kept; also as .png.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Show what the layers of a network respond to. The four most variable channels of each stage."""
    from stadia.data.config import parse_source_options
    from stadia.io.output_files import check_replaceable
    from stadia.predict.inputs import add_training_options, open_inputs
    from stadia.training.loop.checkpoint import Checkpoint
    from stadia.training.prediction.activations import write_activation_video, write_activations_over_steps
    from stadia.training.recipes.base.build_recipe import load_recipe

    if over_steps:
        found = "no effect with --over-steps, which shows the first frame"
        refuse_options(context, ["every"], found=found, expected="a video of frames")
    options = parse_source_options(overrides or [])
    if out.suffix.lower() != ".mp4":
        raise ConfigError(
            "--out", found=f"'{out.name}'", expected="a new .mp4", fix="choose a new name for --out that ends in .mp4"
        )
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
