"""Write score files, and print scores as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.cli.output import echo
from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def check_score_file(path: Path | None, inputs: Iterable[Path | None], *, force: bool) -> Path | None:
    """Return the score file to write, or None. Raises StadiaError for a file that is not stadia's."""
    from stadia.files.output_files import check_replaceable

    return None if path is None else check_replaceable(path, "score file", inputs=inputs, force=force)


def write_score_file(path: Path, score: dict[str, Any]) -> None:
    """Write a score file, and print the name of an earlier one that is kept."""
    from stadia.evaluation.recording_scores import write_score

    if kept := write_score(path, score):
        echo(f"note: the earlier scores are kept as {kept}", err=True)


def check_choice(option: str, text: str, choices: Sequence[str]) -> str:
    """Return the choice itself. Raise ConfigError with the nearest one."""
    if text not in choices:
        near = find_nearest_name(text, list(choices))
        fix = f"did you mean '{near}'?" if near else "choose one of them"
        raise ConfigError(option, found=f"'{text}'", expected=f"one of {', '.join(choices)}", fix=fix)
    return text


DETAILS = frozenset(
    ("sq_rel", "rmse_log", "silog", "log10", "mae", "d2", "d3", "scale_ratio_spread", "uncertainty", "by_alignment")
)
"""The table has these scores only with `--verbose`; JSON and score files always have them."""


def print_scores(summary: dict[str, Any], *, as_json: bool, verbose: bool) -> None:
    """Print JSON on stdout and notes on stderr, or a table."""
    if not as_json:
        shown = summary if verbose else _select_main_scores(summary)
        print_score_table(shown)
        if len(shown) < len(summary):
            echo("--verbose shows all scores")
        return
    for note in summary.get("notes", ()):
        echo(f"note: {note}", err=True)
    echo(json.dumps(summary, indent=2, allow_nan=False))


def _select_main_scores(summary: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in summary.items() if name not in DETAILS and value is not None}
    return {name: value for name, value in chosen.items() if not (name.startswith("images_without") and value == 0)}


def print_score_table(summary: dict[str, Any]) -> None:
    """Print scores in rows, notes in lines, and nested scores under their headings."""
    from rich.markup import escape
    from rich.table import Table

    from stadia.process.terminal import Terminal

    console = Terminal()
    table = Table(show_header=False, box=None)
    has_rows = summary.get("images") != 0
    for name, value in summary.items() if has_rows else ():
        if not isinstance(value, dict | list):
            shown = f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
            table.add_row(escape(name), escape(shown))
    if table.row_count:
        console.print(table)
    for note in summary.get("notes", ()):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for heading, values in summary.items():
        if isinstance(values, dict):
            for name, nested in values.items():
                console.print(f"\n{heading}: {name}", markup=False, highlight=False)
                print_score_table(nested)
