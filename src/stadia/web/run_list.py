"""List the training runs in a folder, and describe one or two of them for a page. Does not import PyTorch."""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stadia.core.errors import RunError, StadiaError
from stadia.io.run_facts import RUN_FILE, UNKNOWN_FACTS, RunFacts, read_run_facts
from stadia.report.charts import Chart, make_plot
from stadia.report.quality_summary import RunVerdict, describe_quality, make_tiles, make_verdict
from stadia.report.run_comparison import diff_runs, list_cautions, pair_series, write_comparison
from stadia.report.run_files import (
    RunFiles,
    Series,
    describe_status,
    direction_arrow,
    format_metric,
    is_run_folder,
    label_panel,
    metric_label,
    read_run,
)
from stadia.web.forms import drop_commands
from stadia.web.trainings import is_locked

OTHER_DATA = "Their data or recipes differ, so their scores are not comparable."

MAX_SHOWN_CURVES = 8


@dataclass(frozen=True)
class RunRow:
    """One training run in the list.

    name: name of its folder.
    recipe: kind of training.
    started: when it started.
    status: state of the training, in words.
    tone: how the page shows the state: "good", "warn" or "stop".
    verdict: on its predictions; "" if they were not judged.
    is_training: whether a process trains there now.
    image: name of its last sheet of images; "" without one.
    """

    name: str
    recipe: str
    started: str
    status: str
    tone: str
    verdict: str
    is_training: bool
    image: str


def find_last_image(folder: Path) -> str:
    """Return the name of the last sheet of images in a run's folder; "" without one."""
    return max((path.name for path in folder.glob("images/*.png")), default="")


class RunList:
    """The training runs in a folder; the record of a run is read again only after it changed.

    folder: the folder.
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
        """Return the folder of a run by its name.

        Raises RunError for a name that is not in the list.
        """
        folder = self.folder / name
        if name not in (path.name for path in self.folder.iterdir()) or not is_run_folder(folder):
            raise RunError("run", found="unknown name", expected="one of the list", fix="reload the page")
        return folder

    def _read(self, entry: os.DirEntry[str]) -> RunFacts | None:
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
        is_training = facts.status == "running" and is_locked(self.folder / name)
        status, tone = describe_state(facts, is_training=is_training)
        image = find_last_image(self.folder / name)
        return RunRow(name, facts.recipe, facts.started, status, tone, facts.predictions or "", is_training, image)


def describe_state(facts: RunFacts, *, is_training: bool) -> tuple[str, str]:
    """Return the state of a training in words, and its tone on the page.

    facts: the run's record; a killed training still has the status "running" there.
    is_training: whether a process trains there now.
    """
    if facts.status == "running" and not is_training:
        return "ended without a record", "warn"
    return describe_status(facts.status)


# -- one run

ENDED = RunVerdict("not finished", "warn", "It was killed. Resume it, or do not use it.")


def judge_run(run: RunFiles) -> RunVerdict:
    """Return whether the result of a run may be used, with the reason."""
    is_killed = run.facts.status == "running" and not is_locked(run.folder)
    return ENDED if is_killed else make_verdict(run)


def describe_run(folder: Path) -> dict[str, Any]:
    """Return what the page of a run shows, as JSON."""
    run, is_training = read_run(folder), is_locked(folder)
    status, tone = describe_state(run.facts, is_training=is_training)
    return {
        "name": folder.name,
        "recipe": run.recipe,
        "status": status,
        "tone": tone,
        "is_training": is_training,
        "error": run.facts.error or "",
        "steps": run.steps,
        "quality": [[sentence.text, sentence.tone] for sentence in describe_quality(run)],
        "verdict": asdict(judge_run(run)),
        "tiles": [[tile.label, tile.value, tile.note] for tile in make_tiles(run)],
        "charts": draw_curves(run),
        "findings": [_describe_finding(finding) for finding in run.findings if finding.get("severity") != "note"],
        "images": [[step, path.name] for step, path in run.images[-1:]],
    }


def describe_pair(folders: Sequence[Path]) -> dict[str, Any]:
    """Return what the page that compares two runs shows, as JSON."""
    first, second = map(read_run, folders)
    rows, difference = compare_key_scores(first, second), diff_runs(first, second)
    names = [first.folder.name, second.folder.name]
    can_compare = difference.has_same_data and first.recipe == second.recipe
    return {
        "runs": [{"name": run.folder.name, "verdict": asdict(judge_run(run))} for run in (first, second)],
        "better": _describe_better(rows, names) if can_compare else OTHER_DATA,
        "scores": [[f"{metric_label(name).label} {direction_arrow(name)}".strip(), *row] for name, *row in rows],
        "cautions": list_cautions(first, second, difference),
        "text": write_comparison(first, second),
        "charts": draw_pairs(first, second),
    }


def compare_key_scores(first: RunFiles, second: RunFiles) -> list[tuple[str, str, str, int | None]]:
    """Return the key validation scores that two runs share, each at its best step.

    Each row has the score's name, the values of the first and the second run, and which run is better: 0, 1, or None if
    they are equal.
    """
    rows: list[tuple[str, str, str, int | None]] = []
    for series, other in pair_series(first, second):
        label = metric_label(series.name)
        if not (series.name.startswith("val/") and label.key and label.better in ("lower", "higher")):
            continue
        found = [each.find_best(label.better) for each in (series, other)]
        values = [math.nan if best is None else best[0] for best in found]
        shown = [format_metric(series.name, value) for value in values]
        better = None
        if shown[0] != shown[1] and None not in found:
            better = values.index(max(values) if label.better == "higher" else min(values))
        rows.append((series.name, shown[0], shown[1], better))
    return rows


def _describe_better(rows: Sequence[tuple[str, str, str, int | None]], names: Sequence[str]) -> str:
    wins = [sum(better == run for *_, better in rows) for run in (0, 1)]
    if not rows:
        return "No common key validation score."
    if not any(wins):
        return "Equal key validation scores."
    if all(wins):
        return f"Mixed: {names[0]} wins {wins[0]} key validation scores, {names[1]} wins {wins[1]}."
    winner = 0 if wins[0] else 1
    return f"{names[winner]} is better in {wins[winner]} of {len(rows)} key validation scores, and never worse."


def _describe_finding(finding: dict[str, Any]) -> dict[str, str]:
    shown = {name: str(finding.get(name, "")) for name in ("code", "title", "severity", "measured", "expected")}
    return {**shown, "fix": "".join(drop_commands([str(finding.get("fix", ""))]))}


def draw_curves(run: RunFiles) -> list[str]:
    """Draw the curves of a run as HTML: validation scores first, then the loss."""
    from stadia.report.page_template import render_charts

    charts = (_draw_series([series]) for series in _choose_series(run).values())
    return render_charts([chart for chart in charts if chart is not None])


def draw_pairs(first: RunFiles, second: RunFiles) -> list[str]:
    """Draw the curves that two runs share as HTML, both runs in each chart."""
    from stadia.report.page_template import render_charts

    shown, others = _choose_series(first), _choose_series(second)
    charts = []
    for name in shown.keys() & others.keys():
        named = [replace(shown[name], name=first.folder.name), replace(others[name], name=second.folder.name)]
        charts.append((list(shown).index(name), _draw_series(named, name)))
    return render_charts([chart for _, chart in sorted(charts, key=lambda pair: pair[0]) if chart is not None])


def _choose_series(run: RunFiles) -> dict[str, Series]:
    drawn = [series for series in run.series if len(series.steps) > 1]  # a single value is a key number
    shown = [series for series in drawn if series.name.startswith("val/")]
    shown += [series for series in drawn if series.name in ("train/loss", "train/lr")]
    return {series.name: series for series in shown[-MAX_SHOWN_CURVES:]}


def _draw_series(series: Sequence[Series], name: str = "") -> Chart | None:
    label = metric_label(name or series[0].name)
    return make_plot(label_panel(name or series[0].name).title, series, better=label.better)
