"""List the runs of a folder from their records, show one, and stop or resume its training. Imports no torch."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from stadia.core.errors import RunError, StadiaError
from stadia.files.locks import LOCK_FILE
from stadia.files.run_facts import RUN_FILE, UNKNOWN_FACTS, RunFacts, read_run_facts
from stadia.report.metric_labels import describe_status, metric_label
from stadia.report.quality_summary import describe_quality, make_tiles
from stadia.report.run_files import RunFiles, Series, is_run_folder, read_run

MAX_SHOWN_POINTS = 300
"""Points of a curve that a page draws; of more, evenly spaced ones."""

MAX_SHOWN_CURVES = 8

STARTED_S = 4.0
"""Time in which a training that cannot be resumed ends: it reads its configuration first."""


@dataclass(frozen=True)
class RunRow:
    """One run of the list.

    name: of its folder.  status, tone: as the report shows them; a killed training is "ended without a record".
    verdict: on its predictions; "" where it has none.
    """

    name: str
    recipe: str
    started: str
    status: str
    tone: str
    verdict: str
    is_training: bool


class RunList:
    """The runs of a folder. A record is read again where it has changed: a thousand runs take a tenth of a second.

    folder: that holds runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records: dict[str, tuple[tuple[int, int], RunFacts]] = {}

    def rows(self) -> list[RunRow]:
        """Return the runs, newest first."""
        facts = {}
        with suppress(OSError):
            for entry in os.scandir(self.folder):
                record = self._read(entry)
                if record is not None:
                    facts[entry.name] = record
        ordered = sorted(facts, key=lambda name: (facts[name].started, name), reverse=True)
        return [self._describe(name, facts[name]) for name in ordered]

    def find(self, name: str) -> Path:
        """Return the folder of a run by its name. Raises RunError for a name that is not in the list."""
        folder = self.folder / name
        if name not in (path.name for path in self.folder.iterdir()) or not is_run_folder(folder):
            raise RunError("run", found="none of this name", expected="one of the list", fix="reload the page")
        return folder

    def _read(self, entry: os.DirEntry[str]) -> RunFacts | None:
        """Return the record of a run; an empty one where it cannot be read, None where the folder is no run."""
        try:
            stat = (Path(entry.path) / RUN_FILE).stat()
        except OSError:
            return None
        key = (stat.st_mtime_ns, stat.st_size)
        known = self._records.get(entry.name)
        if known is not None and known[0] == key:
            return known[1]
        try:
            facts = read_run_facts(Path(entry.path))
        except (StadiaError, OSError):
            facts = UNKNOWN_FACTS
        self._records[entry.name] = (key, facts)
        return facts

    def _describe(self, name: str, facts: RunFacts) -> RunRow:
        status, tone = describe_status(facts.status, facts.predictions)
        is_training = facts.status == "running" and is_locked(self.folder / name)
        if facts.status == "running" and not is_training:
            status, tone = "ended without a record", "warn"
        verdict = facts.predictions or ""
        return RunRow(name, facts.recipe, facts.started, status, tone, verdict, is_training)


def is_locked(run: Path) -> bool:
    """Return whether a process trains in a run's folder. A killed one holds no lock."""
    path = run / LOCK_FILE
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


# -- one run


def describe_run(folder: Path) -> dict[str, Any]:
    """Return what the page of a run shows, as JSON: quality, key numbers, curves, findings, images."""
    run = read_run(folder)
    status, tone = describe_status(run.facts.status)
    if run.facts.status == "running" and not is_locked(folder):
        status, tone = "ended without a record", "warn"
    return {
        "name": folder.name,
        "recipe": run.recipe,
        "status": status,
        "tone": tone,
        "is_training": is_locked(folder),
        "error": run.facts.error or "",
        "steps": run.steps,
        "started": run.facts.started,
        "quality": [[sentence.text, sentence.tone] for sentence in describe_quality(run)],
        "tiles": [[tile.label, tile.value, tile.note] for tile in make_tiles(run)],
        "curves": make_curves(run),
        "findings": [_describe_finding(finding) for finding in run.findings if finding.get("severity") != "note"],
        "images": [[step, path.name] for step, path in run.images[-3:]],
        "unreadable": run.unreadable,
        "resume": f"stadia train --resume {folder}",
    }


def _describe_finding(finding: dict[str, Any]) -> dict[str, str]:
    return {name: str(finding.get(name, "")) for name in ("code", "title", "severity", "measured", "expected", "fix")}


def make_curves(run: RunFiles) -> list[dict[str, Any]]:
    """Return the curves of a run that a page draws: validation first, then the loss."""
    shown = [series for series in run.series if series.name.startswith("val/")]
    shown += [series for series in run.series if series.name in ("train/loss", "train/lr")]
    return [_thin_curve(series) for series in shown[:MAX_SHOWN_CURVES]]


def _thin_curve(series: Series) -> dict[str, Any]:
    """Return at most MAX_SHOWN_POINTS finite points of a curve."""
    known = [(step, value) for step, value in zip(series.steps, series.values, strict=True) if math.isfinite(value)]
    every = max(-(-len(known) // MAX_SHOWN_POINTS), 1)
    thinned = known[::every] + (known[-1:] if known and (len(known) - 1) % every else [])
    label = metric_label(series.name)
    return {
        "name": series.name,
        "label": label.label,
        "better": label.better,
        "steps": [step for step, _ in thinned],
        "values": [value for _, value in thinned],
    }


# -- stop and resume


def stop_training(run: Path) -> None:
    """Interrupt the training of a run, as Ctrl-C does: it writes a checkpoint and ends.

    Raises RunError where no process of this user trains there.
    """
    lock = (run / LOCK_FILE).resolve()
    for process in psutil.process_iter(["pid"]):
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(Path(file.path) == lock for file in process.open_files()):
                process.send_signal(signal.SIGTERM)
                return
    raise RunError(run.name, found="no process that trains it", expected="a training", fix="reload the page")


def resume_training(run: Path) -> None:
    """Start a process that resumes a training; it goes on when the server ends.

    Raises RunError with its last line where it ends at once.
    """
    if is_locked(run):
        raise RunError(run.name, found="a process that trains it", expected="none", fix="stop it first")
    command = [sys.executable, "-P", "-m", "stadia", "train", "--resume", str(run.absolute())]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        )
        deadline = time.monotonic() + STARTED_S
        while process.poll() is None and time.monotonic() < deadline and not is_locked(run):
            time.sleep(0.1)
        if process.poll() not in (None, 0):
            errors.seek(0)
            lines = errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines() or ["no message"]
            fix = f"run it in a terminal: stadia train --resume {run.name}"
            raise RunError(run.name, found=lines[-1].removeprefix("stadia: "), expected="a training", fix=fix)
