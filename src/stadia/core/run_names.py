"""Name the runs that a wrong path may mean, and the files that a run has lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_NAMED_RUNS = 3

RUN_FILES = (
    *("config.json", "run.json", "metrics.csv", "histograms.csv", "findings.jsonl"),
    *("data.csv", "diff.patch", "camera.json", "exposure.json", "heights.json"),
)
"""Files beside `report.html` in the folder of a run; all others are in folders within it."""


def list_lost_files(folder: Path, facts: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each file that the folder of a run had and has no longer, and how that is known.

    facts, config: what run.json and config.json hold; empty where they are absent.
    """
    for name in ("run.json", "config.json"):
        if not (folder / name).is_file():
            yield name, "each run has one"
    status, checkpoints = facts.get("status"), folder / "checkpoints"
    is_saved, is_noted = ((checkpoints / f"last.{suffix}").is_file() for suffix in ("safetensors", "json"))
    if not is_saved:
        if is_noted:
            yield "checkpoints/last.safetensors", "last.json is there"
        elif status == "finished" or (status == "interrupted" and (checkpoints / "best.safetensors").is_file()):
            yield "checkpoints/last.safetensors", f"the run is {status}"
    training = config.get("training")
    loggers = training.get("loggers") if isinstance(training, Mapping) else None
    is_logged = isinstance(loggers, list) and "csv" in loggers and (is_saved or is_noted)
    if is_logged and not (folder / "metrics.csv").is_file():
        yield "metrics.csv", "the run has a checkpoint"
    if status == "finished" and facts.get("data") and not (folder / "findings.jsonl").is_file():
        yield "findings.jsonl", "the run is finished"


def describe_runs(folders: Iterable[Path], *, need_checkpoint: bool = False, without: Path | None = None) -> str:
    """Return the advice to pass one of the runs of the first folder that holds some, the newest ones first.

    Args:
        folders: those that may hold runs, the likeliest first.
        need_checkpoint: only a run with a checkpoint counts.
        without: a run that is not named, since it was refused.

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
        found = {folder / path.relative_to(folder).parts[0] for path in folder.glob(pattern)}
        runs = sorted((run for run in found if without is None or run.resolve() != without.resolve()), reverse=True)
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
