"""Judge a study: from the rows of results.jsonl to verdicts.json. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from scipy import stats

from stadia.apps.studies.config import BASE, SAMPLE_KEYS, PlannedRun, StudyConfig, changed_keys
from stadia.apps.studies.study_metric import DEPTH_METRICS, changed_evaluation_keys, has_depth
from stadia.core.config import ValueChange
from stadia.core.errors import RunError
from stadia.files.json_files import replace_nan
from stadia.metrics.statistics import MIN_SEEDS, Better, judge_changes
from stadia.recipes import CONFIGS

Row = Mapping[str, Any]

TIME_TOLERANCE = 0.05
"""Largest relative difference of training times of one budget."""
MAX_PACE_RATIO = 1.5
"""A change whose updates differ by a larger factor also changes the effective learning rate."""


def judge_study(
    study: StudyConfig, better: Better, metric: str, runs: Sequence[PlannedRun], rows: Sequence[Row]
) -> dict[str, Any]:
    """Return the content of verdicts.json: the question, a verdict for each change, and notes.

    rows: of results.jsonl, one for each ended run, as of `report.study_report.make_result_row`.

    Raises RunError if runs had different budgets.
    """
    check_budgets(study, rows)
    values: dict[str, dict[int, float]] = {change: {} for change in (BASE, *study.changes)}
    for row in rows:
        values[row["change"]][row["seed"]] = math.nan if row["value"] is None else row["value"]
    configs = {run.change: run.config for run in reversed(runs)}
    keys = {change: changed_keys(configs[BASE], configs[change]) for change in study.changes}
    notes = {change: evaluation_notes(study.recipe, metric, keys[change], configs[BASE]) for change in study.changes}
    verdicts = judge_changes(
        values.pop(BASE),
        values,
        better=better,
        expected={name: change.expect for name, change in study.changes.items()},
        margin=study.margin,
        alpha=study.alpha,
        not_comparable=[change for change in notes if notes[change]],
    )
    described = [
        dataclasses.asdict(verdict)
        | {
            "claim": study.changes[verdict.change].claim,
            "keys": [str(key) for key in keys[verdict.change]],
            "notes": notes[verdict.change] + _change_notes(verdict.change, rows, keys[verdict.change]),
        }
        for verdict in verdicts
    ]
    return replace_nan(
        {
            "study": study.name,
            **study.model_dump(mode="json", include={"recipe", "at", "margin", "alpha", "seeds"}),
            "metric": metric,
            "better": better,
            "runs": len(rows),
            "planned": len(runs),
            "verdicts": described,
            "notes": _study_notes(better, metric, rows) + _describe_choices(study),
        }
    )


def evaluation_notes(recipe: str, metric: str, keys: Sequence[ValueChange], base: Mapping[str, Any]) -> list[str]:
    """Return a note if a change also alters how the metric is measured, with the metric that would decide."""
    altered = changed_evaluation_keys(recipe, metric, keys)
    if not altered:
        return []
    depth_metric, decides = DEPTH_METRICS[0], "Score both with `stadia evaluate`."
    is_validated = depth_metric.removeprefix("val/") in CONFIGS.load(recipe).validation
    if is_validated and not changed_evaluation_keys(recipe, depth_metric, keys):
        truth = has_depth(base)
        if truth is False:
            decides = f"These data have no ground-truth depth for {depth_metric}. {decides}"
        else:
            decides = f"Use --metric {depth_metric}{'' if truth else ', if the data have depth'}."
    return [f"The change alters {metric} itself ({'; '.join(map(str, altered))}). {decides}"]


def check_budgets(study: StudyConfig, rows: Sequence[Row]) -> None:
    """Raise RunError, with runs and keys, if finished runs had different budgets."""
    is_samples = study.budget == "samples"
    tolerance = 0.0 if is_samples else TIME_TOLERANCE
    finished = [row for row in rows if row["status"] == "finished" and row.get(study.budget) is not None]
    if not finished:
        return
    usual = median([row[study.budget] for row in finished if row["change"] == BASE] or [finished[0][study.budget]])
    unequal = [row for row in finished if abs(row[study.budget] - usual) > tolerance * usual]
    if unequal:
        listed = (f"{row['change']} seed {row['seed']}: {row[study.budget]:,.0f}" for row in unequal[:6])
        sample_keys = ", ".join(f"training.{name}" for name in SAMPLE_KEYS)
        keys = f"training.max_steps, {sample_keys}, or the data" if is_samples else "training.max_steps"
        raise RunError(
            f"study '{study.name}'",
            found=f"runs with different {study.budget} ({', '.join(listed)}; other runs {usual:,.0f})",
            expected=f"equal {study.budget} in all runs" + (f", within {tolerance:.0%}" if tolerance else ""),
            fix=f"change {keys}",
        )


def _change_notes(change: str, rows: Sequence[Row], keys: Sequence[ValueChange]) -> list[str]:
    notes = []
    changed, base = ([row for row in rows if row["change"] == name] for name in (change, BASE))
    if len(keys) > 1:
        notes.append(f"{len(keys)} keys changed together, so their effects are not separated.")
    for row in (*changed, *base):
        if row["value"] is None:
            cause = row["error"] or "its value is not finite"
            notes.append(f"No verdict: {row['change']} seed {row['seed']} has no value ({row['status']}: {cause}).")
    paces, base_paces = ([row["update_ratio"] for row in part if row.get("update_ratio")] for part in (changed, base))
    if paces and base_paces and not any(key.is_within(["optimizer.lr"]) for key in keys):
        factor = median(paces) / median(base_paces)
        if max(factor, 1 / factor) > MAX_PACE_RATIO:
            notes.append(f"Also changes the effective learning rate: its steps are {factor:.2g} times the base's.")
    return notes


def _study_notes(better: Better, metric: str, rows: Sequence[Row]) -> list[str]:
    notes = []
    for change in dict.fromkeys(row["change"] for row in rows):
        drifts = [row["drift"] for row in rows if row["change"] == change and row.get("drift") is not None]
        if len(drifts) < MIN_SEEDS:
            continue
        improving = [-drift if better == "lower" else drift for drift in drifts]
        if min(improving) == max(improving):
            continue
        if stats.ttest_1samp(improving, 0, alternative="greater").pvalue <= 0.05:
            gain = f"{metric} of '{change}' still improved by {fmean(improving):.1%} over the last fifth"
            notes.append(f"Not saturated: {gain}. Longer training may reverse the order.")
    if not any(row.get("drift") is not None for row in rows):
        notes.append("Saturation is unknown: the last fifth has fewer than three validations.")
    for part in ("code", "data", "packages", "platform"):
        kinds = dict.fromkeys(row["provenance"].get(part) for row in rows if row["provenance"].get(part) is not None)
        if len(kinds) > 1:
            listed = ", ".join(map(str, kinds))
            notes.append(f"Runs also differ in {part}: {listed}.")
    return notes


def _describe_choices(study: StudyConfig) -> list[str]:
    choices = "; ".join(study.post_hoc_choices)
    late = f"Chosen after seeing results: {choices}. p and intervals hold only for earlier choices."
    return [late] if choices else []
