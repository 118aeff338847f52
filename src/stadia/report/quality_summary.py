"""Describe the quality of predictions in words, from their scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stadia.report import metric_labels
from stadia.report.convergence import find_identical_terms, measure_late_decrease
from stadia.report.outcomes import flatten_mapping
from stadia.report.run_files import RunFiles

MAX_SCORE_FILES = 3  # described score files, the worst first
MEAN_DEPTH_D1 = 0.5
"""δ < 1.25 that a map of mean depths reaches on roads: 0.47 on RoadWorld."""
LOW_RECALL = 0.5
"""Of the labeled objects, and of what was found."""
BASELINE_METRICS = ("abs_rel", "mask_iou")
"""Metrics in which a baseline is compared."""
SIZE_TOLERANCE = 0.1  # of the logarithm of the scale ratio
LOW_EXPLAINED_SHARE = 0.5
"""Of the unwarped residual: 35 to 50 % after 30 to 60 steps on KITTI and RoadWorld, when depth is still a blob; 70 %
after the demo.
"""


@dataclass(frozen=True)
class QualitySentence:
    """tone: good, warn, or none."""

    text: str
    tone: str = ""


def describe_quality(run: RunFiles, *, predicts_depth: bool = True) -> list[QualitySentence]:
    """Describe the scores. Where depth is predicted but was not scored, state that its quality is unknown."""
    depth = [
        (name, score)
        for name, score in run.scores.items()
        if "d1" in _finite_metrics(score) and score.get("checkpoint") != "" and not score.get("baseline")
    ]
    depth.sort(key=lambda one: (_finite_metrics(one[1])["d1"], one[0]))
    sentences = [*_compare_with_mean_depth(run)]
    described: list[dict[str, float]] = []  # two ways to make the path share their depth
    for name, score in depth:
        if len(described) < MAX_SCORE_FILES and _finite_metrics(score) not in described:
            described.append(_finite_metrics(score))
            sentences += _describe_depth(name, score)
    sentences += [
        sentence
        for name, score in run.scores.items()
        for sentence in (*_describe_mask(name, score), *_describe_objects(name, score))
    ]
    sentences += _compare_with_baselines(run)
    if not depth and not sentences and predicts_depth:
        sentences.append(QualitySentence("Depth was not scored against ground truth: its quality is unknown.", "warn"))
        sentences += _describe_path(run)
    return [*sentences, *_describe_residual(run), *_describe_convergence(run)]


def _describe_convergence(run: RunFiles) -> Iterator[QualitySentence]:
    """Yield warnings about convergence and identical loss terms."""
    for series in run.series:
        if series.name == "val/abs_rel" and (fell := measure_late_decrease(series)) is not None:
            yield QualitySentence(
                f"Validation was still falling, by {fell:.0%} over the last fifth: train longer before you compare.",
                "warn",
            )
    for first, second in find_identical_terms(run.series):
        yield QualitySentence(
            f"Two terms of the loss are one, {first} and {second}: they only ever change together.", "warn"
        )


def _finite_metrics(score: dict[str, Any]) -> dict[str, float]:
    inner = score.get("metrics")
    return (
        {k: v for k, v in inner.items() if isinstance(v, int | float) and math.isfinite(v)}
        if isinstance(inner, dict)
        else {}
    )


def _compare_with_mean_depth(run: RunFiles) -> Iterator[QualitySentence]:
    result = flatten_mapping(run.result)
    own, mean = result.get("depth.abs_rel"), result.get("depth.abs_rel_mean_baseline")
    if not isinstance(own, int | float) or not isinstance(mean, int | float):
        return
    figures = f"(AbsRel {metric_labels.format_number(own)} against {metric_labels.format_number(mean)})"
    if own < mean:
        yield QualitySentence(f"Depth is better than a map of mean depths, which ignores the image {figures}.", "good")
    else:
        yield QualitySentence(
            f"Depth is worse than a map of mean depths, which ignores the image {figures}: no use yet.", "warn"
        )


def _compare_with_baselines(run: RunFiles) -> Iterator[QualitySentence]:
    """Compare each score file NAME with its baseline NAME-of-what, in the first of BESIDE that both have."""
    for name, score in run.scores.items():
        own = next((n for n in run.scores if name.startswith(f"{n}-") and not run.scores[n].get("baseline")), None)
        if not score.get("baseline") or own is None:
            continue
        base, own_metrics = _finite_metrics(score), _finite_metrics(run.scores[own])
        for metric in [metric for metric in BASELINE_METRICS if metric in base and metric in own_metrics][:1]:
            label, a, b = metric_labels.metric_label(metric).label, own_metrics[metric], base[metric]
            better = a < b if metric_labels.metric_label(metric).better == "lower" else a > b
            values = f"{label} {metric_labels.format_number(a)} against {metric_labels.format_number(b)}"
            verdict = ("better", "good") if better else ("no better", "warn")
            yield QualitySentence(
                f"{own}: {verdict[0]} than a baseline that learns nothing ({values}): {score['baseline']}.", verdict[1]
            )


def _describe_mask(name: str, score: dict[str, Any]) -> Iterator[QualitySentence]:
    """Describe a mask of the whole image; `_describe_objects` describes masks of objects."""
    metrics = _finite_metrics(score)
    if "mask_iou" in metrics and "recall" not in metrics and not score.get("baseline"):
        yield QualitySentence(f"{name}: of the union of true and predicted mask, {metrics['mask_iou']:.0%} is in both.")


def _describe_depth(name: str, score: dict[str, Any]) -> Iterator[QualitySentence]:
    metrics, ratio = _finite_metrics(score), score.get("scale_ratio_median")
    aligned = "" if score.get("alignment", "none") == "none" else ", after a fit to the truth"
    text = f"{name}: {metrics['d1']:.0%} of the pixels are within a quarter of the true depth{aligned}"
    if metrics["d1"] < MEAN_DEPTH_D1:
        yield QualitySentence(f"{text}, about what a map of mean depths reaches without the image, or less.", "warn")
    else:
        yield QualitySentence(f"{text}.")
    if (
        score.get("depth_scale") == metric_labels.METRES
        and isinstance(ratio, int | float)
        and ratio > 0
        and abs(math.log(ratio)) > SIZE_TOLERANCE
    ):
        yield QualitySentence(
            f"{name}: sizes are wrong, true depth is {metric_labels.format_number(float(ratio))} times the predicted (median).",
            "warn",
        )


def _describe_objects(name: str, score: dict[str, Any]) -> Iterator[QualitySentence]:
    """Describe recall and precision of objects: errors are measured on found objects only."""
    metrics = _finite_metrics(score)
    recall, objects = metrics.get("recall"), metrics.get("objects")
    if recall is None or objects is None or "rotation_error_deg_of_all" not in metrics:
        return
    text = f"{name}: {recall:.1%} of {objects:.0f} labeled objects were found"
    precision = metrics.get("precision")
    if precision is not None:
        text += f", and {precision:.1%} of what was found is one"
    if recall < LOW_RECALL:
        yield QualitySentence(
            f"{text}. Less than half is found, and the errors are of that alone: train longer, or on more data.", "warn"
        )
    elif precision is not None and precision < LOW_RECALL:
        yield QualitySentence(f"{text}: most of what it finds is no object.", "warn")
    else:
        yield QualitySentence(f"{text}.")


def _describe_path(run: RunFiles) -> Iterator[QualitySentence]:
    """Describe the worst scored path as a share of its length."""
    paths = [
        (name, score, _finite_metrics(score).get("ate_rmse_m"), score.get("path_m"))
        for name, score in run.scores.items()
    ]
    off = [
        (ate / path, name, score)
        for name, score, ate, path in paths
        if ate is not None and isinstance(path, int | float) and path > 0
    ]
    if off:
        share, name, score = max(off, key=lambda one: one[0])
        fitted = " after a fit to the truth" if score.get("align", "none") != "none" else ""
        yield QualitySentence(f"{name}: the path is off by {share:.1%} of its length{fitted}.")


def _describe_residual(run: RunFiles) -> Iterator[QualitySentence]:
    """Compare the warp's residual at the last validation with that of not warping."""
    last = {series.name: series.values[-1] for series in run.series}
    own, unwarped = last.get("val/residual", math.nan), last.get("val/residual_unwarped", math.nan)
    if not (math.isfinite(own) and unwarped > 0):
        return
    explained = 1 - own / unwarped
    text = f"Depth and motion explain {max(explained, 0):.0%} of what changes between the images that validated"
    if explained <= LOW_EXPLAINED_SHARE:
        yield QualitySentence(f"{text}, which networks reach that have hardly learnt.", "warn")
    else:
        yield QualitySentence(f"{text} (the residual of the warp beside that of the unwarped image).")
