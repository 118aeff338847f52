"""`stadia report`, `journal` and `compare`: read finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# -- `stadia report RUN`: write one file with everything about a run.


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, runs/<date>-<name>.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="The output file; RUN/report.html by default.", show_default=False)
    ] = None,
) -> None:
    """Write a run's report.html: curves, images, scores, findings, and what changed against the run before."""
    from stadia.report import build_report

    typer.echo(f"report: {build_report(run, out)}")


# -- `stadia journal [RUNS...]` and `stadia compare A B`: list what changed between runs, and their results.


def journal(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of runs, or ones that hold runs; `runs` by default.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file instead.", show_default=False)] = None,
) -> None:
    """Print the journal of runs: changes against the run before, events and findings."""
    from stadia.core.files import write_text
    from stadia.report import run_journal as diary

    text = diary.write_journal(diary.find_runs(runs or [Path("runs")]))
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"journal: {out}")


def compare(
    first: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another run's folder.", show_default=False)],
    image: Annotated[
        Path | None, typer.Option("--image", help="Draw their curves: a .svg or .png.", show_default=False)
    ] = None,
) -> None:
    """Compare two runs: their differences, then their scores."""
    from stadia.core.errors import DataError
    from stadia.report import run_journal as diary
    from stadia.report.run_files import read_run

    a, b = read_run(first), read_run(second)
    typer.echo(diary.write_comparison(a, b), nl=False)
    if image is None:
        return
    if image.suffix not in (".svg", ".png"):
        raise DataError(image, found=f"an image '{image.suffix}'", expected=".svg or .png", fix="name it so")
    if diary.draw_comparison(a, b, image):
        typer.echo(f"image: {image}")
    else:
        typer.echo("image: none, they share no curve")
