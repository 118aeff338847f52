"""Monitors of predictions and scores at the edge cases that the mutations leave out."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.mutations import output_logs, training_logs
from tests.mutations.mutation import MutationCase
from tests.mutations.training_logs import LogRows

import stadia
from stadia.judge.depth.training_rules import GEOMETRY_RULES, Rule, rename_base_values
from stadia.judge.finding import Finding
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.networks.depth.unet import LOG_UNCERTAINTY_RANGE
from stadia.training.monitors.optimization_monitors import (
    VALIDATION_RULES,
    DataLoadingMonitor,
    FrozenScoresMonitor,
    LearningRateMonitor,
    MetricScaleMonitor,
    OverfittingMonitor,
    RotationMonitor,
    WeightChangeMonitor,
)
from stadia.training.monitors.persistence import FROM_STEP, ROWS, PersistentPartRule, PersistentRule, ValidationRule
from stadia.training.monitors.training_monitor import (
    LOG_SIGMA_BOUNDS,
    ConstantUncertaintyMonitor,
    DepthScaleMonitor,
    MotionScaleMonitor,
    UncertaintyBoundsMonitor,
    UncertaintyOnlyMonitor,
)
from stadia.training.recipes import CONFIGS
from stadia.training.recipes.metric.recipe import MetricRecipe

RULE = Rule("P22", "motion/over_depth", lambda v: v > 1, "motion is {:.2g} times the depth", "at most 1")


def run_monitor(monitor, rows: Sequence[Mapping[str, float]], first: int = FROM_STEP, every: int = 10) -> list[Finding]:
    outputs = [monitor.on_row(first + every * number, row) for number, row in enumerate(rows)]
    return [finding for finding in outputs if finding is not None]


def test_each_part_is_counted_by_itself_and_named() -> None:
    """Neither source is bad for ROWS rows in a row; then one is, under a recipe that adds to another's losses."""
    turns = [
        {"train/motion/over_depth/+1": 2.0 if n % 2 else 0.1, "train/motion/over_depth/-1": 0.1 if n % 2 else 2.0}
        for n in range(3 * ROWS)
    ]
    assert run_monitor(PersistentPartRule(RULE), turns) == []
    row = {"train/selfsup/motion/over_depth/-1": 2.0, "train/selfsup/motion/over_depth/+1": 0.1}
    added = [rename_base_values(row, "selfsup")] * ROWS
    (found,) = run_monitor(PersistentPartRule(RULE), added)
    assert (found.code, found.where) == ("P22", ("-1",))
    assert run_monitor(PersistentPartRule(RULE), added, first=FROM_STEP - 10) == [], "a start is anything"
    assert run_monitor(PersistentPartRule(RULE), added, every=1) == [], "rows of every step are a batch each"


def test_what_comes_right_by_itself_is_let_be() -> None:
    comes = ({"val/abs_rel": 0.9 * 0.85**n, "val/abs_rel_scaled": 0.2} for n in range(6))
    assert run_monitor(MetricScaleMonitor(), list(comes), every=100) == []
    stays = [{"val/abs_rel": 0.9, "val/abs_rel_scaled": 0.2}] * 2
    assert run_monitor(MetricScaleMonitor(), stays, every=100)[0].code == "H19"
    nears = [{"val/motion_slope/tz": slope, "val/motion_correlation/tz": 0.95} for slope in (0.2, 0.3, 0.45, 0.6, 0.8)]
    assert run_monitor(MotionScaleMonitor(), nears, every=100) == []
    assert run_monitor(MotionScaleMonitor(), nears[:1] * 2, every=100)[0].code == "P25"
    mirrored = [{"val/motion_slope/tz": -0.5, "val/motion_correlation/tz": 0.95}] * 2
    assert run_monitor(MotionScaleMonitor(), mirrored, every=100)[0].code == "P25"
    (check_masks_of,) = (rule for rule in VALIDATION_RULES if rule.name == "mask_iou")
    assert (
        run_monitor(ValidationRule(check_masks_of), [{"val/mask_iou": 0.001 * 2**n} for n in range(6)], every=100) == []
    )


def test_a_warm_up_is_a_start() -> None:
    """However long it is: nothing of it counts, nor is depth compared with what it was then."""
    rises = [
        {"train/lr": 1e-6 * n, "train/warped_over_unwarped": 1.0, "train/depth/median": 12.0}
        for n in range(1, 5 * ROWS)
    ]
    holds = [{"train/lr": 1e-4, "train/warped_over_unwarped": 0.8, "train/depth/median": 1.5}] * (3 * ROWS)
    (of_the_warp,) = (rule for rule in GEOMETRY_RULES if rule.code == "S20")
    assert run_monitor(PersistentRule(of_the_warp), rises + holds) == []
    assert run_monitor(PersistentRule(of_the_warp), [row | {"train/lr": 1e-4} for row in rises])[0].code == "S20"
    assert run_monitor(DepthScaleMonitor(), rises + holds) == []
    assert run_monitor(DepthScaleMonitor(), [row | {"train/lr": 1e-4} for row in rises] + holds)[0].code == "M23"


def validations(
    losses: Sequence[float], score: str, errors: Sequence[float], term: str = "loss"
) -> list[dict[str, float]]:
    return [
        row
        for loss, error in zip(losses, errors, strict=True)
        for row in ({f"train/{term}": loss}, {f"val/{score}": error})
    ]


def test_a_worse_validation_is_overfitting_only_while_the_training_fits_better() -> None:
    worse = (0.1, 0.11, 0.12, 0.13)
    (found,) = run_monitor(OverfittingMonitor(), validations((4, 3, 2, 1), "residual", worse))
    assert (found.code, found.evidence["course"]["val/residual"]) == ("T13", list(worse))
    assert run_monitor(OverfittingMonitor(), validations((1, 2, 3, 4), "residual", worse)) == []
    assert run_monitor(OverfittingMonitor(), validations((4, 3, 2, 1), "residual", (0.1, 0.101, 0.102, 0.103))) == [], (
        "3 % are noise"
    )
    assert (
        run_monitor(
            RotationMonitor(), validations((4, 3, 2, 1), "rotation_error_deg", (math.nan,) * 4, "term/rotation")
        )
        == []
    )


def test_slow_loading_is_reported_when_it_persists() -> None:
    assert run_monitor(LearningRateMonitor(), [{"train/lr": 1e-3}] + [{"train/lr": 0.0}] * 50) == [], (
        "T09 tells of a rate of 0"
    )
    assert (
        run_monitor(
            WeightChangeMonitor(),
            [{"train/lr": 1e-3, "train/update_ratio": 1e-3}] + [{"train/lr": 1e-7, "train/update_ratio": 1e-9}] * 50,
        )
        == []
    )
    waits = {"time/loading_s": 0.9, "time/step_s": 1.0}
    assert run_monitor(DataLoadingMonitor(), [waits] * ROWS, first=0) == [], "the first steps fill a cache"
    assert run_monitor(DataLoadingMonitor(), [*[waits] * (ROWS - 1), waits | {"time/loading_s": 0.1}] * 2) == []


def test_a_validation_that_stands_still_is_found() -> None:
    """Perfect scores may repeat, and rows of training do not count."""
    moved = {"val/rmse": 4.0, "val/mse": 16.0, "val/mask_iou": 0.5}
    monitor = FrozenScoresMonitor()
    assert monitor.on_row(1, moved) is None
    assert monitor.on_row(2, {"train/loss": 1.0}) is None
    assert monitor.on_row(3, {**moved, "val/mask_iou": 0.50001}) is None
    again = monitor.on_row(4, {**moved, "val/mask_iou": 0.50001})
    assert again is not None
    assert again.code == "C12"
    perfect = FrozenScoresMonitor()
    assert [perfect.on_row(step, dict.fromkeys(moved, 1.0)) for step in (1, 2)] == [None, None]


def test_uncertainty_bounds_are_those_of_the_network() -> None:
    assert LOG_SIGMA_BOUNDS == LOG_UNCERTAINTY_RANGE
    for monitor in (ConstantUncertaintyMonitor(), UncertaintyOnlyMonitor(), UncertaintyBoundsMonitor()):
        assert monitor.on_row(10, {"val/residual": 0.1}) is None
        assert monitor.on_row(10, {"train/warped_over_unwarped": 0.9}) is None


CASES = (*training_logs.ROWS, *output_logs.ROWS)

LOOP_VALUES = {"train/loss", "train/lr", "train/gradient_norm", "train/update_ratio"}
"""Logged by the training loop itself, so under one name whatever the loss."""

LOGGING_PACKAGES = ("losses", "training", "evaluation", "metrics", "objectpose", "overlay")


def combined_name(name: str) -> str:
    """Return the name of a value of `selfsup` in the recipe `metric`, as `combine_losses` makes it."""
    group, _, value = name.partition("/")
    if group != "train" or value.startswith("metric/") or name in LOOP_VALUES:
        return name
    zero, term = torch.zeros(()), value.removeprefix("term/")
    report = LossReport(zero, {term: zero}, {}, logged={value: zero})
    combined = combine_losses({MetricRecipe.base_recipe: (1.0, report)})
    return f"train/term/{next(iter(combined.terms))}" if term != value else f"train/{next(iter(combined.logged))}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_monitors_read_the_values_of_a_combined_loss(
    case: MutationCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that is named in `selfsup` is also named in a recipe that adds losses to it."""
    run_monitors, names = training_logs.run_monitors, set[str]()

    def run_combined(folder: Path, course: LogRows = (), losses: Iterable[float] = ()) -> list[Finding]:
        names.update(*(row for _, row in course))
        rows = [(step, {combined_name(name): value for name, value in row.items()}) for step, row in course]
        return run_monitors(folder, rows, losses, MetricRecipe.base_recipe)

    monkeypatch.setattr(training_logs, "run_monitors", run_combined)
    found = case.broken(tmp_path)
    if not any(name.startswith("train/weight/") for name in names):  # of `overlay`, whose loss is not combined
        assert found[:1], "no finding"
        assert found[0].code in case.codes


def test_recipes_log_every_monitored_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the mutations hold what monitors read: each name is one that the code logs or a recipe declares."""
    names: set[str] = set()

    def collect(folder: Path, course: LogRows = (), losses: Iterable[float] = ()) -> list[Any]:
        names.update(*(row for _, row in course))
        return []

    monkeypatch.setattr(training_logs, "run_monitors", collect)
    for case in CASES:
        case.broken(tmp_path)
    declared = [f"val/{pattern}" for name in CONFIGS for pattern in CONFIGS.load(name).validation]
    declared += [name.replace("val/", "val/?/", 1) for name in declared]  # of one of several data sets
    root = Path(stadia.__file__).parent
    source = "".join(path.read_text() for package in LOGGING_PACKAGES for path in root.glob(f"{package}/**/*.py"))
    logged = set(re.findall(r"""["']([a-z0-9_/]+?)/?["'{]""", source))
    unknown = {name for name in names if not any(fnmatch(name, pattern) for pattern in declared)}
    assert {name for name in unknown if not possible_literals(name) & logged} == set()


def possible_literals(name: str) -> set[str]:
    """Return the strings by which code may log a name: whole, and without the source, scale or number at its end."""
    value = re.sub(r"^(train|time|gradient|speed)/(term/)?", "", name.removesuffix("_s"))
    groups = {name.rpartition("/")[0], value.rpartition("/")[0]}
    return {name, value, value.removeprefix("metric/"), value.rstrip("0123456789"), *groups} - {"", "train", "val"}
