"""Compare a run with the previous one and read its result in one metric."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np

from stadia.core.config import ValueChange, diff_mappings, select_relevant_changes
from stadia.core.errors import RunError
from stadia.core.registry import find_nearest_name
from stadia.report import metric_labels
from stadia.report.convergence import LAST_SHARE
from stadia.report.run_files import RunFiles, Series

# -- Compare a run with the previous one: configuration, code, data, environment, and scores.

IDENTITY = ("code", "data", "version", "seed", "command")  # the parts of run.json that identify what was run


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

        Another seed is another draw of the same, and other paths may lead to the same data, whose fingerprint is
        compared.
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
    return RunChanges(
        before=before.folder.resolve().name,
        config=diff_mappings(before.config, now.config),
        code_and_data=diff_mappings(_flatten_identity(before), _flatten_identity(now)),
        environment=diff_mappings(
            flatten_mapping(before.run.get("environment", {})), flatten_mapping(now.run.get("environment", {}))
        ),
        outcome=[
            ValueChange(key, metric_labels.format_metric(key, old_result[key]), metric_labels.format_metric(key, value))
            for key, value in new_result.items()
            if key in old_result and metric_labels.metric_label(key).better != "neither"
        ],
    )


def _flatten_identity(run: RunFiles) -> dict[str, Any]:
    return flatten_mapping({key: run.run[key] for key in IDENTITY if key in run.run})


# -- Read the result of a run in one metric from its folder: for studies, journals and comparisons.

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class RunOutcome:
    """value: of the metric, None where it is not finite or was never logged.  step: of that value.  steps: that were
    trained.
    drift: by what share of its size the metric changed over the last fifth of the run (a straight line); None where
        fewer than three validations lie there.
    seconds: of its steps, without validation; None where unknown.  learning_rate: the largest.  update_ratio: the
        median.
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
    return RunOutcome(
        value=value,
        step=step,
        steps=max((one.steps[-1] for one in run.series), default=0),
        drift=measure_drift(series[metric]) if metric in series else None,
        seconds=_sum_step_seconds(series.get("time/step_s")),
        learning_rate=max(_finite_values(series.get("train/lr")), default=None),
        update_ratio=median(_finite_values(series.get("train/update_ratio")) or [math.nan])
        if _finite_values(series.get("train/update_ratio"))
        else None,
    )


def list_metrics(run: RunFiles) -> list[str]:
    """Return every metric name that `outcome` accepts for a run."""
    scored = [
        f"{file}.{key}" for file, score in run.scores.items() for key in flatten_mapping(score.get("metrics", {}))
    ]
    return [*(one.name for one in run.series), *flatten_mapping(run.result), *scored]


def check_metric(run: RunFiles, metric: str) -> None:
    """Raise RunError, with the nearest name, where a run has no such metric."""
    names = list_metrics(run)
    if metric not in names:
        near = find_nearest_name(metric, names)
        validated = [name for name in names if name.startswith("val/")]
        raise RunError(
            f"metric '{metric}'",
            found=f"none of it in {run.folder.name}",
            expected=f"one of {', '.join(validated[:12] or names[:12]) or 'what it logs, which is nothing'}",
            fix=f"did you mean '{near}'?" if near else "see the columns of its metrics.csv",
        )


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
        known = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
        if at == "last":
            return (values[-1], steps[-1]) if math.isfinite(values[-1]) else (None, steps[-1])
        return (min(known) if better == "lower" else max(known)) if known else (None, None)
    flat: dict[str, Any] = flatten_mapping(run.result)
    for file, score in run.scores.items():
        flat |= {f"{file}.{key}": value for key, value in flatten_mapping(score.get("metrics", {})).items()}
    value = flat.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None, None
    return float(value), None


def _finite_values(series: Series | None) -> Sequence[float]:
    return [] if series is None else [value for value in series.values if math.isfinite(value)]


def _sum_step_seconds(steps: Series | None) -> float | None:
    """Return the seconds of the trained steps: each row of `time/step_s` is the mean since the row before."""
    if steps is None or not steps.steps:
        return None
    known = np.nan_to_num(np.asarray(steps.values, float), nan=0.0, posinf=0.0)
    return float(known @ np.diff(steps.steps, prepend=0))


def make_result_row(
    run: RunFiles, metrics: Sequence[str], *, better: Better, at: Literal["last", "best"]
) -> dict[str, Any]:
    """Return what a study keeps of a run as JSON: status, result in the first metric that it has, and provenance.

    Raises RunError where it has finished and has none of them.
    """
    status = str(run.run.get("status"))
    known = list_metrics(run)
    metric = next((name for name in metrics if name in known), None)
    if metric is None and status == "finished":
        check_metric(run, metrics[0])
    found = read_outcome(run, metric or metrics[0], better=better, at=at)
    failed = status != "finished"  # what it came to before it failed is no result
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
    changes = f"+{hashlib.sha256(run.patch.encode()).hexdigest()[:8]}" if run.patch else ""
    return {
        "code": f"{str(code.get('commit'))[:10]}{changes}",
        "data": str(data.get("fingerprint", "")),
        "packages": ", ".join(
            f"{name} {version}" for name, version in flatten_mapping(environment.get("packages", {})).items()
        ),
        "platform": str(environment.get("platform", "")),
    }


def _count_trained_samples(run: RunFiles, steps: int) -> int | None:
    """Return the number of trained samples; None where stages change the number a step."""
    training = run.config.get("training", {})
    factors = [training.get(key, 1) for key in ("batch_size", "grad_accumulation_steps", "devices")]
    if training.get("stages") or not all(isinstance(factor, int) for factor in factors):
        return None
    return steps * math.prod(factors)
