"""`stadia export`: export a trained depth network to one file that runs without stadia."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import CheckpointArgument


def export(
    checkpoint: CheckpointArgument,
    out: Annotated[
        Path, typer.Option("--out", help="A new file: model.onnx, or model.pt2 for torch.export.", show_default=False)
    ] = ...,  # type: ignore[assignment]
) -> None:
    """Write a trained depth network as ONNX or torch.export archive, and compare the file with the checkpoint."""
    from stadia.evaluation.predictions import IN_WORDS
    from stadia.recipes.exporting import export as export_checkpoint

    about, compared = export_checkpoint(checkpoint, out, lambda step: typer.echo(step, err=True))
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, image (B, 3, H, W) to inverse_depth (B, 1, H, W)")
    typer.echo(f"  any B; H and W multiples of {about.stride}, trained at {about.width}x{about.height}")
    for comparison in compared:
        typer.echo(f"  {comparison}")
    if out.suffix == ".onnx":
        typer.echo(f"run it: stadia predict {out} INPUT --out DIR")
    typer.echo(f"claim: {IN_WORDS[about.claim]}")
