"""`stadia predict`: predict depth and motion, or objects, of an image, a folder, a video or a dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import EveryOption, InputArgument, InputSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def predict(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, a run's folder, or a model.onnx.", show_default=False)
    ],
    source: InputArgument,
    overrides: InputSettings = None,
    out: Annotated[Path, typer.Option("--out", help="A new folder for the predictions.", show_default=False)] = ...,  # type: ignore[assignment]
    every: EveryOption = 1,
    motion: Annotated[
        str | None,
        typer.Option(
            "--motion",
            help="How to estimate the path: aligned (direct alignment, default) or network.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Run CHECKPOINT at another size than in training, such as 1216x352.", show_default=False
        ),
    ] = None,
    video: Annotated[bool, typer.Option("--video/--no-video", help="Write the side-by-side video.")] = True,
    cloud: Annotated[
        bool | None,
        typer.Option("--cloud/--no-cloud", help="Write the point cloud (default: yes).", show_default=False),
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(
            "--background", help="Of overlay: INPUT without what was pasted, an image or a folder.", show_default=False
        ),
    ] = None,
) -> None:
    """Predict depth and camera motion, objects, or composite depth and mask, depending on the recipe of CHECKPOINT.

    objectpose: boxes, masks and poses of objects, as drawings, json and csv.
    overlay: depth and foreground mask of an image with its --background.
    Other recipes: depth as npz and 16-bit png, a side-by-side video, a point cloud, the path and its plot.
    """
    from stadia.recipes.source_config import source_options

    options = source_options(overrides or [])

    if checkpoint.suffix.lower() == ".onnx":
        _refuse_idle({"--motion": motion is not None, "--cloud": cloud is True, "--background": background is not None})
        _predict_exported(checkpoint, source, options, out, every=every, size=size, video=video)
        return

    from stadia.cli.watch import on_stderr
    from stadia.core.errors import ConfigError
    from stadia.recipes.asked import PredictionAsked
    from stadia.recipes.workflow import load_task

    task = load_task(checkpoint)
    if background is not None and task.recipe != "overlay":
        raise ConfigError(
            "--background", found=f"given for '{task.recipe}'", expected="it for overlay alone", fix="leave it out"
        )
    request = PredictionAsked(
        checkpoint, source, options, out, every, motion or "aligned", size, video, cloud is not False, background
    )
    with on_stderr() as bars:
        _print_lines(task.predict(request, bars.watch))


def _refuse_idle(given: Mapping[str, bool]) -> None:
    """Raise ConfigError for options that an exported network does not use, since it predicts only depth."""
    from stadia.core.errors import ConfigError

    if idle := [option for option, was_given in given.items() if was_given]:
        raise ConfigError(
            " and ".join(idle),
            found="given with an exported network",
            expected="a checkpoint: an exported network knows depth alone",
            fix="leave it out, or predict by the checkpoint",
        )


def _print_lines(lines: Iterable[str]) -> None:
    """Print results on stdout, notes on stderr."""
    for line in lines:
        typer.echo(line, err=line.startswith("note: "))


def _predict_exported(
    model: Path, source: Path, options: Mapping[str, Any], out: Path, *, every: int, size: str | None, video: bool
) -> None:
    """Predict by an exported network. It needs no torch."""
    from stadia.cli.watch import on_stderr
    from stadia.evaluation.exported import ExportedNetwork
    from stadia.recipes.exported import predict_exported
    from stadia.recipes.inputs import is_own, open_input, write_inputs
    from stadia.recipes.network_size import note_of_size, other_size, read_size

    network = ExportedNetwork(model, None if size is None else read_size(size))
    trained = {"data": network.about.model_dump(include={"height", "width"})}
    request = other_size(size, trained)
    for note in note_of_size(request, trained):
        typer.echo(f"note: {note}", err=True)
    every_frame = (
        {"stride": 1} if is_own(source, options.get("format", "auto")) else {}
    )  # no frame selection without a path
    inputs = open_input(source, every=every, **(every_frame | dict(options)))
    several_frames = any(given.count != 1 for given in inputs)
    typer.echo(f"note: an exported network knows depth alone: {'no path, ' * several_frames}no point cloud", err=True)
    with on_stderr() as bars:
        predict_to = partial(
            predict_exported, network, provenance=network.provenance(request), video=video, watch=bars.watch
        )
        _print_lines(write_inputs(inputs, out, predict_to, network.claim))
