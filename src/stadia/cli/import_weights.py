"""`stadia import`: read published weights of another program."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import argument, option
from stadia.cli.output import echo


def import_network(
    source: Annotated[Path, argument("A folder of Monodepth2, or a file of DPT or MiDaS.")],
    overrides: Annotated[list[str] | None, argument("Keys of the network.", metavar="KEY=VALUE")] = None,
    kind: Annotated[str, typer.Option("--as", help="What wrote it: monodepth2, dpt or midas.")] = "monodepth2",
    out: Annotated[Path, option("A new .safetensors file.")] = ...,  # type: ignore[assignment]
) -> None:
    """Read published weights of another program."""
    from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS
    from stadia.models.published_networks import describe_licence
    from stadia.recipes.base.network_checkpoint import import_network

    recipe = import_network(source, kind, out, overrides or ())
    millions = sum(parameter.numel() for parameter in recipe.parameters()) / 1e6
    echo(f"{out}: {millions:.1f} M parameters, {recipe.width}x{recipe.height}")
    if line := describe_licence(recipe.model.licence):
        echo(line)
    echo(f"depth scale: {SCALE_DESCRIPTIONS[recipe.depth_scale]}")
    echo(f"run it: stadia predict {shlex.quote(str(out))} INPUT --out DIR")
