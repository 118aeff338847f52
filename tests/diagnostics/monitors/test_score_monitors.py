"""C11, C12 and T12 at the edge cases that the mutations leave out."""

from __future__ import annotations

import math

from stadia.diagnostics.monitors.score_monitors import FrozenScoresMonitor, RmseMonitor, ScoreRangeMonitor
from stadia.overlay.metrics import compute_overlay_scores


def test_rmse_is_compared_with_the_mse() -> None:
    """Correct for sums, reported for a mean of roots; values that are not finite have another code."""
    sums = {"depth_pixels": 4.0, "mse": 100.0, **dict.fromkeys(("abs_rel", "mae", "log10", "d1", "d2", "d3"), 1.0)}
    other = sums | {"mse": 1.0}
    right = compute_overlay_scores([{**image_sums, "mask_pixels": 0.0} for image_sums in (sums, other)] + [MASK])
    row = {f"val/{name}": value for name, value in right.items()}
    assert RmseMonitor().on_row(5, row) is None
    assert RmseMonitor().on_row(5, {**row, "val/mse": math.inf}) is None
    wrong = RmseMonitor().on_row(5, {**row, "val/rmse": (5 + 0.5) / 2})
    assert wrong is not None
    assert wrong.code == "C11"


MASK = dict.fromkeys(("mask_both", "mask_predicted", "mask_true", "mask_absolute", "mask_surprise"), 1.0) | {
    "mask_pixels": 4.0,
    **dict.fromkeys(("boundary_predicted", "boundary_true", "boundary_predicted_near", "boundary_true_near"), 1.0),
}


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


def test_a_precision_of_nothing_detected_is_in_no_range_and_infinity_is_outside() -> None:
    monitor = ScoreRangeMonitor()
    assert monitor.on_row(1, {"val/precision": math.nan, "val/recall": 0.0}) is None
    found = monitor.on_row(2, {"val/precision": math.inf, "val/recall": math.nan})
    assert found is not None
    assert found.measured == "at step 2 the validation has precision inf"
