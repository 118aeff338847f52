"""`stadia journal`: what changed from run to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stadia.cli.arguments import ForceOption, argument, option
from stadia.cli.output import echo


def journal(
    runs: Annotated[list[Path] | None, argument("Folders of runs, or ones that hold runs; `runs` by default.")] = None,
    out: Annotated[Path | None, option("Write to this file instead.")] = None,
    force: ForceOption = False,
) -> None:
    """Print what changed from run to run."""
    from stadia.files.atomic_files import write_text
    from stadia.files.output_files import check_replaceable
    from stadia.report.run_journal import find_runs, write_journal

    found = find_runs(runs or [Path("runs")])
    if out is not None:
        out = check_replaceable(out, "journal", inputs=[run.folder for run in found], force=force)
    text = write_journal(found)
    if out is None:
        echo(text, nl=False)
    else:
        write_text(out, text)
        echo(f"journal: {out}")
