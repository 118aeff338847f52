"""`stadia report RUN`: write one file with everything about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, runs/<date>-<name>.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="The output file; RUN/report.html by default.", show_default=False)
    ] = None,
) -> None:
    """Write a run's report.html: curves, images, scores, findings, and what changed against the run before."""
    from stadia.report import build

    typer.echo(f"report: {build(run, out)}")
