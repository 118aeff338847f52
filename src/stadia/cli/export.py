"""`stadia export`: write a network as ONNX or as a torch.export archive."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from stadia.cli.arguments import CheckpointArgument, ForceOption, argument, option
from stadia.cli.output import echo


def export(
    checkpoint: CheckpointArgument,
    overrides: Annotated[list[str] | None, argument("Keys of a published network.", metavar="KEY=VALUE")] = None,
    out: Annotated[Path, option("A new file: model.onnx, or model.pt2.")] = ...,  # type: ignore[assignment]
    force: ForceOption = False,
) -> None:
    """Write a depth network as ONNX or torch.export. The file is compared with the checkpoint."""
    from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS
    from stadia.files.output_files import check_replaceable
    from stadia.predict.export import export_checkpoint
    from stadia.recipes.base.network_checkpoint import describe_network, open_network_checkpoint

    check_replaceable(out, "exported network", inputs=[checkpoint], force=force)
    opened = open_network_checkpoint(checkpoint, settings=overrides or ())
    if line := describe_network(opened):
        echo(line, err=True)
    about, compared = export_checkpoint(opened, out, lambda step: echo(step, err=True), force=force)
    echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, image (B, 3, H, W) to inverse_depth (B, 1, H, W)")
    echo(f"  any B; H and W multiples of {about.stride}, trained at {about.width}x{about.height}")
    for comparison in compared:
        echo(f"  {comparison}")
    if out.suffix == ".onnx":
        echo(f"run it: stadia predict {shlex.quote(str(out))} INPUT --out DIR")
    echo(f"depth scale: {SCALE_DESCRIPTIONS[about.depth_scale]}")
    echo(f"verdict of its run: {about.describe_verdict() or 'not judged'}")
