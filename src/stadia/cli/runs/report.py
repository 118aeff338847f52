"""`stadia report`: write the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stadia.cli.arguments import ForceOption, RunArgument, flag, option
from stadia.cli.output import echo


def report(
    run: RunArgument,
    out: Annotated[Path | None, option("The output file; RUN/report.html by default.")] = None,
    private: Annotated[
        bool, flag("--private", "Also show the command line, paths, and uncommitted changes of the code.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Write the page of a run: curves, images, scores, findings."""
    from stadia.files.output_files import check_replaceable
    from stadia.report import build_report

    if run.is_dir():  # else the error is that of the run
        out = check_replaceable(out or run / "report.html", "report", inputs=[run], force=force)
    path = build_report(run, out, private=private, warn=lambda line: echo(f"note: {run}: {line}", err=True))
    echo(f"report: {path}")
