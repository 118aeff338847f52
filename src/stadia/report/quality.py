"""Describe the quality of predictions in words, from their scores. `wording.CLAIMS` describes their unit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stadia.report import wording
from stadia.report.changes import flatten
from stadia.report.course import still_falling, terms_that_are_one
from stadia.report.run_files import RunFiles

MOST = 3  # described score files, the worst first
USUAL_OF_MEAN = 0.5
"""δ < 1.25 that a map of mean depths reaches on roads: 0.47 on RoadWorld."""
LITTLE_FOUND = 0.5
"""Of the labeled objects, and of what was found."""
BESIDE = ("abs_rel", "mask_iou")
"""Metrics in which a baseline is compared."""
SIZE_TOLERANCE = 0.1  # of the logarithm of the scale ratio
EXPLAINED = 0.5
"""Of the unwarped residual: 35 to 50 % after 30 to 60 steps on KITTI and RoadWorld, when depth is still a blob; 70 %
after the demo.
"""


@dataclass(frozen=True)
class Sentence:
    """tone: good, warn, or none."""

    text: str
    tone: str = ""


def quality(run: RunFiles, *, claimed: bool = True) -> list[Sentence]:
    """Describe the scores. Where depth is `claimed` but was not scored, state that its quality is unknown."""
    depth = [
        (name, score)
        for name, score in run.scores.items()
        if "d1" in _finite_metrics(score) and score.get("checkpoint") != "" and not score.get("baseline")
    ]
    depth.sort(key=lambda one: (_finite_metrics(one[1])["d1"], one[0]))
    sentences = [*_compare_with_mean_depth(run)]
    described: list[dict[str, float]] = []  # two ways to make the path share their depth
    for name, score in depth:
        if len(described) < MOST and _finite_metrics(score) not in described:
            described.append(_finite_metrics(score))
            sentences += _describe_depth(name, score)
    sentences += [
        sentence
        for name, score in run.scores.items()
        for sentence in (*_describe_mask(name, score), *_describe_objects(name, score))
    ]
    sentences += _compare_with_baselines(run)
    if not depth and not sentences and claimed:
        sentences.append(Sentence("Depth was not scored against ground truth: its quality is unknown.", "warn"))
        sentences += _describe_path(run)
    return [*sentences, *_describe_residual(run), *_describe_convergence(run)]


def _describe_convergence(run: RunFiles) -> Iterator[Sentence]:
    """Yield warnings about convergence and identical loss terms."""
    for series in run.series:
        if series.name == "val/abs_rel" and (fell := still_falling(series)) is not None:
            yield Sentence(
                f"Validation was still falling, by {fell:.0%} over the last fifth: train longer before you compare.",
                "warn",
            )
    for first, second in terms_that_are_one(run.series):
        yield Sentence(f"Two terms of the loss are one, {first} and {second}: they only ever change together.", "warn")


def _finite_metrics(score: dict[str, Any]) -> dict[str, float]:
    inner = score.get("metrics")
    return (
        {k: v for k, v in inner.items() if isinstance(v, int | float) and math.isfinite(v)}
        if isinstance(inner, dict)
        else {}
    )


def _compare_with_mean_depth(run: RunFiles) -> Iterator[Sentence]:
    result = flatten(run.result)
    own, mean = result.get("depth.abs_rel"), result.get("depth.abs_rel_mean_baseline")
    if not isinstance(own, int | float) or not isinstance(mean, int | float):
        return
    figures = f"(AbsRel {wording.number(own)} against {wording.number(mean)})"
    if own < mean:
        yield Sentence(f"Depth is better than a map of mean depths, which ignores the image {figures}.", "good")
    else:
        yield Sentence(
            f"Depth is worse than a map of mean depths, which ignores the image {figures}: no use yet.", "warn"
        )


def _compare_with_baselines(run: RunFiles) -> Iterator[Sentence]:
    """Compare each score file NAME with its baseline NAME-of-what, in the first of BESIDE that both have."""
    for name, score in run.scores.items():
        own = next((n for n in run.scores if name.startswith(f"{n}-") and not run.scores[n].get("baseline")), None)
        if not score.get("baseline") or own is None:
            continue
        base, own_metrics = _finite_metrics(score), _finite_metrics(run.scores[own])
        for metric in [metric for metric in BESIDE if metric in base and metric in own_metrics][:1]:
            label, a, b = wording.score(metric).label, own_metrics[metric], base[metric]
            better = a < b if wording.score(metric).better == "lower" else a > b
            values = f"{label} {wording.number(a)} against {wording.number(b)}"
            verdict = ("better", "good") if better else ("no better", "warn")
            yield Sentence(
                f"{own}: {verdict[0]} than a baseline that learns nothing ({values}): {score['baseline']}.", verdict[1]
            )


def _describe_mask(name: str, score: dict[str, Any]) -> Iterator[Sentence]:
    """Describe a mask of the whole image; `_describe_objects` describes masks of objects."""
    metrics = _finite_metrics(score)
    if "mask_iou" in metrics and "recall" not in metrics and not score.get("baseline"):
        yield Sentence(f"{name}: of the union of true and predicted mask, {metrics['mask_iou']:.0%} is in both.")


def _describe_depth(name: str, score: dict[str, Any]) -> Iterator[Sentence]:
    metrics, ratio = _finite_metrics(score), score.get("scale_ratio_median")
    aligned = "" if score.get("alignment", "none") == "none" else ", after a fit to the truth"
    text = f"{name}: {metrics['d1']:.0%} of the pixels are within a quarter of the true depth{aligned}"
    if metrics["d1"] < USUAL_OF_MEAN:
        yield Sentence(f"{text}, about what a map of mean depths reaches without the image, or less.", "warn")
    else:
        yield Sentence(f"{text}.")
    if (
        score.get("claim") == wording.METRES
        and isinstance(ratio, int | float)
        and ratio > 0
        and abs(math.log(ratio)) > SIZE_TOLERANCE
    ):
        yield Sentence(
            f"{name}: sizes are wrong, true depth is {wording.number(float(ratio))} times the predicted (median).",
            "warn",
        )


def _describe_objects(name: str, score: dict[str, Any]) -> Iterator[Sentence]:
    """Describe recall and precision of objects: errors are measured on found objects only."""
    metrics = _finite_metrics(score)
    recall, objects = metrics.get("recall"), metrics.get("objects")
    if recall is None or objects is None or "rotation_error_deg_of_all" not in metrics:
        return
    text = f"{name}: {recall:.1%} of {objects:.0f} labeled objects were found"
    precision = metrics.get("precision")
    if precision is not None:
        text += f", and {precision:.1%} of what was found is one"
    if recall < LITTLE_FOUND:
        yield Sentence(
            f"{text}. Less than half is found, and the errors are of that alone: train longer, or on more data.", "warn"
        )
    elif precision is not None and precision < LITTLE_FOUND:
        yield Sentence(f"{text}: most of what it finds is no object.", "warn")
    else:
        yield Sentence(f"{text}.")


def _describe_path(run: RunFiles) -> Iterator[Sentence]:
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
        yield Sentence(f"{name}: the path is off by {share:.1%} of its length{fitted}.")


def _describe_residual(run: RunFiles) -> Iterator[Sentence]:
    """Compare the warp's residual at the last validation with that of not warping."""
    last = {series.name: series.values[-1] for series in run.series}
    own, unwarped = last.get("val/residual", math.nan), last.get("val/residual_unwarped", math.nan)
    if not (math.isfinite(own) and unwarped > 0):
        return
    explained = 1 - own / unwarped
    text = f"Depth and motion explain {max(explained, 0):.0%} of what changes between the images that validated"
    if explained <= EXPLAINED:
        yield Sentence(f"{text}, which networks reach that have hardly learnt.", "warn")
    else:
        yield Sentence(f"{text} (the residual of the warp beside that of the unwarped image).")
