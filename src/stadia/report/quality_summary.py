"""Describe the quality of predictions in sentences and key numbers, and whether the training converged."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.verdict import Verdict
from stadia.report.run_files import (
    METRES,
    RunFiles,
    Series,
    as_list,
    flatten_mapping,
    format_duration,
    format_memory,
    format_metric,
    format_number,
    is_finite,
    metric_label,
)
from stadia.report.score_tables import (
    MIRRORED,
    collect_metrics,
    describe_alignment,
    describe_path,
    is_baseline,
    is_mirrored,
    leave_out_mirrored,
    measure_path,
)

MAX_SCORE_FILES = 3  # described score files, the worst first
MEAN_DEPTH_D1 = 0.5  # δ < 1.25 of a map of mean depths on roads
LOW_RECALL = 0.5  # Recall and precision below this are low.
BASELINE_METRICS = ("abs_rel", "mask_iou")  # metrics in which a baseline is compared
SIZE_TOLERANCE = 0.1  # largest |ln| of the scale ratio
LOW_EXPLAINED_SHARE = 0.5  # share of the unwarped residual that depth and motion explain, after few steps

LAST_SHARE, MIN_VALIDATIONS, MIN_STANDARD_ERRORS = 0.2, 5, 4.0
"""Criteria of a falling error: last share of steps, number of values in it, standard errors of the slope below 0."""

MIN_TERM_CORRELATION, MIN_TERM_ROWS = 0.9999, 20  # correlation of two equal terms, and number of rows


@dataclass(frozen=True)
class QualitySentence:
    """A sentence about quality, and its tone: "good", "warn", or ""."""

    text: str
    tone: str = ""


def describe_quality(run: RunFiles, *, predicts_depth: bool = True) -> list[QualitySentence]:
    """Return sentences about the scores, or a sentence that the quality of the depth is unknown."""
    sentences = [*_describe_verdict(run)]
    run = replace(run, scores=leave_out_mirrored(run.scores))
    learnt = {n: s for n, s in run.scores.items() if not is_baseline(s)}
    depth = sorted((_finite_metrics(s)["d1"], n) for n, s in learnt.items() if "d1" in _finite_metrics(s))
    scored = [*_compare_with_mean_depth(run)]
    described: list[dict[str, float]] = []  # two odometry methods may share one depth
    for _, name in depth:
        metrics = _finite_metrics(run.scores[name])
        if len(described) < MAX_SCORE_FILES and metrics not in described:
            described.append(metrics)
            scored += _describe_depth(name, run.scores[name])
    for name, score in run.scores.items():
        scored += [*_describe_mask(name, score), *_describe_objects(name, score)]
    scored += _compare_with_baselines(run)
    if not depth and not scored and predicts_depth:
        scored.append(QualitySentence("Depth was not scored: its quality is unknown.", "warn"))
        scored += _describe_path(run)
    return [*sentences, *scored, *_describe_residual(run), *_describe_convergence(run)]


def _describe_verdict(run: RunFiles) -> Iterator[QualitySentence]:
    verdict = run.facts.predictions
    findings = [finding for finding in run.findings if finding.get("stage") == "evaluation"]
    of_training = [str(finding.get("code")) for finding in findings if not finding.get("where")]
    predictions = f"Predictions of {_name_judged_data(run)}"
    if verdict == Verdict.USABLE:
        yield QualitySentence(f"{predictions} are usable: all checks passed.", "good")
    elif verdict in (Verdict.DOUBTFUL, Verdict.UNUSABLE):
        codes = f" ({', '.join(dict.fromkeys(of_training))})" if of_training else ""
        yield QualitySentence(f"{predictions} are {verdict}{codes}: see the findings.", "warn")
    elif verdict == Verdict.NOT_JUDGED:
        text = "Predictions were not judged: too few validation frames, or no motion."
        yield QualitySentence(f"{text} `stadia predict` judges longer input.", "warn")
    later: dict[str, dict[str, None]] = {}
    for finding in findings:
        for name in map(str, as_list(finding.get("where"))):
            later.setdefault(name, {})[str(finding.get("code"))] = None
    for name, codes_there in later.items():
        codes = ", ".join(codes_there)
        yield QualitySentence(f"Later predictions of {name} are worse ({codes}): see the findings.", "warn")


def _name_judged_data(run: RunFiles) -> str:
    judged, path = run.facts.judged, run.facts.data.get("path")
    has_trained = judged is not None and judged.has_trained_frames
    frames = "validation frames" + " and frames that trained" * has_trained
    name = Path(path).name if isinstance(path, str) else ""
    return f"{frames} ({name})" if name not in ("", "…") else frames  # a home folder is hidden


def _describe_convergence(run: RunFiles) -> Iterator[QualitySentence]:
    for series in run.series:
        if series.name == "val/abs_rel" and (fell := measure_late_decrease(series)) is not None:
            text = f"Validation still fell by {fell:.0%} over the last fifth. Train longer."
            yield QualitySentence(text, "warn")
    for first, second in find_identical_terms(run.series):
        text = f"Two terms of the loss are the same: {first} and {second}."
        yield QualitySentence(text, "warn")


def _finite_metrics(score: dict[str, Any]) -> dict[str, float]:
    metrics = score.get("metrics")
    return {name: v for name, v in metrics.items() if is_finite(v)} if isinstance(metrics, dict) else {}


def _compare_with_mean_depth(run: RunFiles) -> Iterator[QualitySentence]:
    result = flatten_mapping(run.result)
    own, mean = result.get("depth.abs_rel"), result.get("depth.abs_rel_mean_baseline")
    if not isinstance(own, int | float) or not isinstance(mean, int | float):
        return
    verdict, tone = ("better", "good") if own < mean else ("worse", "warn")
    values = f"(AbsRel {format_number(own)} against {format_number(mean)})"
    images = result.get("depth.images")
    depth = f"Depth of the {format_number(images)} images of result.json" if is_finite(images) else "Depth"
    yield QualitySentence(f"{depth} is {verdict} than mean depth {values}.", tone)


def _compare_with_baselines(run: RunFiles) -> Iterator[QualitySentence]:
    for name, score in run.scores.items():
        own = next((n for n in run.scores if name.startswith(f"{n}-") and not run.scores[n].get("baseline")), None)
        if not score.get("baseline") or own is None:
            continue
        base, own_metrics = _finite_metrics(score), _finite_metrics(run.scores[own])
        if metric := next((name for name in BASELINE_METRICS if name in base and name in own_metrics), None):
            shown, a, b = metric_label(metric), own_metrics[metric], base[metric]
            is_better = a < b if shown.better == "lower" else a > b
            verdict, tone = ("better", "good") if is_better else ("no better", "warn")
            values = f"{shown.label} {format_number(a)} against {format_number(b)}"
            text = f"{own}: {verdict} than a baseline without learning ({values}): {score['baseline']}."
            yield QualitySentence(text, tone)


def _describe_mask(name: str, score: dict[str, Any]) -> Iterator[QualitySentence]:
    metrics = _finite_metrics(score)
    if "mask_iou" in metrics and "recall" not in metrics and not score.get("baseline"):
        yield QualitySentence(f"{name}: mask IoU {metrics['mask_iou']:.0%}.")


def _describe_depth(name: str, score: dict[str, Any]) -> Iterator[QualitySentence]:
    metrics, ratio = _finite_metrics(score), score.get("scale_ratio_median")
    aligned = f", {described}" if (described := describe_alignment(score)) else ""
    name = f"{name}, {MIRRORED}" if is_mirrored(score) else name
    text = f"{name}: {metrics['d1']:.0%} of the pixels are within a quarter of the true depth{aligned}"
    if metrics["d1"] < MEAN_DEPTH_D1:
        yield QualitySentence(f"{text}, no better than mean depth.", "warn")
    else:
        yield QualitySentence(f"{text}.")
    ratio = ratio if score.get("depth_scale") == METRES and isinstance(ratio, int | float) and ratio > 0 else 1.0
    if abs(math.log(ratio)) > SIZE_TOLERANCE:
        text = f"{name}: sizes are wrong. True depth is {format_number(float(ratio))} times the prediction."
        yield QualitySentence(text, "warn")


def _describe_objects(name: str, score: dict[str, Any]) -> Iterator[QualitySentence]:
    metrics = _finite_metrics(score)
    recall, objects = metrics.get("recall"), metrics.get("objects")
    if recall is None or objects is None or "rotation_error_deg_of_all" not in metrics:
        return
    text = f"{name}: {recall:.1%} of {objects:.0f} labeled objects were found"
    precision = metrics.get("precision")
    if precision is not None:
        text += f", and {precision:.1%} of the detections are right"
    if recall < LOW_RECALL:
        text += ". Errors count found objects only. Train longer, or on more data."
        yield QualitySentence(text, "warn")
    elif precision is not None and precision < LOW_RECALL:
        yield QualitySentence(f"{text}: most detections are wrong.", "warn")
    else:
        yield QualitySentence(f"{text}.")


def _describe_path(run: RunFiles) -> Iterator[QualitySentence]:
    errors = []
    for name, score in run.scores.items():
        ate, path = _finite_metrics(score).get("ate_rmse_m"), score.get("path_m")
        if ate is not None and is_finite(path) and path > 0:
            errors.append((path, ate / path, name))
    if errors:
        _, share, name = max(errors)
        score = run.scores[name]
        fitted = f", {aligned}" if (aligned := describe_alignment(score)) else ""
        of = f" ({described})" if (described := describe_path(score)) else ""
        yield QualitySentence(f"{name}: the path{of} is off by {share:.1%} of its length{fitted}.")


def _describe_residual(run: RunFiles) -> Iterator[QualitySentence]:
    ratio = run.facts.judged.warped_over_unwarped if run.facts.judged else None
    if ratio is None or ratio < 0:
        return
    if ratio >= 1:
        text = f"warping makes the residual {ratio:.2f} times as large."
        yield QualitySentence(f"Depth and motion explain nothing: {text}", "warn")
        return
    text = f"Depth and motion explain {1 - ratio:.0%} of the change between training images"
    if 1 - ratio <= LOW_EXPLAINED_SHARE:
        yield QualitySentence(f"{text}, as after a few dozen steps.", "warn")
    else:
        yield QualitySentence(f"{text}.")


def measure_late_decrease(series: Series) -> float | None:
    """Return the relative fall of an error over the last LAST_SHARE of the steps; None if it is not significant."""
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    if not len(steps):
        return None
    late = (steps >= steps.max() - LAST_SHARE * (steps.max() - steps.min())) & np.isfinite(values) & (values > 0)
    if np.count_nonzero(late) < MIN_VALIDATIONS:
        return None
    x, y = steps[late] - steps[late].mean(), np.log(values[late])
    slope = float((x * y).sum() / (x * x).sum())
    scatter = math.sqrt(float(((y - y.mean() - slope * x) ** 2).sum()) / (len(x) - 2))
    error = scatter / math.sqrt(float((x * x).sum()))
    return -math.expm1(slope * float(np.ptp(x))) if slope < -MIN_STANDARD_ERRORS * error and slope < 0 else None


def find_identical_terms(series: Sequence[Series]) -> Iterator[tuple[str, str]]:
    """Yield pairs of loss terms that are equal up to a factor and a constant."""
    terms = [term for term in series if term.name.startswith("train/term/")]
    for first, second in itertools.combinations(terms, 2):
        if first.steps != second.steps or len(first.steps) < MIN_TERM_ROWS:
            continue
        both = np.array([first.values, second.values], float)
        if np.isfinite(both).all() and both.std(1).min() > 0 and abs(np.corrcoef(both)[0, 1]) > MIN_TERM_CORRELATION:
            yield first.name.removeprefix("train/term/"), second.name.removeprefix("train/term/")


# -- May it be used?


@dataclass(frozen=True)
class RunVerdict:
    """The verdict on a run, or the state of its training.

    word: the verdict.
    tone: "good", "warn", "stop" or "note".
    advice: what to do.
    """

    word: str
    tone: str
    advice: str


VERDICTS: Mapping[str, RunVerdict] = {
    Verdict.USABLE: RunVerdict(Verdict.USABLE, "good", "All checks passed."),
    Verdict.DOUBTFUL: RunVerdict(Verdict.DOUBTFUL, "warn", "Do not rely on it before you fix its findings."),
    Verdict.UNUSABLE: RunVerdict(Verdict.UNUSABLE, "stop", "Do not use it: its predictions failed their checks."),
}


def make_verdict(run: RunFiles) -> RunVerdict:
    """Return whether the result of a run may be used. A finding that stops a training outweighs its predictions."""
    stops = [str(finding.get("code")) for finding in run.findings if finding.get("severity") == "stop"]
    if run.facts.status == "running":
        return RunVerdict("training", "note", "Judge it at its end.")
    if run.facts.status == "failed":
        return RunVerdict("failed", "stop", "The training ended with an error: do not use it.")
    if stops:
        advice = f"Do not use it: see the findings {', '.join(dict.fromkeys(stops))}."
        return RunVerdict(Verdict.UNUSABLE, "stop", advice)
    if (judged := VERDICTS.get(str(run.facts.predictions))) is not None:
        return judged
    return RunVerdict(Verdict.NOT_JUDGED, "note", "Its predictions were not checked. Run `stadia predict` on a video.")


# -- Key numbers.

RUN_NUMBERS = ("wall_s", "peak_rss_mb")
TRUE_SIZE = "1 is true size"
BASELINE = "_mean_baseline"  # suffix in result.json of the score of a map of mean depths
MAX_TILES, MAX_TILES_PER_FILE = 8, 2  # limits of a run without result.json


@dataclass(frozen=True)
class KeyTile:
    """A key number with a note.

    tone: "good", "warn", or "".
    """

    label: str
    value: str
    note: str = ""
    tone: str = ""


def make_tiles(run: RunFiles) -> list[KeyTile]:
    """Return the key numbers of result.json next to their baselines, or of the score files."""
    result = flatten_mapping(run.result)
    if not any(isinstance(v, int | float) for v in result.values()):
        files = {stem: score for stem, score in leave_out_mirrored(run.scores).items() if not is_baseline(score)}
        lengths = {stem: length for stem, score in files.items() if (length := measure_path(score))}
        longest = iter(sorted(lengths, key=lambda stem: -lengths[stem]))  # a few poses are no headline
        ordered = [next(longest) if stem in lengths else stem for stem in files]
        return [tile for stem in ordered for tile in _make_score_tiles(stem, files[stem])][:MAX_TILES]
    tiles = []
    for key, value in result.items():
        name = key.rsplit(".", 1)[-1]
        if (metric_label(name).key or name in RUN_NUMBERS) and is_finite(value):
            tiles.append(_make_tile(key, value, result))
    if result.get("depth_scale") not in (None, METRES):  # a scale that is not predicted is neither right nor wrong
        tiles = [replace(tile, note="unknown scale", tone="") if tile.note == TRUE_SIZE else tile for tile in tiles]
    return tiles


def _make_score_tiles(stem: str, score: dict[str, Any]) -> list[KeyTile]:
    metrics = [(metric_label(name), format_metric(name, value)) for name, value in collect_metrics(score).items()]
    keys = [(shown.label, value) for shown, value in metrics if shown.key][:MAX_TILES_PER_FILE]
    mirrored = MIRRORED if is_mirrored(score) else ""
    note = ", ".join(filter(None, (describe_path(score), mirrored, describe_alignment(score))))
    return [KeyTile(f"{stem} · {label}", value, note) for label, value in keys]


def _make_tile(key: str, value: float, result: dict[str, Any]) -> KeyTile:
    group, _, name = key.rpartition(".")
    if name == "wall_s":
        return KeyTile("Time", format_duration(value), "in all")
    if name == "peak_rss_mb":
        return KeyTile("Memory", format_memory(value), "peak of all processes")
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
