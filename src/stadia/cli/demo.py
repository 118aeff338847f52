"""`stadia demo`: the main job on the synthetic road world, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder that holds runs; this one gets a folder of its own in it.")] = Path("runs"),
) -> None:
    """Render worlds, train on their stereo video, predict worlds never seen, score them in metres, and write the report."""
    from stadia.recipes import demo as steps

    typer.echo(f"result: {steps.run(out)}")
