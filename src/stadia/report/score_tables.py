"""Arrange score files: tables of their metrics, and the distribution of a score over images or objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from stadia.report.figures import Histogram, make_histogram
from stadia.report.metric_labels import (
    ALIGNMENT_MEANINGS,
    METRES,
    MOTION_NAMES,
    SCORES,
    describe_depth_scale,
    direction_arrow,
    format_metric,
    format_number,
    is_finite,
    metric_label,
)
from stadia.report.run_files import RunFiles, flatten_mapping

MIRRORED = "averaged with the mirrored image"
FLIP_RESULTS = ("flip", "notes", "metrics", "scale", "length_ratio", "scale_ratio_median", "scale_ratio_spread")
"""Keys of a score file that differ between scores with and without `--flip`, beside those of each image or pose."""

MISSED_SCORES = {"rotation_error_deg": 180.0}  # of a missed object, as in `rotation_error_deg_of_all`
MAX_WORST = 5


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


def describe_alignment(score: dict[str, Any]) -> str:
    """Describe what was fitted to ground truth before scoring, as `moved and turned ... (se3)`; "" for nothing."""
    aligned = score.get("alignment", score.get("align"))
    if aligned in (None, "none"):
        return ""
    return f"{ALIGNMENT_MEANINGS.get(str(aligned), 'after a fit to the truth')} ({aligned})"


def describe_alignments(scores: dict[str, dict[str, Any]]) -> str:
    """Describe in sentences what the scores of depth and of paths fit to the truth; "" without such scores."""
    sentences = []
    for what, key in (("Depths", "alignment"), ("Paths", "align")):
        known = dict.fromkeys(str(score[key]) for score in scores.values() if score.get(key))
        described = [describe_alignment({key: one}) for one in known]
        if described == [""]:
            sentences.append(f"{what} are scored as predicted.")
        elif described:
            some = "Some of the scored" if "" in described else "Scored"
            fits = ", or ".join(filter(None, described))
            sentences.append(f"{some} {what.lower()} are {fits}.")
    return " ".join(sentences)


def measure_path(score: dict[str, Any]) -> float:
    """Return the length of a scored path in metres; 0 for a score of anything else."""
    return float(score["path_m"]) if "poses" in score and is_finite(score.get("path_m")) else 0.0


def describe_path(score: dict[str, Any]) -> str:
    """Describe how much of a path was scored, as `5 poses over 4.80 m`; "" for a score of anything else."""
    length = measure_path(score)
    return f"{format_number(score['poses'])} poses over {format_number(length, 'm')}" if length > 0 else ""


def collect_metrics(score: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a score file, also those beside its `metrics` (scale ratio, path length)."""
    inner = score.get("metrics")
    beside = {name: value for name, value in score.items() if name in SCORES}
    return (flatten_mapping(inner) if isinstance(inner, dict) else {}) | beside


def is_baseline(score: dict[str, Any]) -> bool:
    """Return whether a score file is of a prediction that needs no training; the demo's name no checkpoint."""
    return bool(score.get("baseline")) or score.get("checkpoint") == ""


def merge_equal_scores(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge score files that differ only in how motion was estimated, as of the depth of one checkpoint.

    Their names are joined: "test, test-network".
    """
    groups: list[tuple[list[str], dict[str, Any], dict[str, Any]]] = []
    for name, score in scores.items():
        content = {key: value for key, value in score.items() if key != "motion"}
        for names, same, _ in groups:
            if same == content and "motion" in score:
                names.append(name)
                break
        else:
            groups.append(([name], content, score))
    return {", ".join(sorted(names, key=len)): score for names, _, score in groups}


def leave_out_mirrored(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Leave out scores of averaged maps (`--flip`) where the same data are scored without it."""

    def find_data(score: dict[str, Any]) -> dict[str, Any]:
        about = (item for item in score.items() if item[0] not in FLIP_RESULTS)
        return {
            key: value for key, value in about if not key.startswith(("per_", "path_estimated", "height_estimated"))
        }

    plain = [find_data(score) for score in scores.values() if not is_mirrored(score)]
    return {name: one for name, one in scores.items() if not (is_mirrored(one) and find_data(one) in plain)}


def is_mirrored(score: dict[str, Any]) -> bool:
    """Return whether a score file is of maps that are averaged with those of the mirrored image."""
    return score.get("flip") is True


def order_scores(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Put predictions of the run's checkpoint first, then those with the pose network's motion, and baselines last."""
    return dict(sorted(scores.items(), key=lambda one: (is_baseline(one[1]), motion_key(one[1]) == "network")))


def make_score_tables(scores: dict[str, dict[str, Any]]) -> list[ScoreTable]:
    """Group score files that share a metric into tables, one column a file, in the order of `order_scores`."""
    kinds: list[dict[str, dict[str, Any]]] = []
    for name, score in order_scores(scores).items():
        metrics = collect_metrics(score).keys()
        for kind in kinds:
            if any(metrics & collect_metrics(other).keys() for other in kind.values()):
                kind[name] = score
                break
        else:
            kinds.append({name: score})
    return [_make_score_table(kind) for kind in kinds if any(map(collect_metrics, kind.values()))]


def _make_score_table(kind: dict[str, dict[str, Any]]) -> ScoreTable:
    about = [_describe_score_file(score) for score in kind.values()]
    shared = [part for part in about[0] if all(part in parts for parts in about)]
    scale_known = all(score.get("depth_scale", METRES) == METRES for score in kind.values())
    own = (", ".join(part for part in parts if part not in shared) for parts in about)
    files = list(zip(kind, own, strict=True))
    names, metrics = _list_shown_metrics(kind), [collect_metrics(score) for score in kind.values()]
    labels = [(metric_label(name).label, direction_arrow(name, scale_known=scale_known)) for name in names]
    cells = [[format_metric(name, score[name]) if name in score else "" for score in metrics] for name in names]
    notes = _merge_similar_notes([str(note) for score in kind.values() for note in as_list(score.get("notes"))])
    baselines = {name: score["baseline"] for name, score in kind.items() if score.get("baseline")}
    notes += [f"{name}: {baseline}; a trained network has to be better." for name, baseline in baselines.items()]
    notes += dict.fromkeys(note for name in names if (note := metric_label(name).note))
    if len(files) > len(labels):
        rows = [(*file, [row[k] for row in cells]) for k, file in enumerate(files)]
        return ScoreTable(", ".join(shared), notes, labels, rows, files_down=True)
    rows = [(*label, row) for label, row in zip(labels, cells, strict=True)]
    return ScoreTable(", ".join(shared), notes, files, rows, files_down=False)


def _list_shown_metrics(kind: dict[str, dict[str, Any]]) -> list[str]:
    """Return the metrics of all files, without those that no file could compute where notes explain that."""
    metrics = [collect_metrics(score) for score in kind.values()]
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
    parts += [MIRRORED] if is_mirrored(score) else []
    parts += ["not aligned" if aligned == "none" else f"aligned by {aligned}"] if aligned else []
    parts += [name_motion(score)] if "path_estimated_m" in score and name_motion(score) else []
    counts = (unit for unit in ("images", "pictures", "poses") if score.get(unit) is not None)
    return parts + [f"{format_number(score[unit])} {unit}" for unit in counts]


def make_image_scores(scores: dict[str, dict[str, Any]]) -> list[ImageScores]:
    """Return how the first score is distributed over images or objects of each score file, and the worst ones."""
    found = []
    for stem, score in scores.items():
        kind = "object" if "per_object" in score else "image"
        entries = [e for e in as_list(score.get(f"per_{kind}")) if isinstance(e, dict) and "name" in e]
        entries = list(map(_score_missed_object, entries))
        metric = next((m for m in collect_metrics(score) if any(m in e for e in entries)), None)
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


def name_motion(score: dict[str, Any]) -> str:
    """Name how a score file's path was estimated; "" where that is unknown."""
    name, _ = MOTION_NAMES.get(motion_key(score), ("", ""))
    return name


def motion_key(score: dict[str, Any]) -> str:
    """Return the key of MOTION_NAMES for a score file."""
    return "mean-depth" if is_baseline(score) and score.get("motion") == "aligned" else str(score.get("motion"))


def has_depth_scores(run: RunFiles) -> bool:
    """Return whether predicted depth of this run was scored against ground truth."""
    learned = (score for score in run.scores.values() if not is_baseline(score))
    return any(collect_metrics(score).keys() & {"abs_rel", "d1", "silog"} for score in learned)


def as_list(value: Any) -> list[Any]:
    """Return a list from a file; empty for anything else."""
    return value if isinstance(value, list) else []
