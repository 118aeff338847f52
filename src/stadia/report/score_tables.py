"""Arrange score files: tables of metrics, distributions over images or objects, camera paths, and sources of metres."""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from stadia.core.errors import StadiaError
from stadia.io.input_files import read_json
from stadia.report.charts import draw_histogram
from stadia.report.run_files import (
    ALIGNMENT_MEANINGS,
    METRES,
    MOTION_NAMES,
    SCORES,
    RunFiles,
    as_list,
    as_mapping,
    check_inside,
    describe_depth_scale,
    direction_arrow,
    flatten_mapping,
    format_metric,
    format_number,
    is_finite,
    metric_label,
)

MIRRORED = "averaged with the mirrored image"
FLIP_RESULTS = ("flip", "notes", "metrics", "scale", "length_ratio", "scale_ratio_median", "scale_ratio_spread")
"""Keys whose values differ between scores with and without `--flip`."""

MISSED_SCORES = {"rotation_error_deg": 180.0}  # score of a missed object, as in `rotation_error_deg_of_all`
MAX_WORST = 5
MAX_RECEIPTS = 12


@dataclass(frozen=True)
class ScoreTable:
    """Score files of one kind side by side.

    about: what all files have in common.
    head: (name, text below it) of each column.
    rows: (name, text next to it, cells) of each row.
    files_down: whether files are rows instead of columns.
    """

    about: str
    notes: list[str]
    head: list[tuple[str, str]]
    rows: list[tuple[str, str, list[str]]]
    files_down: bool


@dataclass(frozen=True)
class ImageScores:
    """The distribution of one score over images or objects. A missed object has the worst score.

    counted: text such as "69 objects, 52 of them missed".
    worst: (name, value, share of the worst value) of the worst ones.
    """

    label: str
    counted: str
    median: str
    histogram: str
    worst: list[tuple[str, str, float]]


def describe_alignment(score: dict[str, Any]) -> str:
    """Return a text about what was fitted to the ground truth before scoring; "" for nothing."""
    aligned = score.get("alignment", score.get("align"))
    if aligned in (None, "none"):
        return ""
    return f"{ALIGNMENT_MEANINGS.get(str(aligned), 'after a fit to the truth')} ({aligned})"


def describe_alignments(scores: dict[str, dict[str, Any]]) -> str:
    """Return sentences about what was fitted to the truth for depth and for paths; "" without such scores."""
    sentences = []
    for what, key in (("Depths", "alignment"), ("Paths", "align")):
        fits = dict.fromkeys(describe_alignment({key: score[key]}) for score in scores.values() if score.get(key))
        if named := [fit for fit in fits if fit]:
            some = "Some of the scored" if "" in fits else "Scored"
            sentences.append(f"{some} {what.lower()} are {', or '.join(named)}.")
        elif fits:
            sentences.append(f"{what} are scored as predicted.")
    return " ".join(sentences)


def measure_path(score: dict[str, Any]) -> float:
    """Return the length of a scored path in metres; 0 without a path."""
    return float(score["path_m"]) if "poses" in score and is_finite(score.get("path_m")) else 0.0


def describe_path(score: dict[str, Any]) -> str:
    """Return a text about a scored path, such as `5 poses over 4.80 m`; "" without a path."""
    length = measure_path(score)
    return f"{format_number(score['poses'])} poses over {format_number(length, 'm')}" if length > 0 else ""


def collect_metrics(score: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a score file, including those outside its key `metrics`."""
    inner = score.get("metrics")
    beside = {name: value for name, value in score.items() if name in SCORES}
    return (flatten_mapping(inner) if isinstance(inner, dict) else {}) | beside


def is_baseline(score: dict[str, Any]) -> bool:
    """Return whether a score file belongs to a prediction without training."""
    return bool(score.get("baseline")) or score.get("checkpoint") == ""


def merge_equal_scores(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge score files that differ only in `motion`. Their names are joined, as in "test, test-network"."""
    groups: dict[str, list[str]] = {}
    for name, score in scores.items():
        content = {key: value for key, value in score.items() if key != "motion"}
        groups.setdefault(repr(content) if "motion" in score else name, []).append(name)
    return {", ".join(sorted(names, key=len)): scores[names[0]] for names in groups.values()}


def leave_out_mirrored(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the scores without scores of `--flip`, if the same data are scored without it."""

    def find_data(score: dict[str, Any]) -> dict[str, Any]:
        about = (item for item in score.items() if item[0] not in FLIP_RESULTS)
        return {
            key: value for key, value in about if not key.startswith(("per_", "path_estimated", "height_estimated"))
        }

    plain = [find_data(score) for score in scores.values() if not is_mirrored(score)]
    return {name: score for name, score in scores.items() if not (is_mirrored(score) and find_data(score) in plain)}


def is_mirrored(score: dict[str, Any]) -> bool:
    """Return whether a score file belongs to maps that were averaged with maps of the mirrored image."""
    return score.get("flip") is True


def order_scores(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return scores in order: predictions of the checkpoint, then with the pose network's motion, then baselines."""
    rank = {name: (is_baseline(score), motion_key(score) == "network") for name, score in scores.items()}
    return {name: scores[name] for name in sorted(scores, key=rank.__getitem__)}


def make_score_tables(scores: dict[str, dict[str, Any]]) -> list[ScoreTable]:
    """Group score files that have a metric in common into tables, in the order of `order_scores`."""
    kinds: list[dict[str, dict[str, Any]]] = []
    for name, score in order_scores(scores).items():
        metrics = collect_metrics(score).keys()
        for kind in kinds:
            if any(metrics & collect_metrics(same).keys() for same in kind.values()):
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
    notes += [f"{name}: {baseline}, a baseline." for name, baseline in baselines.items()]
    notes += dict.fromkeys(note for name in names if (note := metric_label(name).note))
    if len(files) > len(labels):
        rows = [(*file, [row[k] for row in cells]) for k, file in enumerate(files)]
        return ScoreTable(", ".join(shared), notes, labels, rows, files_down=True)
    rows = [(*label, row) for label, row in zip(labels, cells, strict=True)]
    return ScoreTable(", ".join(shared), notes, files, rows, files_down=False)


def _list_shown_metrics(kind: dict[str, dict[str, Any]]) -> list[str]:
    metrics = [collect_metrics(score) for score in kind.values()]
    names = list(dict.fromkeys(name for score in metrics for name in score))
    computed = [name for name in names if any(score.get(name) is not None for score in metrics)]
    return computed if computed and any(score.get("notes") for score in kind.values()) else names


def _merge_similar_notes(notes: list[str]) -> list[str]:
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(re.sub(r"[0-9.]+", "#", note), []).append(note)
    more = (f" (and {len(same) - 1} more)" if len(set(same)) > 1 else "" for same in alike.values())
    return [same[0] + text for same, text in zip(alike.values(), more, strict=True)]


def _describe_score_file(score: dict[str, Any]) -> list[str]:
    depth_scale, aligned = score.get("depth_scale"), score.get("alignment", score.get("align"))
    parts = [f"protocol {score['protocol']}"] if score.get("protocol") else []
    parts += [f"ground truth {score['ground_truth']}"] if score.get("ground_truth") else []
    parts += [describe_depth_scale(depth_scale)[0].lower()] if depth_scale else []
    parts += [MIRRORED] if is_mirrored(score) else []
    parts += ["not aligned" if aligned == "none" else f"aligned by {aligned}"] if aligned else []
    parts += [name_motion(score)] if "path_estimated_m" in score and name_motion(score) else []
    counts = (unit for unit in ("images", "poses") if score.get(unit) is not None)
    return parts + [f"{format_number(score[unit])} {unit}" for unit in counts]


def make_image_scores(scores: dict[str, dict[str, Any]]) -> list[ImageScores]:
    """Return the distribution of the first score over images or objects, for each score file."""
    return [shown for stem, score in scores.items() if (shown := _make_image_scores(stem, score)) is not None]


def _make_image_scores(stem: str, score: dict[str, Any]) -> ImageScores | None:
    kind = "object" if "per_object" in score else "image"
    entries = [e for e in as_list(score.get(f"per_{kind}")) if isinstance(e, dict) and "name" in e]
    is_missed = [e.get("missed") is True for e in entries]
    entries = [
        MISSED_SCORES | e | {"name": f"{e['name']}, missed"} if missed else e
        for e, missed in zip(entries, is_missed, strict=True)
    ]
    metric = next((m for m in collect_metrics(score) if any(m in e for e in entries)), "")
    values = [(str(e["name"]), float(e[metric])) for e in entries if is_finite(e.get(metric))]
    if not values:
        return None
    shown = metric_label(metric)
    values.sort(key=lambda pair: pair[1], reverse=shown.better != "higher")
    largest = max(abs(value) for _, value in values[:MAX_WORST]) or 1.0
    unit = f", in {shown.unit}" if shown.unit else ""
    label = f"{shown.label.removesuffix(', mean')} of each {kind}{unit}, {stem}"
    counted = f"{len(values)} {kind}{'s' * (len(values) != 1)}" + (
        f", {sum(is_missed)} of them missed" if any(is_missed) else ""
    )
    return ImageScores(
        label=label,
        counted=counted,
        median=format_metric(metric, float(np.median([value for _, value in values]))),
        histogram=draw_histogram(f"histogram of {label}", [value for _, value in values]),
        worst=[(name, format_metric(metric, value), abs(value) / largest) for name, value in values[:MAX_WORST]],
    )


def name_motion(score: dict[str, Any]) -> str:
    """Return the name of the method that predicted the path of a score file; "" if it is unknown."""
    name, _ = MOTION_NAMES.get(motion_key(score), ("", ""))
    return name


def motion_key(score: dict[str, Any]) -> str:
    """Return the key of MOTION_NAMES for a score file."""
    return "mean-depth" if is_baseline(score) and score.get("motion") == "aligned" else str(score.get("motion"))


def has_depth_scores(run: RunFiles) -> bool:
    """Return whether predicted depth of this run was scored against ground truth."""
    learned = (score for score in run.scores.values() if not is_baseline(score))
    return any(collect_metrics(score).keys() & {"abs_rel", "d1", "silog"} for score in learned)


@dataclass(frozen=True)
class ReceiptRow:
    """One source of a scale, as text.

    unit: metres per unit of the network's depth.
    deviation: its relative standard deviation.
    measured: the measurements.
    """

    prediction: str
    source: str
    unit: str
    deviation: str
    measured: str
    verdict: str


def list_scale_receipts(run: RunFiles) -> list[ReceiptRow]:
    """Return the sources of metres of a run's predictions, at most MAX_RECEIPTS."""
    rows: list[ReceiptRow] = []
    for path in sorted(run.folder.glob("predictions/**/predictions.json")):
        with suppress(StadiaError, OSError):  # a damaged record is listed by the images of the same file
            receipt = as_mapping(as_mapping(read_json(check_inside(run.folder, path))).get("scale_from"))
            fits = {source: as_mapping(fit) for source, fit in as_mapping(receipt.get("sources")).items()}
            rows += [_make_receipt_row(path.parent.name, source, fit) for source, fit in fits.items() if fit]
    return rows[:MAX_RECEIPTS]


def _make_receipt_row(prediction: str, source: str, fit: dict[str, Any]) -> ReceiptRow:
    factor, deviation = fit.get("factor"), fit.get("relative_deviation")
    return ReceiptRow(
        prediction,
        source,
        format_number(factor, "m") if is_finite(factor) else "–",
        f"± {deviation:.1%}" if is_finite(deviation) else "–",
        f"{fit.get('measurements', 0)} in {fit.get('images', 0)} images",
        str(fit.get("verdict", "")),
    )
