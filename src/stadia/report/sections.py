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
from stadia.report.figures import (
    MIN_CURVE_STEPS,
    PALETTE_SIZE,
    CurvePlot,
    DrawnPath,
    Histogram,
    PathFigure,
    draw_camera_paths,
    make_histogram,
    make_plot,
)
from stadia.report.metric_labels import (
    METRES,
    SCORES,
    EvidenceLayout,
    arrange_evidence,
    describe_depth_scale,
    direction_arrow,
    find_metric_label,
    format_duration,
    format_memory,
    format_metric,
    format_number,
    is_finite,
    metric_label,
)
from stadia.report.report_images import EmbeddedImage, embed_image_file
from stadia.report.run_files import RunFiles, Series, ValueSpread, flatten_mapping, step_from_filename

LOSS, TERMS, RATE, SECONDS = "Loss", "Terms of the loss", "Learning rate", "Seconds a step"
RUN_NUMBERS = ("wall_s", "peak_rss_mb")  # key numbers that are no scores
MEDIAN_SIZE = "Median size"
TRUE_SIZE = "1 is true size"
BASELINE = "_mean_baseline"  # suffix in result.json of the score of a map of mean depths
GRADIENT_GROUPS = {"translation": "motion", "rotation": "motion", "gain": "brightness", "offset": "brightness"}
MISSED_SCORES = {"rotation_error_deg": 180.0}  # of a missed object, as in `rotation_error_deg_of_all`
MOTION_NAMES = {
    "aligned": ("image alignment", "each image is aligned with the next one, with the predicted depth"),
    "network": ("pose network", "the pose network predicts the motion"),
}
"""Name and description of how a path was estimated, by the key `motion` of its score file."""
MAX_SHEETS, MAX_WORST, MAX_NAMES = 9, 5, 3
MAX_TILES, MAX_TILES_PER_FILE = 8, 2  # where there are score files and no result.json


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

    about: protocol, depth_scale, alignment and number of images that all files share.
    head: (name, text below it) of each column: a file with its own protocol etc.; or a score, where files are rows.
    rows: (name, text beside it, cells).  notes: of the files; notes that differ by their numbers alone are one.
    """

    about: str
    notes: list[str]
    head: list[tuple[str, str]]
    rows: list[tuple[str, str, list[str]]]
    files_down: bool


@dataclass(frozen=True)
class ImageScores:
    """The distribution of one score over the images or objects of a score file. A missed object has the worst score.

    counted: "285 images", "69 objects, 52 of them missed".  worst: (name, value, share of the worst value).
    """

    score_file: str
    label: str
    counted: str
    median: str
    spread: Histogram
    worst: list[tuple[str, str, float]]


@dataclass(frozen=True)
class ReportFinding:
    """A finding with every part as text, "" where absent. sentences: (measured, expected, cause or fix; text)."""

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
        files = ((stem, score) for stem, score in run.scores.items() if not score.get("baseline"))
        return [tile for stem, score in files for tile in _make_score_tiles(stem, score)][:MAX_TILES]
    tiles = []
    for key, value in result.items():
        name = key.rsplit(".", 1)[-1]
        if (metric_label(name).key or name in RUN_NUMBERS) and is_finite(value):
            tiles.append(_make_tile(key, value, result))
    if result.get("depth_scale") not in (None, METRES):  # a scale that is not predicted is neither right nor wrong
        tiles = [replace(tile, note="unknown by nature", tone="") if tile.note == TRUE_SIZE else tile for tile in tiles]
    return tiles


def _make_score_tiles(stem: str, score: dict[str, Any]) -> list[KeyTile]:
    found = [(metric_label(name), format_metric(name, value)) for name, value in _collect_metrics(score).items()]
    keys = [(shown.label, value) for shown, value in found if shown.key][:MAX_TILES_PER_FILE]
    return [KeyTile(f"{stem} · {label}", value, _describe_alignment(score)) for label, value in keys]


def _describe_alignment(score: dict[str, Any]) -> str:
    """Describe the alignment to ground truth before scoring; "" for none."""
    aligned = score.get("alignment", score.get("align"))
    return f"after a fit to the truth ({aligned})" if aligned not in (None, "none") else ""


def _make_tile(key: str, value: float, result: dict[str, Any]) -> KeyTile:
    group, _, name = key.rpartition(".")
    if name == "wall_s":
        return KeyTile("Time", format_duration(value), "with all that came before and after the training")
    if name == "peak_rss_mb":
        return KeyTile("Memory", format_memory(value), "at its peak, all processes")
    shown, text = metric_label(name), format_metric(name, value)
    label = f"{group.replace('_', ' ').capitalize()} · {shown.label}" if group else shown.label
    baseline, path_m = result.get(key + BASELINE), result.get(f"{group}.path_m")
    if isinstance(baseline, int | float) and baseline > 0:
        better = 1 - value / baseline
        direction = "below" if better > 0 else "above"
        note = f"{abs(better):.0%} {direction} the mean map's {format_metric(name, baseline)}"
        return KeyTile(label, text, note, "good" if (better > 0) == (shown.better == "lower") else "warn")
    if name in ("ate_m", "ate_rmse_m") and isinstance(path_m, int | float) and path_m > 0:
        of = f"{value / path_m:.1%} of a path of {format_number(path_m, 'm')}"
        recording, count = result.get(f"{group}.recording"), result.get(f"{group}.recordings")
        which = f"worst of {count} sequences" if isinstance(count, int) and count > 1 else ""
        named = f"{which or 'of'} {recording}: " if recording else f"{which}: " if which else ""
        return KeyTile(label, text, named + of)
    if shown.better == "one" and value > 0:
        return KeyTile(label, text, TRUE_SIZE, "good" if abs(math.log(value)) <= 0.05 else "warn")
    return KeyTile(label, text)


def list_stages(run: RunFiles) -> list[tuple[int, str]]:
    """Return (first step, size) of each stage of a training with growing images."""
    stages = [one for one in _as_list(run.run.get("stages")) if isinstance(one, dict)]
    starts = [one for one in stages if isinstance(one.get("first_step"), int)]
    return [(one["first_step"], f"{one.get('width')}x{one.get('height')}") for one in starts]


def make_curves(series: list[Series], marks: Sequence[tuple[int, str]] = ()) -> list[CurvePlot]:
    """Make panels: loss (training and validation), its terms, validation scores, other values, learning rate, time."""
    groups = _group_by_panel(series)
    plots = []
    for title in sorted(groups, key=lambda title: {LOSS: 0, TERMS: 1, RATE: 3, SECONDS: 4}.get(title, 2)):
        if not _is_short(groups[title]):
            better = metric_label(groups[title][0].name).better
            plots.append(make_plot(title, groups[title], better=better, noisy=title != RATE, marks=marks))
    return [plot for plot in plots if plot is not None]


def list_short_series(series: list[Series], spreads: Sequence[ValueSpread] = ()) -> list[tuple[str, str, str]]:
    """Return (panel, name, values with their steps) of series with too few steps for a curve."""
    panels = (group for group in _group_by_panel(series).items() if _is_short(group[1]))
    rows = [
        (title, s.name, s.steps, [format_metric(s.name, value) for value in s.values])
        for title, group in panels
        for s in group
        if all(map(is_finite, s.values))
    ]
    rows += [
        (MEDIAN_SIZE, s.name, s.steps, [_format_size(*row) for row in zip(s.percentiles, s.zero, strict=True)])
        for s in spreads
        if len(s.steps) < MIN_CURVE_STEPS
    ]
    return [
        (title, name, ", ".join(f"{value} at step {step}" for value, step in zip(values, steps, strict=True)))
        for title, name, steps, values in rows
    ]


def _format_size(percentiles: tuple[float, ...], zero: float) -> str:
    return format_number(percentiles[2]) + (f" ({zero:.0%} exactly 0)" if zero else "")


def _is_short(group: list[Series]) -> bool:
    return all(len(s.steps) < MIN_CURVE_STEPS for s in group)


def _group_by_panel(series: list[Series]) -> dict[str, list[Series]]:
    groups: dict[str, list[Series]] = {}
    for s in series:
        groups.setdefault(_name_panel(s.name), []).append(s)
    return groups


def _name_panel(name: str) -> str:
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
    if shown := find_metric_label(name):
        return shown.label
    group, *rest = name.split("/")
    quantity = rest[0] if len(rest) > 1 else leaf  # "train/gain/-1" and "train/gain/+1" are curves of one panel
    if group == "gradient":
        quantity = "gradient of the loss by " + GRADIENT_GROUPS.get(quantity, quantity)
    title = quantity.replace("_", " ")
    return title[:1].upper() + title[1:]


def _collect_metrics(score: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a score file, also those beside its `metrics` (scale ratio, path length)."""
    inner = score.get("metrics")
    beside = {name: value for name, value in score.items() if name in SCORES}
    return (flatten_mapping(inner) if isinstance(inner, dict) else {}) | beside


def make_score_tables(scores: dict[str, dict[str, Any]]) -> list[ScoreTable]:
    """Group score files that share a metric into tables, one column a file."""
    kinds: list[dict[str, dict[str, Any]]] = []
    for name, score in scores.items():
        metrics = _collect_metrics(score).keys()
        for kind in kinds:
            if any(metrics & _collect_metrics(other).keys() for other in kind.values()):
                kind[name] = score
                break
        else:
            kinds.append({name: score})
    return [_make_score_table(kind) for kind in kinds if any(map(_collect_metrics, kind.values()))]


def _make_score_table(kind: dict[str, dict[str, Any]]) -> ScoreTable:
    about = [_describe_score_file(score) for score in kind.values()]
    shared = [part for part in about[0] if all(part in parts for parts in about)]
    scale_known = all(score.get("depth_scale", METRES) == METRES for score in kind.values())
    own = (", ".join(part for part in parts if part not in shared) for parts in about)
    files = list(zip(kind, own, strict=True))
    names, metrics = _list_shown_metrics(kind), [_collect_metrics(score) for score in kind.values()]
    labels = [(metric_label(name).label, direction_arrow(name, scale_known=scale_known)) for name in names]
    cells = [[format_metric(name, score[name]) if name in score else "" for score in metrics] for name in names]
    notes = _merge_similar_notes([str(note) for score in kind.values() for note in _as_list(score.get("notes"))])
    baselines = {name: score["baseline"] for name, score in kind.items() if score.get("baseline")}
    notes += [f"{name}: {baseline}; a trained network has to be better." for name, baseline in baselines.items()]
    if len(files) > len(labels):
        rows = [(*file, [row[k] for row in cells]) for k, file in enumerate(files)]
        return ScoreTable(", ".join(shared), notes, labels, rows, files_down=True)
    rows = [(*label, row) for label, row in zip(labels, cells, strict=True)]
    return ScoreTable(", ".join(shared), notes, files, rows, files_down=False)


def _list_shown_metrics(kind: dict[str, dict[str, Any]]) -> list[str]:
    """Return the metrics of all files, without those that no file could compute where notes explain that."""
    metrics = [_collect_metrics(score) for score in kind.values()]
    names = list(dict.fromkeys(name for score in metrics for name in score))
    computed = [name for name in names if any(score.get(name) is not None for score in metrics)]
    return computed if computed and any(score.get("notes") for score in kind.values()) else names


def _merge_similar_notes(notes: list[str]) -> list[str]:
    """Keep one of the notes that differ in their numbers only."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(re.sub(r"[0-9.]+", "#", note), []).append(note)
    more = (f" (and likewise in {len(same) - 1} more)" if len(set(same)) > 1 else "" for same in alike.values())
    return [same[0] + text for same, text in zip(alike.values(), more, strict=True)]


def _describe_score_file(score: dict[str, Any]) -> list[str]:
    """Describe a score file's protocol, depth scale, alignment and number of images or poses."""
    depth_scale, aligned = score.get("depth_scale"), score.get("alignment", score.get("align"))
    parts = [f"protocol {score['protocol']}"] if score.get("protocol") else []
    parts += [describe_depth_scale(depth_scale)[0].lower()] if depth_scale else []
    parts += ["not aligned" if aligned == "none" else f"aligned by {aligned}"] if aligned else []
    counts = (unit for unit in ("images", "pictures", "poses") if score.get(unit) is not None)
    return parts + [f"{format_number(score[unit])} {unit}" for unit in counts]


def make_image_scores(scores: dict[str, dict[str, Any]]) -> list[ImageScores]:
    """Return how the first score is distributed over images or objects of each score file, and the worst ones."""
    found = []
    for stem, score in scores.items():
        kind = "object" if "per_object" in score else "image"
        entries = [e for e in _as_list(score.get(f"per_{kind}")) if isinstance(e, dict) and "name" in e]
        entries = list(map(_score_missed_object, entries))
        metric = next((m for m in _collect_metrics(score) if any(m in e for e in entries)), None)
        entries = [e for e in entries if metric and is_finite(e.get(metric))]
        if metric is None or not entries:
            continue
        shown, missed = metric_label(metric), sum(e.get("missed") is True for e in entries)
        values = [(str(e["name"]), float(e[metric])) for e in entries]
        values.sort(key=lambda pair: pair[1], reverse=shown.better != "higher")
        largest = max(abs(value) for _, value in values[:MAX_WORST]) or 1.0
        unit, plural = f", in {shown.unit}" if shown.unit else "", "s" * (len(values) != 1)
        found.append(
            ImageScores(
                score_file=stem,
                label=f"{shown.label.removesuffix(', mean')} of each {kind}{unit}",
                counted=f"{len(values)} {kind}{plural}" + (f", {missed} of them missed" if missed else ""),
                median=format_metric(metric, float(np.median([v for _, v in values]))),
                spread=make_histogram([v for _, v in values]),
                worst=[(name, format_metric(metric, v), abs(v) / largest) for name, v in values[:MAX_WORST]],
            )
        )
    return found


def _score_missed_object(entry: dict[str, Any]) -> dict[str, Any]:
    return {**MISSED_SCORES, **entry, "name": f"{entry['name']}, missed"} if entry.get("missed") is True else entry


def has_depth_scores(run: RunFiles) -> bool:
    """Return whether predicted depth of this run was scored against ground truth."""
    learned = (score for score in run.scores.values() if not score.get("baseline"))
    return any(_collect_metrics(score).keys() & {"abs_rel", "d1", "silog"} for score in learned)


@dataclass(frozen=True)
class RecordingPaths:
    """The paths of one recording, one for each method.

    methods: how the paths of the figure were estimated and aligned, a sentence each.
    """

    recording: str
    figure: PathFigure
    methods: list[str]


def make_path_figures(scores: dict[str, dict[str, Any]]) -> list[RecordingPaths]:
    """Draw the estimated paths of each recording, and the true one. Score files with one true path share a figure.

    A method has the same name and color in each figure.
    """
    recordings: dict[str, dict[str, dict[str, Any]]] = {}
    for name, score in scores.items():
        if score.get("path_estimated_m") is not None:
            true = score.get("path_true_m")
            recordings.setdefault(name if true is None else repr(true), {})[name] = score
    labels = {name: label for files in recordings.values() for name, label in _name_methods(files).items()}
    colors = {label: k % PALETTE_SIZE for k, label in enumerate(dict.fromkeys(labels.values()))}
    found = []
    for files in recordings.values():
        paths = [
            DrawnPath(
                labels[name],
                colors[labels[name]],
                score["path_estimated_m"],
                score.get("height_estimated_m"),
                _format_path_error(score),
            )
            for name, score in files.items()
        ]
        first_name, first = next(iter(files.items()))
        true = DrawnPath("true", 0, first.get("path_true_m"), first.get("height_true_m"))
        if figure := draw_camera_paths(paths, true):
            title = str(first.get("recording") or first_name)
            found.append(RecordingPaths(title, figure, _describe_methods(files)))
    return found


def _name_methods(files: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the name of each file's method; the file's own where the method is unknown, or that of two files."""
    names = {name: MOTION_NAMES.get(str(score.get("motion")), (name, ""))[0] for name, score in files.items()}
    taken = list(names.values())
    return {name: name if taken.count(method) > 1 else method for name, method in names.items()}


def _describe_methods(files: dict[str, dict[str, Any]]) -> list[str]:
    """Describe how the paths of a figure were estimated and aligned, each method once."""
    known = [MOTION_NAMES[str(one.get("motion"))] for one in files.values() if str(one.get("motion")) in MOTION_NAMES]
    methods = [f"{name[:1].upper()}{name[1:]}: {meaning}." for name, meaning in known]
    aligned = (f"Drawn {text}." for one in files.values() if (text := _describe_alignment(one)))
    return list(dict.fromkeys([*methods, *aligned]))


def _format_path_error(score: dict[str, Any]) -> str:
    error = _collect_metrics(score).get("ate_rmse_m")
    return f"ATE {format_metric('ate_rmse_m', error)}" if is_finite(error) else ""


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
    image = _embed_evidence_image(arranged.image, run)
    return ReportFinding(code, severity, stage, _format_where(finding), sentences, arranged, image)


def _format_where(finding: dict[str, Any]) -> str:
    """Format the first recordings of a finding, and the number of the others."""
    names = list(map(str, _as_list(finding.get("where"))))
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _embed_evidence_image(name: str, run: RunFiles) -> EmbeddedImage | None:
    """Embed the image of a finding; an invalid one gets a line in `unreadable`."""
    if not name:
        return None
    try:
        return embed_image_file(safe_join(run.folder, name), name, run)
    except (DataError, OSError, ValueError) as error:
        run.unreadable.append(f"{name}: {error.found if isinstance(error, DataError) else error}")
        return None


def embed_image_sheets(run: RunFiles) -> list[tuple[int, EmbeddedImage]]:
    """Embed at most `MAX_SHEETS` image sheets with their steps, evenly over the run, including first and last."""
    count = len(run.images)
    chosen = sorted({round(i * (count - 1) / (MAX_SHEETS - 1)) for i in range(MAX_SHEETS)}) if count else []
    found = ((run.images[i][0], _embed_run_image(run.images[i][1], run)) for i in chosen)
    return [(step, image) for step, image in found if image is not None]


def embed_validation_images(run: RunFiles) -> list[tuple[str, int, EmbeddedImage]]:
    """Return (name, step, image): the last of each kind of validation image."""
    last = {path.parent.name: path for path in sorted(run.image_folder.glob("*/step-*.png"))}
    found = ((name, step_from_filename(path), _embed_run_image(path, run)) for name, path in last.items())
    return [(name, step, image) for name, step, image in found if image is not None]


def _embed_run_image(path: Path, run: RunFiles) -> EmbeddedImage | None:
    return embed_image_file(path, path.relative_to(run.folder).as_posix(), run)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
