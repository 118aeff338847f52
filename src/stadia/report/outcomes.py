"""The result of a run in one metric, as a row of a study."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from statistics import median
from typing import Any, Literal

import numpy as np

from stadia.core.errors import RunError
from stadia.core.registry import find_nearest_name
from stadia.report.metric_labels import is_finite
from stadia.report.quality_summary import LAST_SHARE
from stadia.report.run_files import RunFiles, Series, flatten_mapping


def make_result_row(
    run: RunFiles, metrics: Sequence[str], *, better: Literal["lower", "higher"], at: Literal["last", "best"]
) -> dict[str, Any]:
    """Return the row of a run in a study as JSON: status, result in the first metric that it has, and provenance.

    metrics: columns of metrics.csv, keys of result.json, or SCOREFILE.metric.

    `value` is None where it is not finite or was never logged, `step` is its step and `steps` the trained ones.
    `drift` is the relative change of the metric over the last fifth of the run. `seconds` are those of its steps,
    without validation. `learning_rate` is the largest, `update_ratio` the median.

    Raises RunError where it has finished and has none of the metrics.
    """
    series = {one.name: one for one in run.series}
    scores = {file: flatten_mapping(score.get("metrics", {})) for file, score in run.scores.items()}
    by_file = {f"{file}.{key}": value for file, flat in scores.items() for key, value in flat.items()}
    results = flatten_mapping(run.result) | by_file
    status, names = str(run.run.get("status")), [*series, *results]
    metric = next((name for name in metrics if name in names), None)
    if metric is None and status == "finished":
        raise _missing_metric(run, metrics[0], names)
    value, step = None, None
    if metric in series:
        value, step = _select_value(series[metric], better, at)
    elif is_finite(number := results.get(metric or "")):
        value = float(number)
    steps = max((one.steps[-1] for one in run.series), default=0)
    update_ratios = _list_finite(series.get("train/update_ratio"))
    return {
        "run": run.folder.name,
        "status": status,
        "error": run.run.get("error"),
        "metric": metric,
        "value": value if status == "finished" else None,  # a value from before the failure is no result
        "step": step,
        "steps": steps,
        "drift": _measure_drift(series[metric]) if metric in series else None,
        "seconds": _sum_step_seconds(series.get("time/step_s")),
        "learning_rate": max(_list_finite(series.get("train/lr")), default=None),
        "update_ratio": median(update_ratios) if update_ratios else None,
        "samples": _count_trained_samples(run, steps),
        "provenance": _describe_provenance(run),
    }


def _missing_metric(run: RunFiles, metric: str, names: Sequence[str]) -> RunError:
    near = find_nearest_name(metric, list(names))
    logged = [name for name in names if name.startswith("val/")] or names
    expected = f"one of {', '.join(logged[:12])}" if logged else "a metric, but the run logged none"
    fix = f"did you mean '{near}'?" if near else "see the columns of its metrics.csv"
    return RunError(f"metric '{metric}'", found=f"no such metric in {run.folder.name}", expected=expected, fix=fix)


def _select_value(series: Series, better: str, at: str) -> tuple[float | None, int | None]:
    """Return the last or the best value with its step."""
    finite = [(value, step) for step, value in zip(series.steps, series.values, strict=True) if math.isfinite(value)]
    if at == "last":
        return series.values[-1] if math.isfinite(series.values[-1]) else None, series.steps[-1]
    return (min(finite) if better == "lower" else max(finite)) if finite else (None, None)


def _measure_drift(series: Series) -> float | None:
    """Return the relative change of a linear fit over the last fifth of the steps; None for fewer than 3 values."""
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    late = (steps >= steps.max() - LAST_SHARE * steps.max()) & np.isfinite(values)
    if np.count_nonzero(late) < 3 or not np.abs(values[late]).mean():
        return None
    slope = float(np.polyfit(steps[late] - steps[late].mean(), values[late], 1)[0])
    return slope * float(np.ptp(steps[late])) / float(np.abs(values[late]).mean())


def _list_finite(series: Series | None) -> Sequence[float]:
    return [] if series is None else [value for value in series.values if math.isfinite(value)]


def _sum_step_seconds(steps: Series | None) -> float | None:
    """Return the seconds of the trained steps: each row of `time/step_s` is the mean since the row before."""
    if steps is None:
        return None
    seconds = np.nan_to_num(np.asarray(steps.values, float), nan=0.0, posinf=0.0)
    return float(seconds @ np.diff(steps.steps, prepend=0))


def _describe_provenance(run: RunFiles) -> dict[str, str]:
    """Return code, data, packages and platform of a run as short texts that can be compared."""
    code, environment, data = (run.run.get(key) or {} for key in ("code", "environment", "data"))
    packages = flatten_mapping(environment.get("packages", {}))
    changes = f"+{hashlib.sha256(run.patch.encode()).hexdigest()[:8]}" if run.patch else ""
    return {
        "code": f"{str(code.get('commit'))[:10]}{changes}",
        "data": str(data.get("fingerprint", "")),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "platform": str(environment.get("platform", "")),
    }


def _count_trained_samples(run: RunFiles, steps: int) -> int | None:
    """Return the number of trained samples; None where stages change the number a step."""
    training = run.config.get("training", {})
    factors = [training.get(key, 1) for key in ("batch_size", "grad_accumulation_steps", "devices")]
    if training.get("stages") or not all(isinstance(factor, int) for factor in factors):
        return None
    return steps * math.prod(factors)
