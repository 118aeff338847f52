"""Name the runs that a wrong path may mean, and the files that a run has lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stadia.files.run_facts import RunFacts

MAX_NAMED_RUNS = 3

RUN_FILES = (
    *("config.json", "run.json", "metrics.csv", "histograms.csv", "findings.jsonl"),
    *("data.csv", "diff.patch", "camera.json", "exposure.json", "heights.json"),
)
"""Files beside `report.html` in the folder of a run; all others are in folders within it."""


@dataclass(frozen=True)
class LostFile:
    """A file that the folder of a run had and has no longer.

    name: path within the folder.
    reason: how that is known ("the run is finished").
    effect: what its absence means, for a reader of the report.
    is_needed: whether a resume without it would lose or overwrite something.
    is_empty: whether a file without a byte is in its place.
    """

    name: str
    reason: str
    effect: str = "this report lacks what it held"
    is_needed: bool = True
    is_empty: bool = False

    def __str__(self) -> str:
        return f"{self.name} is {'empty' if self.is_empty else 'not there'}, though {self.reason}"


def list_lost_files(folder: Path, facts: RunFacts, config: Mapping[str, Any]) -> Iterator[LostFile]:
    """Yield the files that the folder of a run has lost.

    facts, config: what run.json and config.json hold; `UNKNOWN_FACTS` and empty where they are absent.
    """
    for name in ("run.json", "config.json"):
        if not (folder / name).is_file():
            yield LostFile(name, "each run has one")
    status, checkpoints = facts.status, folder / "checkpoints"
    is_saved, is_noted = ((checkpoints / f"last.{suffix}").is_file() for suffix in ("safetensors", "json"))
    if not is_saved:
        reason = "last.json is there" if is_noted else ""
        if status == "finished" or (status == "interrupted" and (checkpoints / "best.safetensors").is_file()):
            reason = reason or f"the run is {status}"
        if reason:
            yield LostFile("checkpoints/last.safetensors", reason, "the run cannot be resumed")
    training = config.get("training")
    loggers = training.get("loggers") if isinstance(training, Mapping) else None
    is_logged = not config or (isinstance(loggers, list) and "csv" in loggers)
    metrics = folder / "metrics.csv"
    if is_logged and (is_saved or is_noted) and not (metrics.is_file() and metrics.stat().st_size > 0):
        yield LostFile("metrics.csv", "the run has a checkpoint", is_empty=metrics.is_file())
    if status == "finished" and facts.data and not (folder / "findings.jsonl").is_file():
        yield LostFile("findings.jsonl", "the run is finished", is_needed=False)


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
