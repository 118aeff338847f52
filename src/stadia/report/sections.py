"""Compute the report's sections as plain values: tiles, curves, score tables, images. The template lays them out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError
from stadia.files.atomic_files import safe_join
from stadia.report.figures import MIN_CURVE_STEPS, CurvePlot, make_plot
from stadia.report.metric_labels import (
    METRES,
    EvidenceLayout,
    arrange_evidence,
    format_duration,
    format_memory,
    format_metric,
    format_number,
    is_finite,
    metric_label,
)
from stadia.report.panel_labels import LOSS, RATE, SECONDS, TERMS, PanelLabel, label_panel, label_validation_image
from stadia.report.report_images import EmbeddedImage, embed_image_file
from stadia.report.run_files import RunFiles, Series, ValueSpread, flatten_mapping, step_from_filename
from stadia.report.score_tables import (
    MIRRORED,
    as_list,
    collect_metrics,
    describe_alignment,
    describe_path,
    is_baseline,
    is_mirrored,
    leave_out_mirrored,
    measure_path,
)

RUN_NUMBERS = ("wall_s", "peak_rss_mb")  # key numbers that are no scores
MEDIAN_SIZE = "Median size"
TRUE_SIZE = "1 is true size"
BASELINE = "_mean_baseline"  # suffix in result.json of the score of a map of mean depths
MAX_SHEETS, MAX_NAMES = 9, 3
MAX_TILES, MAX_TILES_PER_FILE = 8, 2  # where there are score files and no result.json


@dataclass(frozen=True)
class KeyTile:
    """A key number, its reference, and whether it is good: tone good, warn, or none."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class ReportFinding:
    """A finding with every part as text, "" where absent. sentences: (measured, expected, cause or fix; text).

    title: of older runs "".
    """

    code: str
    title: str
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
        files = [one for one in leave_out_mirrored(run.scores).items() if not is_baseline(one[1])]
        files = _put_longest_path_first(files)
        return [tile for stem, score in files for tile in _make_score_tiles(stem, score)][:MAX_TILES]
    tiles = []
    for key, value in result.items():
        name = key.rsplit(".", 1)[-1]
        if (metric_label(name).key or name in RUN_NUMBERS) and is_finite(value):
            tiles.append(_make_tile(key, value, result))
    if result.get("depth_scale") not in (None, METRES):  # a scale that is not predicted is neither right nor wrong
        tiles = [replace(tile, note="unknown by nature", tone="") if tile.note == TRUE_SIZE else tile for tile in tiles]
    return tiles


def _put_longest_path_first(files: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Sort the scores of paths by length, and leave other scores in their places: a few poses are no headline."""
    lengths = [measure_path(score) for _, score in files]
    longest = iter(sorted((one for one in files if measure_path(one[1])), key=lambda one: -measure_path(one[1])))
    return [next(longest) if length else one for one, length in zip(files, lengths, strict=True)]


def _make_score_tiles(stem: str, score: dict[str, Any]) -> list[KeyTile]:
    found = [(metric_label(name), format_metric(name, value)) for name, value in collect_metrics(score).items()]
    keys = [(shown.label, value) for shown, value in found if shown.key][:MAX_TILES_PER_FILE]
    mirrored = MIRRORED if is_mirrored(score) else ""
    note = ", ".join(filter(None, (describe_path(score), mirrored, describe_alignment(score))))
    return [KeyTile(f"{stem} · {label}", value, note) for label, value in keys]


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
    stages = [one for one in as_list(run.run.get("stages")) if isinstance(one, dict)]
    starts = [one for one in stages if isinstance(one.get("first_step"), int)]
    return [(one["first_step"], f"{one.get('width')}x{one.get('height')}") for one in starts]


def make_curves(series: list[Series], marks: Sequence[tuple[int, str]] = ()) -> list[CurvePlot]:
    """Make panels: loss (training and validation), its terms, validation scores, other values, learning rate, time."""
    groups = _group_by_panel([s for s in series if len(s.steps) >= MIN_CURVE_STEPS])
    plots = []
    for panel in sorted(groups, key=lambda panel: {LOSS: 0, TERMS: 1, RATE: 3, SECONDS: 4}.get(panel.title, 2)):
        better, noisy = metric_label(groups[panel][0].name).better, panel.title != RATE
        plots.append(make_plot(panel.title, groups[panel], better=better, noisy=noisy, marks=marks, note=panel.note))
    return [plot for plot in plots if plot is not None]


def list_short_series(series: list[Series], spreads: Sequence[ValueSpread] = ()) -> list[tuple[str, str, str]]:
    """Return (panel, name, values with their steps) of series with too few steps for a curve."""
    panels = _group_by_panel([s for s in series if len(s.steps) < MIN_CURVE_STEPS and all(map(is_finite, s.values))])
    rows = [
        (panel.title, s.name, s.steps, [format_metric(s.name, value) for value in s.values])
        for panel, group in panels.items()
        for s in group
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


def _group_by_panel(series: Sequence[Series]) -> dict[PanelLabel, list[Series]]:
    groups: dict[PanelLabel, list[Series]] = {}
    for s in series:
        groups.setdefault(label_panel(s.name), []).append(s)
    return groups


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
    code, title, severity, stage = (str(finding.get(name) or "") for name in ("code", "title", "severity", "stage"))
    image = _embed_evidence_image(arranged.image, run)
    return ReportFinding(code, title, severity, stage, _format_where(finding), sentences, arranged, image)


def _format_where(finding: dict[str, Any]) -> str:
    """Format the first recordings of a finding, and the number of the others."""
    names = list(map(str, as_list(finding.get("where"))))
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


def embed_validation_images(run: RunFiles) -> list[tuple[PanelLabel, int, EmbeddedImage]]:
    """Return (label, step, image): the last of each kind of validation image."""
    last = {path.parent.name: path for path in sorted(run.image_folder.glob("*/step-*.png"))}
    found = ((name, step_from_filename(path), _embed_run_image(path, run)) for name, path in last.items())
    return [(label_validation_image(name), step, image) for name, step, image in found if image is not None]


def _embed_run_image(path: Path, run: RunFiles) -> EmbeddedImage | None:
    return embed_image_file(path, path.relative_to(run.folder).as_posix(), run)
