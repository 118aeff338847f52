"""Judge a study: from the rows of results.jsonl to verdicts.json, with caveats. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from scipy import stats

from stadia.apps.studies.config import (
    BASE,
    DEPTH_METRICS,
    SAMPLE_KEYS,
    PlannedRun,
    StudyConfig,
    changed_evaluation_keys,
    changed_keys,
    has_depth,
)
from stadia.core.config import ValueChange
from stadia.core.errors import RunError
from stadia.metrics.statistics import MIN_SEEDS, Better, judge_changes
from stadia.recipes import CONFIGS

Row = Mapping[str, Any]

TIME_TOLERANCE = 0.05
"""Relative difference of training time within one budget."""
MAX_PACE_RATIO = 1.5
"""Ratio of update sizes above which a change also changes the effective learning rate."""


def judge_study(
    study: StudyConfig, better: Better, metric: str, runs: Sequence[PlannedRun], rows: Sequence[Row]
) -> dict[str, Any]:
    """Return the content of verdicts.json: the question, a verdict for each change, and notes.

    rows: of results.jsonl, one for each ended run: change, seed, status, error, value, steps, seconds, drift,
        learning_rate, update_ratio, provenance.

    Raises RunError if runs had different budgets.
    """
    check_budgets(study, rows)
    values: dict[str, dict[int, float]] = {change: {} for change in (BASE, *study.changes)}
    for row in rows:
        values[row["change"]][row["seed"]] = math.nan if row["value"] is None else row["value"]
    configs = {run.change: run.config for run in reversed(runs)}
    keys = {change: changed_keys(configs[BASE], configs[change]) for change in study.changes}
    remeasured = {
        name: notes for name in keys if (notes := evaluation_notes(study.recipe, metric, keys[name], configs[BASE]))
    }
    verdicts = judge_changes(
        values.pop(BASE),
        values,
        better=better,
        expected={name: change.expect for name, change in study.changes.items()},
        margin=study.margin,
        alpha=study.alpha,
        not_comparable=remeasured,
    )
    return _replace_nan(
        {
            "study": study.name,
            **study.model_dump(mode="json", include={"recipe", "at", "margin", "alpha", "seeds"}),
            "metric": metric,
            "better": better,
            "runs": len(rows),
            "planned": len(runs),
            "verdicts": [
                dataclasses.asdict(verdict)
                | {
                    "claim": study.changes[verdict.change].claim,
                    "keys": list(map(str, keys[verdict.change])),
                    "notes": remeasured.get(verdict.change, [])
                    + _change_notes(verdict.change, rows, keys[verdict.change]),
                }
                for verdict in verdicts
            ],
            "notes": _study_notes(better, metric, rows),
        }
    )


def evaluation_notes(recipe: str, metric: str, keys: Sequence[ValueChange], base: Mapping[str, Any]) -> list[str]:
    """Return a note if a change also alters how the metric is measured, with the metric that would decide.

    base: configuration of the base.
    """
    if not (moved := changed_evaluation_keys(recipe, metric, keys)):
        return []
    listed = "; ".join(map(str, moved))
    depth_metric, validation = DEPTH_METRICS[0], CONFIGS.load(recipe).validation
    is_fixed = depth_metric.removeprefix("val/") in validation and not changed_evaluation_keys(
        recipe, depth_metric, keys
    )
    truth = has_depth(base) if is_fixed else None
    decides = "Score both alike (stadia evaluate)."
    if is_fixed and truth is not False:
        where = "Ground-truth depth of these data" if truth else "Ground-truth depth, if the data have it,"
        decides = f"{where} decides: --metric {depth_metric}."
    elif is_fixed:
        decides = f"These data have no ground-truth depth ({depth_metric}) that would decide. {decides}"
    effect = f"{metric} of the same network would differ. {decides}"
    return [f"Measured otherwise than the base ({listed}): {effect}"]


def check_budgets(study: StudyConfig, rows: Sequence[Row]) -> None:
    """Raise RunError, with runs and keys, if finished runs had different budgets."""
    finished = [row for row in rows if row["status"] == "finished"]
    if not finished:
        return
    if study.budget == "samples":
        listed = f"training.max_steps, {', '.join(f'training.{name}' for name in SAMPLE_KEYS)}, or the data"
        key, share = "samples", 0.0
    else:
        key, listed, share = "seconds", "training.max_steps", TIME_TOLERANCE
    known = {(row["change"], row["seed"]): row[key] for row in finished if row.get(key) is not None}
    if not known:
        return
    usual = median([size for (change, _), size in known.items() if change == BASE] or known.values())
    if other := {run: size for run, size in known.items() if abs(size - usual) > share * usual}:
        each = ", ".join(f"{change} seed {seed}: {size:,.0f}" for (change, seed), size in list(other.items())[:6])
        raise RunError(
            f"study '{study.name}'",
            found=f"runs of different budgets ({key}: {each}; the others {usual:,.0f})",
            expected=f"equal {key} in all runs" + (f", within {share:.0%}" if share else ""),
            fix=f"make them equal by {listed}; nothing is judged otherwise",
        )


def _change_notes(change: str, rows: Sequence[Row], keys: Sequence[ValueChange]) -> list[str]:
    """Return the caveats of one change's verdict."""
    notes = []
    mine, base = ([row for row in rows if row["change"] == name] for name in (change, BASE))
    if len(keys) > 1:
        notes.append(f"{len(keys)} keys changed together: their effects are not separated.")
    for row in (row for row in (*mine, *base) if row["value"] is None):
        why = row["error"] or "its value is not finite"
        missing = f"{row['change']} seed {row['seed']} has no value ({row['status']}: {why})"
        notes.append(f"{missing}: nothing is decided while runs lack one.")
    paces = [[row["update_ratio"] for row in of if row.get("update_ratio")] for of in (mine, base)]
    if all(paces) and not any(key.is_within(["optimizer.lr"]) for key in keys):
        factor = median(paces[0]) / median(paces[1])
        if max(factor, 1 / factor) > MAX_PACE_RATIO:
            pace = f"Weights move {factor:.2g} times as far a step as in the base"
            notes.append(f"{pace}: it is a change of the effective learning rate, too.")
    return notes


def _study_notes(better: Better, metric: str, rows: Sequence[Row]) -> list[str]:
    """Return the caveats of the whole study."""
    notes = []
    for change in dict.fromkeys(row["change"] for row in rows):
        drifts = [row["drift"] for row in rows if row["change"] == change and row.get("drift") is not None]
        if len(drifts) < MIN_SEEDS:
            continue
        improving = [-drift if better == "lower" else drift for drift in drifts]
        if min(improving) == max(improving):
            continue
        if stats.ttest_1samp(improving, 0, alternative="greater").pvalue <= 0.05:
            gain = f"over its last fifth {metric} of '{change}' still improved by {fmean(improving):.1%}"
            notes.append(f"Not saturated: {gain}; longer training may reverse the order.")
    if not any(row.get("drift") is not None for row in rows):
        notes.append("Whether training was saturated is not known: fewer than three validations lie in the last fifth.")
    for what in ("code", "data", "packages", "platform"):
        kinds = dict.fromkeys(row["provenance"].get(what) for row in rows if row["provenance"].get(what) is not None)
        if len(kinds) > 1:
            found = f"{len(kinds)} kinds of {what} ({', '.join(map(str, kinds))})"
            notes.append(f"Runs differ in more than their change: {found}.")
    return notes


def _replace_nan(value: Any) -> Any:
    """Replace non-finite numbers by None for JSON."""
    if isinstance(value, dict):
        return {key: _replace_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
