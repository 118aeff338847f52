"""Name the runs that a wrong path may mean."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

MAX_NAMED_RUNS = 3

RUN_FILES = (
    *("config.json", "run.json", "metrics.csv", "histograms.csv", "findings.jsonl"),
    *("data.csv", "diff.patch", "camera.json", "exposure.json", "heights.json"),
)
"""Files beside `report.html` in the folder of a run; all others are in folders within it."""


def describe_runs(folders: Iterable[Path], *, need_checkpoint: bool = False) -> str:
    """Return the advice to pass one of the runs of the first folder that holds some, the newest ones first.

    Args:
        folders: those that may hold runs, the likeliest first.
        need_checkpoint: only a run with a checkpoint counts.

    Returns:
        "pass a run: A, B, C (N more)"; "" where no folder holds one.

    Examples:
        >>> describe_runs([Path("a-folder-without-runs")])
        ''
    """
    pattern, kind = (
        ("*/checkpoints/*.safetensors", "run with a checkpoint") if need_checkpoint else ("*/run.json", "run")
    )
    for folder in folders:
        runs = sorted({folder / path.relative_to(folder).parts[0] for path in folder.glob(pattern)}, reverse=True)
        if runs:
            more = f" ({len(runs) - MAX_NAMED_RUNS} more)" if len(runs) > MAX_NAMED_RUNS else ""
            return f"pass a {kind}: {', '.join(map(str, runs[:MAX_NAMED_RUNS]))}{more}"
    return ""


def describe_place(folder: Path, *, inside: str) -> str:
    """Return what is in the place of a run's folder: `inside` for a folder, "a file", or "no such folder".

    Examples:
        >>> describe_place(Path("a-folder-that-is-not-there"), inside="no run in it")
        'no such folder'
    """
    if folder.is_dir():
        return inside
    return "a file" if folder.is_file() else "no such folder"
