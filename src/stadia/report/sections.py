"""Compute the report's sections as plain values: tiles, curves, score tables, images. The template lays them out."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.errors import DataError
from stadia.core.files import safe_join
from stadia.report import metric_labels
from stadia.report.figures import CurvePlot, Histogram, PathFigure, draw_camera_path, make_histogram, make_plot
from stadia.report.metric_labels import EvidenceLayout, arrange_evidence
from stadia.report.outcomes import flatten_mapping
from stadia.report.report_images import EmbeddedImage, embed_image_file
from stadia.report.run_files import RunFiles, Series, step_from_filename

LOSS, TERMS, RATE, SECONDS = "Loss", "Terms of the loss", "Learning rate", "Seconds a step"
RUN_NUMBERS = ("wall_s", "peak_rss_mb")  # key numbers that are no scores
TRUE_SIZE = "1 is true size"
BASELINE = "_mean_baseline"  # result.json: `depth.abs_rel` stands beside `depth.abs_rel_mean_baseline`
OF_ONE_KIND = {"translation": "motion", "rotation": "motion", "gain": "brightness", "offset": "brightness"}
MAX_SHEETS = 9
WORST, MAX_NAMES = 5, 3
OF_MISSED = {"rotation_error_deg": 180.0}  # as the score `rotation_error_deg_of_all` has it
MAX_TILES, TILES_OF_A_FILE = 8, 2  # where the score files alone give them


@dataclass(frozen=True)
class KeyTile:
    """A key number, its reference, and whether it is good: tone good, warn, or none."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """Score files of one kind side by side.

    about: what all files share of protocol, depth scale, alignment and number of images, in words.
    head: of the columns, (name, what is below it): the files, each with what it does not share; or the scores, where
        there are more files.
    rows: (name, what is beside it, cells).  notes: of the files; those that differ by their numbers alone once.
    """

    about: str
    notes: list[str]
    head: list[tuple[str, str]]
    rows: list[tuple[str, str, list[str]]]
    files_down: bool


@dataclass(frozen=True)
class ImageScores:
    """How one score is spread over the images of a score file, or over its objects, and the worst of them (name,
    value, share of the worst). counted: "285 images", "69 objects, 52 of them missed". A missed object is as wrong
    as one can be.
    """

    score_file: str
    label: str
    counted: str
    median: str
    spread: Histogram
    worst: list[tuple[str, str, float]]


@dataclass(frozen=True)
class ReportFinding:
    """A finding with every part as text, "" where absent. sentences: measured, expected, cause and fix, by name."""

    code: str
    severity: str
    stage: str
    where: str
    sentences: list[tuple[str, str]]
    evidence: EvidenceLayout
    image: EmbeddedImage | None


def make_tiles(run: RunFiles) -> list[KeyTile]:
    """Return the key numbers of result.json with their baselines; of the score files where there is no result yet."""
    result = flatten_mapping(run.result)
    if not any(isinstance(v, int | float) for v in result.values()):
        found = []
        for stem, score in run.scores.items():
            if score.get("baseline"):
                continue
            chosen = [
                (name, value) for name, value in _collect_metrics(score).items() if metric_labels.metric_label(name).key
            ]
            for name, value in chosen[:TILES_OF_A_FILE]:
                found.append(
                    KeyTile(
                        f"{stem} · {metric_labels.metric_label(name).label}",
                        metric_labels.format_metric(name, value),
                        _describe_alignment(score),
                    )
                )
        return found[:MAX_TILES]
    shown = []
    for key, value in result.items():
        name = key.rsplit(".", 1)[-1]
        if (metric_labels.metric_label(name).key or name in RUN_NUMBERS) and _is_finite(value):
            shown.append(_make_tile(key, value, result))
    if result.get("depth_scale") not in (
        None,
        metric_labels.METRES,
    ):  # a scale that is not predicted is neither right nor wrong
        shown = [replace(tile, note="unknown by nature", tone="") if tile.note == TRUE_SIZE else tile for tile in shown]
    return shown


def _describe_alignment(score: dict[str, Any]) -> str:
    """Describe the alignment to ground truth before scoring; "" for none."""
    aligned = score.get("alignment", score.get("align"))
    return f"after a fit to the truth ({aligned})" if aligned not in (None, "none") else ""


def _make_tile(key: str, value: float, result: dict[str, Any]) -> KeyTile:
    group, _, name = key.rpartition(".")
    if name == "wall_s":
        return KeyTile("Time", metric_labels.format_duration(value), "with all that came before and after the training")
    if name == "peak_rss_mb":
        return KeyTile("Memory", metric_labels.format_memory(value), "at its peak, all processes")
    shown, text = metric_labels.metric_label(name), metric_labels.format_metric(name, value)
    label = f"{group.replace('_', ' ').capitalize()} · {shown.label}" if group else shown.label
    baseline, path_m = result.get(key + BASELINE), result.get(f"{group}.path_m")
    if isinstance(baseline, int | float) and baseline > 0:
        better = 1 - value / baseline
        note = (
            f"{abs(better):.0%} {'below' if better > 0 else 'above'} the mean map's"
            f" {metric_labels.format_metric(name, baseline)}"
        )
        return KeyTile(label, text, note, "good" if (better > 0) == (shown.better == "lower") else "warn")
    if name in ("ate_m", "ate_rmse_m") and isinstance(path_m, int | float) and path_m > 0:
        return KeyTile(label, text, f"{value / path_m:.1%} of a path of {metric_labels.format_number(path_m, 'm')}")
    if shown.better == "one" and value > 0:
        return KeyTile(label, text, TRUE_SIZE, "good" if abs(math.log(value)) <= 0.05 else "warn")
    return KeyTile(label, text)


def list_stages(run: RunFiles) -> list[tuple[int, str]]:
    """Return (first step, size) of each stage of a training with growing images."""
    found = [
        one
        for one in _as_list(run.run.get("stages"))
        if isinstance(one, dict) and isinstance(one.get("first_step"), int)
    ]
    return [(one["first_step"], f"{one.get('width')}x{one.get('height')}") for one in found]


def make_curves(series: list[Series], marks: Sequence[tuple[int, str]] = ()) -> list[CurvePlot]:
    """Make panels: loss (training and validation), its terms, validation scores, other values, learning rate, time."""
    groups: dict[str, list[Series]] = {}
    for s in series:
        groups.setdefault(_panel_title(s.name), []).append(s)
    panels = sorted(groups, key=lambda title: {LOSS: 0, TERMS: 1, RATE: 3, SECONDS: 4}.get(title, 2))
    drawn = [title for title in panels if any(len(s.steps) > 1 for s in groups[title])]
    betters = {title: metric_labels.metric_label(groups[title][0].name).better for title in drawn}
    plots = [
        make_plot(title, groups[title], better=betters[title], noisy=title != RATE, marks=marks) for title in drawn
    ]
    return [p for p in plots if p is not None]


def list_single_values(series: list[Series]) -> list[tuple[str, str]]:
    """Return (title, value) of each panel that would be a single dot, see `curves`."""
    groups: dict[str, list[Series]] = {}
    for s in series:
        groups.setdefault(_panel_title(s.name), []).append(s)
    once = [
        (title, of_title)
        for title, of_title in groups.items()
        if all(len(s.steps) == 1 and _is_finite(s.values[0]) for s in of_title)
    ]
    return [
        (title, ", ".join(metric_labels.format_metric(s.name, s.values[0]) for s in of_title))
        for title, of_title in once
    ]


def _panel_title(name: str) -> str:
    """Return the title of the panel of a scalar."""
    leaf = name.rsplit("/", 1)[-1]
    if leaf == "loss":
        return LOSS
    if "/term/" in name:
        return TERMS
    if name.startswith("time/"):
        return SECONDS
    if leaf == "lr":
        return RATE
    if shown := metric_labels.find_metric_label(name):
        return shown.label
    group, *rest = name.split("/")
    of = rest[0] if len(rest) > 1 else leaf  # "train/gain/-1" and "train/gain/+1" are curves of one panel
    if group == "gradient":
        of = "gradient of the loss by " + OF_ONE_KIND.get(of, of)
    title = of.replace("_", " ")
    return title[:1].upper() + title[1:]


def _collect_metrics(score: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a score file, also those beside its `metrics` (scale ratio, path length)."""
    inner = score.get("metrics")
    beside = {name: value for name, value in score.items() if name in metric_labels.SCORES}
    return (flatten_mapping(inner) if isinstance(inner, dict) else {}) | beside


def make_score_tables(scores: dict[str, dict[str, Any]]) -> list[ScoreTable]:
    """Group score files that share a metric into tables, one column a file."""
    kinds: list[dict[str, dict[str, Any]]] = []
    for name, score in scores.items():
        home = next(
            (
                kind
                for kind in kinds
                if any(_collect_metrics(score).keys() & _collect_metrics(other).keys() for other in kind.values())
            ),
            None,
        )
        if home is None:
            kinds.append({name: score})
        else:
            home[name] = score
    return [_make_score_table(kind) for kind in kinds if any(map(_collect_metrics, kind.values()))]


def _make_score_table(kind: dict[str, dict[str, Any]]) -> ScoreTable:
    about = [_describe_score_file(score) for score in kind.values()]
    shared = [part for part in about[0] if all(part in parts for parts in about)]
    scale_known = all(score.get("depth_scale", metric_labels.METRES) == metric_labels.METRES for score in kind.values())
    files = [
        (name, ", ".join(part for part in parts if part not in shared)) for name, parts in zip(kind, about, strict=True)
    ]
    names = _list_shown_metrics(kind)
    labels = [
        (metric_labels.metric_label(name).label, metric_labels.direction_arrow(name, scale_known=scale_known))
        for name in names
    ]
    cells = [
        [
            metric_labels.format_metric(name, score[name]) if name in score else ""
            for score in map(_collect_metrics, kind.values())
        ]
        for name in names
    ]
    notes = _merge_similar_notes([str(note) for score in kind.values() for note in _as_list(score.get("notes"))])
    notes += [
        f"{name}: {score['baseline']}; what is learnt has to be better."
        for name, score in kind.items()
        if score.get("baseline")
    ]
    if len(files) > len(labels):
        rows = [(*file, [row[k] for row in cells]) for k, file in enumerate(files)]
        return ScoreTable(", ".join(shared), notes, labels, rows, files_down=True)
    rows = [(*label, row) for label, row in zip(labels, cells, strict=True)]
    return ScoreTable(", ".join(shared), notes, files, rows, files_down=False)


def _list_shown_metrics(kind: dict[str, dict[str, Any]]) -> list[str]:
    """Return the metrics of all files, without those that no file could compute where notes explain that."""
    names = dict.fromkeys(name for score in kind.values() for name in _collect_metrics(score))
    known = [name for name in names if any(_collect_metrics(score).get(name) is not None for score in kind.values())]
    return known if known and any(score.get("notes") for score in kind.values()) else list(names)


def _merge_similar_notes(notes: list[str]) -> list[str]:
    """Keep one of the notes that differ in their numbers only."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(re.sub(r"[0-9.]+", "#", note), []).append(note)
    return [
        same[0] + (f" (and likewise in {len(same) - 1} more)" if len(set(same)) > 1 else "") for same in alike.values()
    ]


def _describe_score_file(score: dict[str, Any]) -> list[str]:
    """Describe a score file's protocol, depth scale, alignment and number of images or poses."""
    depth_scale, aligned = score.get("depth_scale"), score.get("alignment", score.get("align"))
    parts = [f"protocol {score['protocol']}"] if score.get("protocol") else []
    parts += [metric_labels.describe_depth_scale(depth_scale)[0].lower()] if depth_scale else []
    parts += ["not aligned" if aligned == "none" else f"aligned by {aligned}"] if aligned else []
    return parts + [
        f"{metric_labels.format_number(score[what])} {what}"
        for what in ("images", "poses")
        if score.get(what) is not None
    ]


def make_image_scores(scores: dict[str, dict[str, Any]]) -> list[ImageScores]:
    """Return how the first score is distributed over images or objects of each score file, and the worst ones."""
    found = []
    for stem, score in scores.items():
        kind = "object" if "per_object" in score else "image"
        entries = [
            _score_missed_object(e) for e in _as_list(score.get(f"per_{kind}")) if isinstance(e, dict) and "name" in e
        ]
        metric = next((m for m in _collect_metrics(score) if any(m in e for e in entries)), None)
        values = [(str(e["name"]), float(e[metric])) for e in entries if metric and _is_finite(e.get(metric))]
        if metric is None or not values:
            continue
        shown, missed = (
            metric_labels.metric_label(metric),
            sum(e.get("missed") is True for e in entries if _is_finite(e.get(metric))),
        )
        values.sort(key=lambda pair: pair[1], reverse=shown.better != "higher")
        largest = max(abs(value) for _, value in values[:WORST]) or 1.0
        found.append(
            ImageScores(
                score_file=stem,
                label=shown.label.removesuffix(", mean")
                + f" of each {kind}"
                + (f", in {shown.unit}" if shown.unit else ""),
                counted=f"{len(values)} {kind}{'s' * (len(values) != 1)}"
                + (f", {missed} of them missed" if missed else ""),
                median=metric_labels.format_metric(metric, float(np.median([v for _, v in values]))),
                spread=make_histogram([v for _, v in values]),
                worst=[
                    (name, metric_labels.format_metric(metric, value), abs(value) / largest)
                    for name, value in values[:WORST]
                ],
            )
        )
    return found


def _score_missed_object(entry: dict[str, Any]) -> dict[str, Any]:
    return {**OF_MISSED, **entry, "name": f"{entry['name']}, missed"} if entry.get("missed") is True else entry


def make_path_figures(scores: dict[str, dict[str, Any]]) -> list[tuple[str, str, PathFigure]]:
    """Draw estimated and true path of each score file that has both, with its alignment."""
    drawn = (
        (name, _describe_alignment(score), draw_camera_path(score.get("path_estimated_m"), score.get("path_true_m")))
        for name, score in scores.items()
    )
    return [(name, fitted, drawing) for name, fitted, drawing in drawn if drawing is not None]


def list_findings(run: RunFiles) -> list[ReportFinding]:
    """Return the findings in written order: causes before symptoms. Notes about skipped checks are left out."""
    return [_make_finding(one, run) for one in run.findings if not _is_skipped_check(one)]


def list_unchecked(run: RunFiles) -> list[tuple[str, str]]:
    """Return (what was not checked and why, where) of each skipped check."""
    return [(str(one.get("measured") or ""), _format_where(one)) for one in run.findings if _is_skipped_check(one)]


def _is_skipped_check(finding: dict[str, Any]) -> bool:
    """Return whether a finding is a note of family N, which is about a check and not about the data."""
    return str(finding.get("code")).startswith("N") and finding.get("severity") == "note"


def _make_finding(finding: dict[str, Any], run: RunFiles) -> ReportFinding:
    evidence = finding.get("evidence")
    arranged = arrange_evidence(evidence if isinstance(evidence, dict) else {})
    sentences = [(name, str(finding[name])) for name in ("measured", "expected", "cause", "fix") if finding.get(name)]
    code, severity, stage = (str(finding.get(name) or "") for name in ("code", "severity", "stage"))
    return ReportFinding(
        code, severity, stage, _format_where(finding), sentences, arranged, _embed_evidence_image(arranged.image, run)
    )


def _format_where(finding: dict[str, Any]) -> str:
    """Format the first recordings of a finding, and the number of the others."""
    names = list(map(str, _as_list(finding.get("where"))))
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _embed_evidence_image(name: str, run: RunFiles) -> EmbeddedImage | None:
    """Embed the image of a finding; an invalid one gets a line in `unreadable`."""
    if not name:
        return None
    try:
        return embed_image_file(safe_join(run.folder, name), name, run.unreadable)
    except (DataError, OSError, ValueError) as error:
        run.unreadable.append(f"{name}: {error.found if isinstance(error, DataError) else error}")
        return None


def embed_image_sheets(run: RunFiles) -> list[tuple[int, EmbeddedImage]]:
    """Embed at most `MAX_SHEETS` image sheets with their steps, evenly over the run, including first and last."""
    count = len(run.images)
    chosen = sorted({round(i * (count - 1) / (MAX_SHEETS - 1)) for i in range(MAX_SHEETS)}) if count else []
    found = (
        (step, embed_image_file(path, f"images/{path.name}", run.unreadable))
        for step, path in (run.images[i] for i in chosen)
    )
    return [(step, image) for step, image in found if image is not None]


def embed_validation_images(run: RunFiles) -> list[tuple[str, int, EmbeddedImage]]:
    """Return (name, step, image): the last of each kind of validation image."""
    last: dict[str, tuple[int, Path]] = {}
    for path in sorted(run.folder.glob("images/*/step-*.png")):
        last[path.parent.name] = (step_from_filename(path), path)
    found = (
        (name, step, embed_image_file(path, f"images/{name}/{path.name}", run.unreadable))
        for name, (step, path) in last.items()
    )
    return [(name, step, image) for name, step, image in found if image is not None]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
