"""Outcome of a run: differences from the previous run, convergence, and the result in one metric."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np

from stadia.core.config import ValueChange, diff_mappings, select_relevant_changes
from stadia.core.errors import RunError
from stadia.core.registry import find_nearest_name
from stadia.report.metric_labels import format_metric, is_finite, metric_label
from stadia.report.run_files import RunFiles, Series

LAST_SHARE, MIN_VALIDATIONS, MIN_STANDARD_ERRORS = 0.2, 5, 4.0
"""The evaluated last share of the steps, the number of values, and the standard errors of the slope of their logarithm
below 0. Of 200 series of noise at most two reach that (a test).
"""

MIN_TERM_CORRELATION, MIN_TERM_ROWS = 0.9999, 20
"""Correlation of two terms, and number of rows. Different terms that fall together stay below: each has its noise."""

IDENTITY = ("code", "data", "version", "seed", "command")
"""Keys of run.json that identify code, data and command."""

Better = Literal["lower", "higher"]


# -- Differences from the previous run: configuration, code, data, environment, and scores.


@dataclass(frozen=True)
class RunChanges:
    """The differences to the previous run in groups; `outcome` compares the scores of both."""

    before: str
    config: list[ValueChange]
    code_and_data: list[ValueChange]
    environment: list[ValueChange]
    outcome: list[ValueChange]

    @property
    def none(self) -> bool:
        return not (self.config or self.code_and_data or self.environment)

    @property
    def confounded(self) -> str:
        """Return a warning where scores are compared and more than one key changed; else "".

        Seeds and paths do not count: the fingerprint of the data is compared.
        """
        keys = [change.key for change in select_relevant_changes(self.config, ("seed", "data.path", "data.cache"))]
        if len(keys) < 2 or not self.outcome:
            return ""
        return f"{len(keys)} keys changed at once ({', '.join(keys)}): scores do not show the effect of any single one."


def flatten_mapping(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping to `dotted.key -> leaf`; lists are leaves."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= flatten_mapping(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat


def compare_runs(before: RunFiles, now: RunFiles) -> RunChanges:
    """Compare two runs."""
    old_result, new_result = flatten_mapping(before.result), flatten_mapping(now.result)
    old_environment, new_environment = (flatten_mapping(run.run.get("environment", {})) for run in (before, now))
    return RunChanges(
        before=before.folder.resolve().name,
        config=diff_mappings(before.config, now.config),
        code_and_data=diff_mappings(_flatten_identity(before), _flatten_identity(now)),
        environment=diff_mappings(old_environment, new_environment),
        outcome=[
            ValueChange(key, format_metric(key, old_result[key]), format_metric(key, value))
            for key, value in new_result.items()
            if key in old_result and metric_label(key).better != "neither"
        ],
    )


def _flatten_identity(run: RunFiles) -> dict[str, Any]:
    return flatten_mapping({key: run.run[key] for key in IDENTITY if key in run.run})


# -- Convergence: unfinished training, and identical terms of the loss.


def measure_late_decrease(series: Series) -> float | None:
    """Return the share by which an error fell over the last LAST_SHARE of the steps; None if not significant."""
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
    """Yield pairs of loss terms that are equal up to a factor and a constant: one term with another weight."""
    terms = [one for one in series if one.name.startswith("train/term/")]
    for first, second in itertools.combinations(terms, 2):
        if first.steps != second.steps or len(first.steps) < MIN_TERM_ROWS:
            continue
        both = np.array([first.values, second.values], float)
        if np.isfinite(both).all() and both.std(1).min() > 0 and abs(np.corrcoef(both)[0, 1]) > MIN_TERM_CORRELATION:
            yield first.name.removeprefix("train/term/"), second.name.removeprefix("train/term/")


# -- The result of a run in one metric, for studies, journals and comparisons.


@dataclass(frozen=True)
class RunOutcome:
    """The result of a run in one metric.

    value: None where it is not finite or was never logged.  step: of that value.  steps: trained steps.
    drift: relative change of the metric over the last fifth of the run, see `measure_drift`.
    seconds: of its steps, without validation.  learning_rate: the largest.  update_ratio: the median.
    """

    value: float | None
    step: int | None
    steps: int
    drift: float | None
    seconds: float | None
    learning_rate: float | None
    update_ratio: float | None


def read_outcome(
    run: RunFiles, metric: str, *, better: Better = "lower", at: Literal["last", "best"] = "last"
) -> RunOutcome:
    """Read the result of a run. metric: a column of metrics.csv, a key of result.json, or SCOREFILE.metric."""
    series = {one.name: one for one in run.series}
    value, step = _read_value(run, series, metric, better, at)
    update_ratios = _list_finite(series.get("train/update_ratio"))
    return RunOutcome(
        value=value,
        step=step,
        steps=max((one.steps[-1] for one in run.series), default=0),
        drift=measure_drift(series[metric]) if metric in series else None,
        seconds=_sum_step_seconds(series.get("time/step_s")),
        learning_rate=max(_list_finite(series.get("train/lr")), default=None),
        update_ratio=median(update_ratios) if update_ratios else None,
    )


def list_metrics(run: RunFiles) -> list[str]:
    """Return every metric name that `read_outcome` accepts for a run."""
    return [*(one.name for one in run.series), *flatten_mapping(run.result), *_flatten_scores(run)]


def _flatten_scores(run: RunFiles) -> dict[str, Any]:
    """Return the metrics of all score files by FILE.metric."""
    metrics = {file: flatten_mapping(score.get("metrics", {})) for file, score in run.scores.items()}
    return {f"{file}.{key}": value for file, flat in metrics.items() for key, value in flat.items()}


def check_metric(run: RunFiles, metric: str) -> None:
    """Raise RunError, with the nearest name, where a run has no such metric."""
    names = list_metrics(run)
    if metric not in names:
        near = find_nearest_name(metric, names)
        logged = [name for name in names if name.startswith("val/")] or names
        expected = f"one of {', '.join(logged[:12])}" if logged else "a metric, but the run logged none"
        fix = f"did you mean '{near}'?" if near else "see the columns of its metrics.csv"
        raise RunError(f"metric '{metric}'", found=f"no such metric in {run.folder.name}", expected=expected, fix=fix)


def measure_drift(series: Series) -> float | None:
    """Return the relative change of a linear fit over the last fifth of the steps; None for fewer than 3 values."""
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    late = (steps >= steps.max() - LAST_SHARE * steps.max()) & np.isfinite(values)
    if np.count_nonzero(late) < 3 or not np.abs(values[late]).mean():
        return None
    slope = float(np.polyfit(steps[late] - steps[late].mean(), values[late], 1)[0])
    return slope * float(np.ptp(steps[late])) / float(np.abs(values[late]).mean())


def _read_value(
    run: RunFiles, series: dict[str, Series], metric: str, better: Better, at: str
) -> tuple[float | None, int | None]:
    if metric in series:
        steps, values = series[metric].steps, series[metric].values
        finite = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
        if at == "last":
            return (values[-1], steps[-1]) if math.isfinite(values[-1]) else (None, steps[-1])
        return (min(finite) if better == "lower" else max(finite)) if finite else (None, None)
    value = (flatten_mapping(run.result) | _flatten_scores(run)).get(metric)
    return (float(value), None) if is_finite(value) and not isinstance(value, bool) else (None, None)


def _list_finite(series: Series | None) -> Sequence[float]:
    return [] if series is None else [value for value in series.values if math.isfinite(value)]


def _sum_step_seconds(steps: Series | None) -> float | None:
    """Return the seconds of the trained steps: each row of `time/step_s` is the mean since the row before."""
    if steps is None or not steps.steps:
        return None
    seconds = np.nan_to_num(np.asarray(steps.values, float), nan=0.0, posinf=0.0)
    return float(seconds @ np.diff(steps.steps, prepend=0))


def make_result_row(
    run: RunFiles, metrics: Sequence[str], *, better: Better, at: Literal["last", "best"]
) -> dict[str, Any]:
    """Return the row of a run in a study as JSON: status, result in the first metric that it has, and provenance.

    Raises RunError where it has finished and has none of the metrics.
    """
    status, names = str(run.run.get("status")), list_metrics(run)
    metric = next((name for name in metrics if name in names), None)
    if metric is None and status == "finished":
        check_metric(run, metrics[0])
    found = read_outcome(run, metric or metrics[0], better=better, at=at)
    failed = status != "finished"  # a value from before the failure is no result
    return {
        "run": run.folder.name,
        "status": status,
        "error": run.run.get("error"),
        "metric": metric,
        **dataclasses.asdict(found),
        "value": None if failed else found.value,
        "samples": _count_trained_samples(run, found.steps),
        "provenance": describe_provenance(run),
    }


def describe_provenance(run: RunFiles) -> dict[str, str]:
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
