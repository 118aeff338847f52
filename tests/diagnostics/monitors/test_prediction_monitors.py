"""Monitors of predictions and scores at the edge cases that the mutations leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.monitors.optimization_monitors import (
    ConstantTermMonitor,
    DataLoadingMonitor,
    LearningRateMonitor,
    WeightChangeMonitor,
)
from stadia.diagnostics.monitors.persistence import (
    FROM_STEP,
    ROWS,
    PersistentPartRule,
    PersistentRule,
    Rule,
    ValidationRule,
    rename_base_values,
)
from stadia.diagnostics.monitors.prediction_monitors import (
    GEOMETRY_RULES,
    DepthScaleMonitor,
    MotionScaleMonitor,
    ValidationWarpMonitor,
)
from stadia.diagnostics.monitors.score_monitors import (
    VALIDATION_RULES,
    MetricScaleMonitor,
    NanScoreMonitor,
    OverfittingMonitor,
    RotationMonitor,
)
from stadia.objectpose.metrics import ImageComparison, matched_scores, mean_average_precisions
from stadia.objectpose.recipe import mean_mask_iou

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


def test_motion_that_goes_backwards_before_it_is_learnt_is_let_be() -> None:
    """It has no direction yet."""
    for ratio, codes in ((0.98, {"S21"}), (0.5, {"P20"})):
        rows = [{"val/motion_along": -1.0, "val/warped_over_unwarped": ratio}] * 3
        assert {found.code for found in run_monitor(ValidationWarpMonitor(), rows, every=100)} == codes


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


def test_term_that_starts_at_zero_is_ignored() -> None:
    rows = [{"train/loss": 1.0 / (1 + n), "train/term/a": 1.0 / (1 + n), "train/term/b": 0.0} for n in range(3 * ROWS)]
    assert run_monitor(ConstantTermMonitor(), rows) == []
    found = run_monitor(ConstantTermMonitor(), [row | {"train/term/b": 0.5} for row in rows])
    assert (found[0].code, found[0].where) == ("L21", ("b",))
    still = [{"train/loss": 1.0, "train/term/a": 0.5, "train/term/b": 0.5}] * (3 * ROWS)
    assert run_monitor(ConstantTermMonitor(), still) == [], "T11 tells of a training that stands still"


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


def test_a_score_without_a_number_at_first_may_come() -> None:
    assert run_monitor(NanScoreMonitor(), [{"val/iou": math.nan}, {"val/iou": math.nan}, {"val/iou": 0.1}]) == []
    nothing = {"val/iou_3d": math.nan, "val/found": 0.0}
    assert run_monitor(NanScoreMonitor(), [{"val/iou_3d": 0.1, "val/found": 9.0}, *[nothing] * 3], every=100) == []
    nan = {"val/iou_3d": math.nan, "val/found": 1.0}
    assert len(run_monitor(NanScoreMonitor(), [{"val/iou_3d": 0.1, "val/found": 9.0}, nan], every=100)) == 1
    (found,) = run_monitor(NanScoreMonitor(), [{"val/iou": math.nan}] * 3, every=100)
    assert run_monitor(NanScoreMonitor(), [{"val/iou": math.nan}] * 9, every=3) == [], "an epoch of three steps"
    assert found.where == ("val/iou",)


def test_without_found_objects_other_scores_must_be_finite() -> None:
    nothing = {"val/found": 0.0, "val/objects": 5.0, "val/iou_3d": math.nan}
    (found,) = run_monitor(NanScoreMonitor(), [nothing | {"val/loss": math.nan}] * 3, every=100)
    assert (found.code, found.where) == ("T17", ("val/loss",))
    course = [{"val/found": 3.0, "val/mask_iou": 0.5}, nothing | {"val/mask_iou": math.nan}]
    (lost,) = run_monitor(NanScoreMonitor(), course, every=100)
    assert lost.where == ("val/mask_iou",), "it was finite before"


@pytest.mark.parametrize("objects", [0, 2])
def test_scores_without_objects_are_those_that_the_metrics_leave_without_a_value(objects: int) -> None:
    """Where no object is found, and where none is there: the monitor knows the names of both."""
    table, ones = np.zeros((0, objects)), np.ones(objects, int)
    image = ImageComparison(np.zeros(0, int), np.zeros(0), ones, table, table, table, table, table)
    scores = matched_scores([image]) | mean_average_precisions([image], [1]) | {"mask_iou": mean_mask_iou(image)}
    row = {f"val/{name}": value for name, value in scores.items()}
    assert (row["val/found"], row["val/objects"]) == (0, objects)
    assert any(math.isnan(value) for value in row.values())
    assert run_monitor(NanScoreMonitor(), [row] * 4, every=100) == []
    full = row | {"val/found": 1.0, "val/objects": 2.0}
    (found,) = run_monitor(NanScoreMonitor(), [full] * 3, every=100)
    assert set(found.where) == {name for name, value in row.items() if math.isnan(value)}


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
