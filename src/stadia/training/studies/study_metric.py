"""Choose the metric of a study, and check that its runs will have it."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from stadia.core.config import LOSS_METRICS, ValueChange
from stadia.core.errors import ConfigError, StadiaError
from stadia.core.registry import find_nearest_name
from stadia.data.config import SourceOptions
from stadia.data.open_dataset import OWN_FORMATS, detect_format, open_recordings
from stadia.data.splits import TargetFrames, keep_labeled
from stadia.io.input_files import expand_home
from stadia.metrics.statistics import Better
from stadia.report.run_files import metric_label
from stadia.training.recipes import CONFIGS, RECIPES

NOT_IN_RESIDUAL = (
    "loss.smoothness",
    "loss.smoothness_type",
    "loss.brightness",
    "loss.brightness_from_step",
    "loss.uncertainty_from_step",
    "loss.num_uncertainty_sizes",
    "loss.right_view",
    "loss.left_right_consistency",
)
"""Configuration keys of the loss that do not alter how the validation metric `val/residual` is computed."""


def changed_evaluation_keys(recipe: str, metric: str, changes: Sequence[ValueChange]) -> list[ValueChange]:
    """Return changed configuration keys that alter how a metric is measured, so that it cannot compare the runs.

    recipe: name of the recipe.
    metric: name of the metric.
    changes: configuration keys that a change sets, with their values.
    """
    keys = CONFIGS.load(recipe).evaluation_keys
    if metric.startswith(LOSS_METRICS):
        keys = (*keys, "loss")
    free = NOT_IN_RESIDUAL if metric.startswith("val/residual") else ()
    return [change for change in changes if change.is_within(keys) and not change.is_within(free)]


def choose_expected_metric(names: Sequence[str], config: Mapping[str, Any]) -> str:
    """Return the first of several metrics that a run will log. Metrics that need true depth are passed over without it.

    names: names of metrics; the last one is returned if no metric is expected.
    config: configuration of the run, which names its data.
    """
    return next((name for name in names if name not in DEPTH_METRICS or has_depth(config) is not False), names[-1])


def check_metric(recipe: str, metric: str) -> None:
    """Raise ConfigError for a metric that a recipe does not log; the message shows the nearest name.

    Only validation columns are checked: other columns and score files exist after a run.
    """
    known = [f"val/{name}" for name in CONFIGS.load(recipe).validation]
    if metric.startswith("val/"):
        name = metric.removeprefix("val/")
        columns = f"val/{name}", f"val/{name.partition('/')[2]}"  # each of several datasets has scores, val/NAME/...
        if not known or any(fnmatchcase(column, pattern) for column in columns for pattern in known):
            return
    elif "/" in metric or "." in metric:
        return
    near = find_nearest_name(metric if metric.startswith("val/") else f"val/{metric}", known)
    raise ConfigError(
        "metric",
        found=f"'{metric}', which the recipe '{recipe}' does not write",
        expected=f"a column of metrics.csv ({', '.join(known) or 'val/...'}), or SCOREFILE.metric",
        fix=f"did you mean '{near}'?" if near else "name one of these",
    )


DEPTH_METRICS = ("val/abs_rel", "val/rmse", "val/d1")
"""Validation metrics that are computed only if the data have true depth."""


def check_has_depth(metric: str, config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a metric of depth if the data have no depth."""
    if metric not in DEPTH_METRICS or has_depth(config) is not False:
        return
    found = f"'{metric}', but no ground-truth depth in {config['data']['path']}"
    fix = "set --metric val/residual, or pass data with depth"
    raise ConfigError("metric", found=found, expected="a metric that these data have", fix=fix)


def has_depth(config: Mapping[str, Any]) -> bool | None:
    """Return whether the data of a run have true depth; None if that is unknown before the training.

    config: configuration of the run.
    """
    data = config.get("data", {})
    if data.get("path") is None or data.get("extra_datasets"):
        return None
    options = {name: data[name] for name in SourceOptions.model_fields if name in data}
    try:
        name = detect_format(expand_home(data["path"]), data.get("format", "auto"))
        recordings = [] if name in OWN_FORMATS else open_recordings(data["path"], name, **{**options, "size": None})
    except StadiaError:
        return None
    labeled = keep_labeled([TargetFrames(recording, range(len(recording))) for recording in recordings])
    samples = ((part, {0, len(part.indices) // 2, len(part.indices) - 1}) for part in labeled)
    return any(part.recording.depth_m(part.indices[place]) is not None for part, places in samples for place in places)


def choose_metric(recipe: str, metric: str | None, better: str | None) -> tuple[tuple[str, ...], Better]:
    """Return the names of the metric, by default the recipe's best ones, and its better direction.

    The first name that a run has counts. Raises ConfigError if name or direction is unknown, or they contradict.
    """
    if metric is not None:
        check_metric(recipe, metric)
    names = RECIPES.load(recipe).best_metrics if metric is None else (metric,)
    if not names:
        found, fix = f"'{recipe}', which has no best metric", "set --metric, such as val/abs_rel"
        raise ConfigError("metric", found=found, expected="a metric", fix=fix)
    label = "lower" if metric is None else metric_label(metric).better  # the best metric of every recipe is an error
    valid = (label,) if label in ("lower", "higher") else ("lower", "higher")
    direction = better or label
    if direction not in valid:
        found = f"{better or 'nothing'} of '{names[0]}'"
        raise ConfigError("better", found=found, expected=" or ".join(valid), fix="set --better")
    return names, "lower" if direction == "lower" else "higher"
