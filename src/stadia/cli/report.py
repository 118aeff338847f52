"""`stadia report`, `journal` and `compare`: read finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import argument, option


def report(
    run: Annotated[Path, argument("A run's folder, runs/<date>-<name>.")],
    out: Annotated[Path | None, option("--out", "The output file; RUN/report.html by default.")] = None,
) -> None:
    """Write a run's report.html: curves, images, scores, findings, and what changed against the run before."""
    from stadia.report import build_report

    typer.echo(f"report: {build_report(run, out)}")


def journal(
    runs: Annotated[list[Path] | None, argument("Folders of runs, or ones that hold runs; `runs` by default.")] = None,
    out: Annotated[Path | None, option("--out", "Write to this file instead.")] = None,
) -> None:
    """Print the journal of runs: changes against the run before, events and findings."""
    from stadia.core.files import write_text
    from stadia.report.run_journal import find_runs, write_journal

    text = write_journal(find_runs(runs or [Path("runs")]))
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"journal: {out}")


def compare(
    first: Annotated[Path, argument("A run's folder.")],
    second: Annotated[Path, argument("Another run's folder.")],
    image: Annotated[Path | None, option("--image", "Draw their curves: a .svg or .png.")] = None,
) -> None:
    """Compare two runs: their differences, then their scores."""
    from stadia.core.errors import DataError
    from stadia.report.run_files import read_run
    from stadia.report.run_journal import draw_comparison, write_comparison

    a, b = read_run(first), read_run(second)
    typer.echo(write_comparison(a, b), nl=False)
    if image is None:
        return
    if image.suffix not in (".svg", ".png"):
        raise DataError(image, found=f"an image '{image.suffix}'", expected=".svg or .png", fix="name it so")
    if draw_comparison(a, b, image):
        typer.echo(f"image: {image}")
    else:
        typer.echo("image: none, they share no curve")
